"""The report of a run: one file that stands by itself, for runs of every kind and every ending."""

from __future__ import annotations

import datetime
import logging
import os
import pathlib
from collections.abc import Callable

import numpy as np

from autoexp import __version__
from autoexp.agent import Evidence
from autoexp.errors import MissingDependencyError
from autoexp.export.strange import only_ours, why
from autoexp.plan import AgentSpec, DeepKernelAgent, ListAgent
from autoexp.report import figures, html
from autoexp.report.facts import Facts, gather
from autoexp.report.truth import Truth, quality_of, score_of, truth_of, visited
from autoexp.state import Point

TOP_POINTS = 12
MAX_NOTES = 1000
"""Lines of history; those after them are in the journal."""
log = logging.getLogger(__name__)
COMPROMISES = "Each point is a spectrum; those on the line are the best compromises: none is better in both values."
ENDINGS = {
    "completed": "completed",
    "stopped": "stopped by the operator",
    "aborted": "aborted by the operator",
    "halted": "halted by the operator",
    "faulted": "ended by a fault",
    "discarded": "discarded",
}


def write_report(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Write ``report.html`` into a run's folder; an older one is replaced in one step.

    Raises:
        RunLogError: there is no run.
        ExportError: the report cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    with only_ours("The report"):
        facts = gather(pathlib.Path(folder))
        return html.save(facts.folder / "report.html", render(facts, truth_of(facts)))


def render(facts: Facts, truth: Truth | None) -> str:
    """The page of a run; ``truth`` is None where nobody knows it.

    What cannot be drawn or told, because the run holds strange numbers, is a sentence in its place.
    """
    parts = [
        _or_why("The title", _header, facts),
        _or_why("The summary", _tiles, facts, truth),
        *(html.alert(problem) for problem in facts.problems),
        _trouble(facts),
        html.section("What was asked", _or_why("What was asked", lambda: html.facts(_asked(facts)))),
        html.section(
            "Where it measured", _or_why("The overview", _where, facts), _or_why("The detail", _detail, facts)
        ),
        html.section(
            "What it found",
            _or_why("What was found", _found, facts, truth),
            _unscored(facts),
            html.row(
                _or_why("The learning curve", _learning, facts, truth),
                _or_why("The share of the best", _recall, facts, truth),
            ),
            html.paragraph(truth.how if truth else ""),
        ),
        html.section("Best spectrum", _or_why("The best spectrum", lambda: html.figure(figures.best_spectrum(facts)))),
        html.section(
            "What the model believes",
            _or_why("The prediction", _maps, facts, truth),
            html.row(
                _or_why("What was foreseen", _foresight, facts),
                _or_why("The quality of the map", _quality, facts, truth),
            ),
        ),
        html.section("Two values", _or_why("The compromises", _compromises, facts)),
        html.section("Best points", _or_why("The table of points", _points_table, facts, truth)),
        html.section("Time and dose", _or_why("The time", _time, facts), _or_why("The dose", _dose, facts)),
        html.section("Steering, warnings and failures", _or_why("The history", _history, facts)),
        html.section("Made with", _or_why("The software", lambda: html.facts(_software(facts)))),
        html.footer(f"Written by nionswift-autoexp {__version__} from the run's log, {facts.folder.name}."),
    ]
    return html.page(f"{facts.state.run_id or facts.folder.name}: report", "\n".join(part for part in parts if part))


def _or_why(what: str, make: Callable[..., str], *given: object) -> str:
    """A part of the page; where it cannot be made, a sentence that says why, and the rest of the page is made."""
    try:
        return make(*given)
    except MissingDependencyError:
        raise
    except Exception as error:  # matplotlib and numpy may raise anything when numbers are strange enough
        log.warning("%s cannot be shown", what, exc_info=True)
        return html.alert(f"{what} cannot be shown, with what this run holds {why(error)}.")


def _header(facts: Facts) -> str:
    name = facts.plan.name if facts.plan else facts.folder.name
    badge = '<span class="badge">SIMULATED</span>' if facts.simulated else ""
    finished = facts.state.finished
    ending = ENDINGS.get(finished.ending, finished.ending) if finished else "not finished"
    instrument = facts.started.instrument.get("name", "") if facts.started else ""
    line = " · ".join(part for part in (facts.folder.name, instrument, _when(facts.began)) if part)
    return (
        f"<header><h1>{html.text(name)}{badge}<span class='badge plain'>{html.text(ending)}</span></h1>"
        f"<p>{html.text(line)}</p></header>"
    )


def _when(utc: str) -> str:
    try:
        return datetime.datetime.fromisoformat(utc).strftime("%d %B %Y, %H:%M:%S %Z")
    except ValueError:
        return utc


def _tiles(facts: Facts, truth: Truth | None) -> str:
    state, ranked = facts.state, facts.ranked()
    score = score_of(facts, truth) if truth else None
    pairs = [(f"{len(state.measured)}", f"spectra of {state.settings.budget.points if state.settings else 0} allowed")]
    if ranked:
        best = f"{facts.units}, the best value (point {ranked[0].id + 1})".removeprefix(", ")
        pairs.append((html.number(ranked[0].value, digits=3), best))
    if score:
        pairs.append((html.percent(score.share_of_best), "of the way from the typical to the best place"))
        pairs.append((html.percent(score.recall), f"of the best 1 % found ({score.top} places)"))
    if state.prepared and state.prepared.candidates:
        pairs.append((html.percent(len(state.measured) / state.prepared.candidates), "of the candidates measured"))
    pairs.append((html.seconds(facts.time.total_s), "in all"))
    if state.dose_e:
        pairs.append((html.number(state.dose_e, digits=3), "electrons into the specimen"))
    return html.tiles(pairs)


def _trouble(facts: Facts) -> str:
    finished = facts.state.finished
    if finished is None:
        return html.alert("This run has not ended; it may be going on, or it was interrupted and can be resumed.")
    if finished.ending in ("completed", "stopped"):
        return ""
    return html.alert(f"The run was {ENDINGS.get(finished.ending, finished.ending)}: {finished.reason}")


def _asked(facts: Facts) -> list[tuple[str, object]]:
    plan, settings = facts.plan, facts.state.settings
    if plan is None or settings is None:
        return []
    budget = settings.budget
    limits = [f"{budget.points} points"]
    limits += [html.seconds(budget.time_s)] if budget.time_s is not None else []
    limits += [f"{html.plain(budget.dose_e, 3)} electrons"] if budget.dose_e is not None else []
    overview, patches = plan.overview, plan.patches
    asked: list[tuple[str, object]] = [
        ("Look for", f"{settings.scalarizer.describe()}; the {_extreme(facts)} value counts"),
        ("And for", settings.second.describe() if settings.second else ""),
        ("Decided by", agent_in_words(settings.agent)),
        ("Budget", ", ".join(limits)),
        (
            "Overview",
            f"{overview.fov_nm:g} nm, {overview.pixels} × {overview.pixels} px, {overview.dwell_us:g} µs a pixel",
        ),
        ("Candidates", f"{plan.candidates():,}: patches of {patches.pixels} px, one every {patches.stride} px"),
        ("Each spectrum", f"{plan.spectrum.exposure_s * 1000:g} ms, binning {plan.spectrum.binning}"),
        ("Drift", f"looked for every {plan.drift.every} spectra, {_drift(facts)}" if plan.drift else ""),
        ("Beam", _beam(facts)),
        ("Seed", plan.seed),
    ]
    return [(name, value) for name, value in asked if value != ""]


def _beam(facts: Facts) -> str:
    """How often the beam was aligned, and how well, in words; empty where it was not to be."""
    state = facts.state
    good = [found for found in state.alignments if found.success]
    if state.plan is None or state.plan.align is None:
        return ""
    if not good:
        return "not aligned"
    times = "once" if len(good) == 1 else f"{len(good)} times"
    frames = " and ".join(str(found.frames) for found in good)
    last = state.disk.residual_px if state.disk else None
    away = f"; seen last {last:.2g} px from its goal" if last is not None else ""
    return f"aligned {times}, in {frames} frames{away}"


def _drift(facts: Facts) -> str:
    """How far the specimen has moved, in words."""
    state = facts.state
    if not any(look.certain for look in state.looks):
        return "and not seen"
    shift, _ = state.shifts()
    away_nm = state.prepared.to_nm(shift) if state.prepared else None
    if away_nm is None:
        return f"{100 * float(np.hypot(*shift)):.2g} % of the field in all"
    return f"{float(np.hypot(*away_nm)):.3g} nm in all"


def agent_in_words(agent: AgentSpec) -> str:
    """Who decides, in words."""
    if isinstance(agent, DeepKernelAgent):
        parameters = agent.acquisition.model_dump(exclude={"kind"})
        shown = "".join(f" ({name.replace('_', ' ')}: {_short(value)})" for name, value in parameters.items())
        how = f"{agent.acquisition.kind.replace('-', ' ')}{shown}"
        return f"deep kernel learning, {how}, after {agent.seeds} space-filling points"
    if isinstance(agent, ListAgent):
        return f"a given list of {len(agent.positions)} positions"
    return {"grid": "an even raster", "random": "chance", "features": "features of the overview"}.get(
        agent.kind, agent.kind
    )


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _extreme(facts: Facts) -> str:
    return "highest" if facts.goal == "maximize" else "lowest"


def _where(facts: Facts) -> str:
    return html.figure(
        figures.overview(facts),
        "Points are numbered in the order in which they were decided; the ring marks the best, a cross an exposure "
        "that gave nothing usable. Numbers that would cover others are left out.",
    )


def _detail(facts: Facts) -> str:
    return html.figure(figures.detail(facts))


def _found(facts: Facts, truth: Truth | None) -> str:
    if truth is None:
        return ""
    score = score_of(facts, truth)
    return html.paragraph(
        f"The best place that it measured lies {html.percent(score.share_of_best)} of the way from a typical place to "
        f"the best place there is. Of the {score.top} places that make up the best 1 %, it measured "
        f"{html.percent(score.recall)}."
    )


def _learning(facts: Facts, truth: Truth | None) -> str:
    return html.figure(figures.learning_curve(facts, truth), _curve_caption(truth))


def _recall(facts: Facts, truth: Truth | None) -> str:
    return html.figure(figures.recall_curve(facts, truth, visited(facts) if truth else []))


def _unscored(facts: Facts) -> str:
    count = len(facts.state.measured) - len(facts.ranked())
    if not count:
        return ""
    return html.paragraph(f"Unscored: {count} spectra gave no number with this scalarizer. They are kept all the same.")


def _curve_caption(truth: Truth | None) -> str:
    if truth is None:
        return "Measured values. What other policies would have found is not known: there is no ground truth."
    seeds = len(truth.random.runs)
    return (
        f"True values at the measured places; the baselines are replayed on the same truth, random with {seeds} seeds."
    )


def _maps(facts: Facts, truth: Truth | None) -> str:
    return html.figure(figures.maps(facts, truth), _maps_caption(facts))


def _maps_caption(facts: Facts) -> str:
    if not facts.maps:
        return ""
    last = facts.maps[-1]
    covered = last.coverage
    known = f" Leave-one-out coverage of its 90 % interval: {html.percent(covered)}." if covered is not None else ""
    return f"The model after {last.after} points; the dots are the measured ones.{known}{_based_on(last.evidence)}"


def _based_on(evidence: Evidence | None) -> str:
    """What a map rests on, and what the measured points say of the kernels that were considered."""
    if evidence is None:
        return ""
    said = ", ".join(f"{name} {html.percent(share)}" for name, share in evidence.ranked)
    less = ", ".join(f"{name} by {nats:.2f} nats a point less well" for name, nats in evidence.behind.items())
    return f" Its variance is that of {said}. Of points not seen, {evidence.preferred} gave the best account, {less}."


def _foresight(facts: Facts) -> str:
    inside, count = figures.foresight_coverage(facts)
    return html.figure(
        figures.foresight(facts), f"Bars span the 90 % interval; {inside} of {count} points fell into it."
    )


def _compromises(facts: Facts) -> str:
    return html.figure(figures.compromises(facts), COMPROMISES)


def _quality(facts: Facts, truth: Truth | None) -> str:
    svg = figures.map_quality(facts, truth)
    quality = quality_of(facts, truth, facts.maps[-1]) if truth and facts.maps else None
    if not svg or quality is None:
        return ""
    return html.figure(
        svg,
        f"On the candidates that were not measured, at the end: error {quality.error:.2f} of the spread of the truth; "
        f"{html.percent(quality.coverage)} of new measurements would fall into the 90 % interval.",
    )


def _points_table(facts: Facts, truth: Truth | None) -> str:
    heads = ["Point", "y, x (px)", "y, x (nm)", f"Value ± noise ({facts.units})".replace(" ()", "")]
    heads += ["True value"] if truth else []
    heads += ["Why it was chosen"]
    rows = []
    for point in facts.ranked()[:TOP_POINTS]:
        cells = [str(point.id + 1), _pair(facts.place_px(point)), _pair(facts.place_nm(point)), _value(point)]
        cells += [html.number(truth.points.get(point.id))] if truth else []
        decided = facts.state.settings.agent.kind if facts.state.settings else ""
        by = "" if point.agent in (decided, "operator") else f" ({point.agent})"
        rows.append([*cells, html.text(f"{point.reason}{by}")])
    return html.table(heads, rows, numeric=range(len(heads) - 1))


def _pair(place: tuple[float, float] | None) -> str:
    return "–" if place is None else ", ".join(f"{x:.1f}" if abs(x) < 1e7 else html.plain(x) for x in place)


def _value(point: Point) -> str:
    return f"{html.number(point.value)} ± {html.number(point.noise, digits=2)}" if np.isfinite(point.value) else "–"


def _time(facts: Facts) -> str:
    time = facts.time
    shares = [
        ("exposing spectra", time.exposing_s, "var(--blue)"),
        ("waiting for decisions", time.waiting_s, "var(--orange)"),
        ("overhead: parking the probe, reading out, writing", time.overhead_s, "var(--green)"),
        ("preparing, overview included", time.preparing_s, "var(--purple)"),
        ("paused", time.paused_s, "var(--muted)"),
    ]
    whole = sum(spent for _, spent, _ in shares)
    if not whole:
        return ""
    bar = "".join(f'<i style="width:{100 * s / whole:.2f}%;background:{c}"></i>' for _, s, c in shares if s > 0)
    rows = [
        [
            f'<span class="key" style="background:{color}"></span>{html.text(name)}',
            html.seconds(spent),
            html.percent(spent / whole, 1),
        ]
        for name, spent, color in shares
    ]
    return f'<div class="share">{bar}</div>' + html.table(["Where the time went", "", ""], rows, numeric=(1, 2))


def _dose(facts: Facts) -> str:
    return html.facts(_electrons(facts)) + html.paragraph(_standing(facts.state.stood_s))


def _electrons(facts: Facts) -> list[tuple[str, object]]:
    state = facts.state
    if not state.dose_e:
        return [("Dose", "not known: the instrument does not tell its beam current")] if state.measured else []
    points = [p.dose_e for p in state.points.values() if p.dose_e]
    overview = state.prepared.dose_e if state.prepared else 0.0
    return [
        ("Dose in all", f"{html.plain(state.dose_e, 3)} electrons"),
        ("Overview", f"{html.plain(overview, 3)} electrons"),
        (
            "Each spectrum",
            f"{html.plain(float(np.median(points)), 3)} electrons, {len(points)} exposures" if points else "",
        ),
    ]


def _standing(stood_s: float) -> str:
    """How long the beam stood on the specimen without an exposure; empty where it did not, or nobody knows."""
    if not stood_s:
        return ""
    return f"The beam stood on the specimen for {html.seconds(stood_s)} between exposures."


def _history(facts: Facts) -> str:
    rows = [[html.seconds(n.elapsed_s), html.text(n.kind), html.text(n.text)] for n in facts.notes[:MAX_NOTES]]
    if not rows:
        return (
            html.paragraph("Nobody steered, nothing was warned of, and nothing failed.") if facts.state.points else ""
        )
    more = len(facts.notes) - len(rows)
    return html.table(["When", "What", ""], rows, numeric=(0,)) + html.paragraph(
        f"And {more:,} more, which are in the journal." if more else ""
    )


def _software(facts: Facts) -> list[tuple[str, object]]:
    if facts.started is None:
        return []
    instrument = facts.started.instrument
    devices = ", ".join(str(instrument[key]) for key in ("scan", "camera") if instrument.get(key))
    name = f"{instrument.get('name', '')}{' (SIMULATED)' if facts.simulated else ''}"
    return [("Instrument", name), ("Devices", devices), *facts.started.software.items()]
