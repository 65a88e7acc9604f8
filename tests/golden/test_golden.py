"""What earlier versions wrote still opens, means the same, and can be gone on with.

``format1`` and ``format2`` hold what the last versions that wrote journals of those formats made, and in ``said.json``
what they made of that themselves; see ``make.py``.
"""

from __future__ import annotations

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest

from autoexp import events as ev
from autoexp.alignments import Alignments
from autoexp.campaigns.verification import verify
from autoexp.engine import Engine
from autoexp.export import export_csv
from autoexp.limits import SiteLimits
from autoexp.plan import ELECTRONS_PER_PICOAMPERE_SECOND, Plan
from autoexp.report import write_report
from autoexp.runlog import EVENTS, RunReader, read_events
from autoexp.state import fold
from autoexp.testing import DirectInstrument
from autoexp.unfinished import close_unfinished
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.optics import Optics

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "format1"
FORMATS = ("format1", "format2")
SAID = {
    f"{form}/{name}": said
    for form in FORMATS
    for name, said in json.loads((HERE / form / "said.json").read_text(encoding="utf-8")).items()
}
CURRENT_PA = 50.0
AWAY = {"CAperture.y": 0.03, "CAperture.x": -0.035}
OPERATOR = {f"{form}/steered": 1 for form in FORMATS}
"""Points that somebody asked for."""


@pytest.fixture
def folder(request, tmp_path):
    """A run of old, in a folder where it may be written to."""
    return pathlib.Path(shutil.copytree(HERE / request.param, tmp_path / request.param))


def said_of(folder):
    """What the version that made a run said of it."""
    return SAID[f"{folder.parent.name}/{folder.name}"]


@pytest.fixture
def same_kind(plasmonic):
    """An instrument as the runs were made on; the beam is as it was found."""
    microscope = VirtualMicroscope(plasmonic, optics=Optics.hidden(3), time_scale=1000)
    microscope.controls.update(AWAY)
    return DirectInstrument(microscope)


def resume(folder, instrument, locks):
    site = SiteLimits.read(GOLDEN / "limits.json")
    engine = Engine(None, instrument, folder, lock_folder=locks, beam_current_pA=CURRENT_PA, site=site)
    engine.run()
    assert engine.error is None
    return engine.state


def electrons(exposure_s):
    return exposure_s * CURRENT_PA * ELECTRONS_PER_PICOAMPERE_SECOND


def cuts():
    """Each run, cut off after the last event of each type that is not its end."""
    for name in SAID:
        records, _ = read_events(HERE / name)
        last = {r.event.type: r.seq for r in records if not isinstance(r.event, ev.Finished)}
        ended = any(isinstance(r.event, ev.Finished) for r in records)
        for kind, seq in last.items():
            if not ended or seq < len(records) - 2:
                yield pytest.param(name, seq, id=f"{name}-{kind}")


def everything(names):
    return pytest.mark.parametrize("folder", names, indirect=True)


@everything(SAID)
def test_a_run_of_old_means_what_it_meant(folder):
    said, reader = said_of(folder), RunReader(folder)
    state = fold(reader.records)
    assert reader.damaged_bytes == 0
    assert state.dose_e == said["dose_e"]
    assert (state.finished.ending if state.finished else None) == said["ending"]
    assert [p.value for p in state.scored] == said["values"]
    assert [p.second for p in state.scored] == said["seconds"]
    assert state.best().id == said["best"]
    assert state.snapshot == said["snapshot"]
    counted = state.seq + 1, state.exposures, len(state.measured), len(state.looks), len(state.alignments)
    assert counted == tuple(said[name] for name in ("events", "exposures", "measured", "looks", "alignments"))
    assert (state.elapsed_s, state.undone) == (said["elapsed_s"], said["undone"])
    assert len(state.warnings) == said["warnings"]


@everything(SAID)
def test_its_spectra_and_arrays_are_those_that_were_scored(folder):
    reader = RunReader(folder)
    state = fold(reader.records)
    spectra = reader.spectra()[[p.record for p in state.measured]]
    scorer, opened = state.settings.scalarizer, state.spectra
    inside = (opened.energy >= scorer.low_eV) & (opened.energy <= scorer.high_eV)
    then = spectra[:, inside].sum(axis=1, dtype=float)  # whole channels; now their parts in the window count
    np.testing.assert_allclose(then, [p.value for p in state.measured], rtol=1e-5)
    now = scorer.score(spectra, opened.energy, opened.counts_per_electron).value
    np.testing.assert_allclose(now, then, rtol=2 / inside.sum())
    assert reader.array(state.prepared.overview).shape == state.prepared.shape
    for predicted in reader.events(ev.Predicted):
        assert reader.array(predicted.array).shape == (2, state.prepared.candidates)


@everything(SAID)
def test_it_is_reported_and_exported(folder):
    said = said_of(folder)
    text = write_report(folder).read_text(encoding="utf-8")
    assert folder.name in text
    assert (said["ending"] or "unfinished") in text.lower()
    table, _spectra = export_csv(folder, spectra=True)
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows if row["value"]] == pytest.approx(said["values"], rel=1e-9)


@everything(SAID)
def test_its_decisions_are_made_again(folder):
    found = verify(folder)
    assert found.differences == ()
    assert found.operator == OPERATOR.get(f"{folder.parent.name}/{folder.name}", 0)
    assert found.decisions + found.operator == said_of(folder)["exposures"]


@everything(["format1/unfinished"])
def test_an_unfinished_run_goes_on_and_pays_for_what_was_in_flight(folder, same_kind, locks):
    state = resume(folder, same_kind, locks)
    assert state.finished.ending == "completed"
    assert state.exposures == SAID["format1/unfinished"]["points"]
    assert state.dose_e == pytest.approx(SAID["format1/finished"]["dose_e"])  # the same plan, from beginning to end
    assert RunReader(folder).records[: SAID["format1/unfinished"]["events"]] == RunReader(GOLDEN / "unfinished").records


@everything(["format1/unfinished"])
def test_an_unfinished_run_that_is_closed_pays_for_what_was_in_flight(folder):
    """That journal does not say what the exposure was to cost: the others tell."""
    close_unfinished(folder, "discarded")
    state = RunReader(folder).state
    assert state.finished.ending == "discarded"
    spectrum_e = electrons(state.plan.spectrum.exposure_s)
    assert state.dose_e == pytest.approx(SAID["format1/unfinished"]["dose_e"] + spectrum_e)


@pytest.mark.parametrize(("name", "seq"), list(cuts()))
def test_wherever_it_was_cut_off_it_is_resumed_to_its_end(name, seq, tmp_path, same_kind, locks):
    folder = pathlib.Path(shutil.copytree(HERE / name, tmp_path / "run"))
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    torn = lines[seq + 1][:20] if seq + 1 < len(lines) else b""
    (folder / EVENTS).write_bytes(b"".join(lines[: seq + 1]) + torn)
    before = fold(RunReader(folder).records)
    if before.prepared is None:
        (folder / "overview.npy").unlink()
    state = resume(folder, same_kind, locks)
    assert state.finished.ending == "completed"
    assert state.exposures == SAID[name]["points"]
    spectrum_e = electrons(state.plan.spectrum.exposure_s)
    assert all(p.dose_e == pytest.approx(spectrum_e) for p in state.points.values() if p.exposed)
    overview_e = electrons(state.plan.overview.time_s)
    assert state.dose_e >= (state.exposures * spectrum_e + overview_e) * (1 - 1e-9)
    assert state.dose_e >= before.dose_e
    assert RunReader(folder).records[: seq + 1] == before_records(name, seq)


def before_records(name, seq):
    return read_events(HERE / name)[0][: seq + 1]


@pytest.mark.parametrize("path", sorted((GOLDEN / "plans").glob("*.json")), ids=lambda path: path.stem)
def test_a_plan_of_old_asks_for_the_same(path):
    written = json.loads(path.read_text(encoding="utf-8"))
    read = json.loads(Plan.read(path).to_json())
    assert kept(written, read) == written


def kept(written, read):
    """What ``read`` says of that which ``written`` holds; a later version may know more fields."""
    if isinstance(written, dict) and isinstance(read, dict):
        return {name: kept(value, read.get(name)) for name, value in written.items()}
    return read


def test_limits_of_old_allow_the_same():
    written = json.loads((GOLDEN / "limits.json").read_text(encoding="utf-8"))
    assert kept(written, json.loads(SiteLimits.read(GOLDEN / "limits.json").model_dump_json())) == written


def alignments_of(runs, instrument, tmp_path):
    site = SiteLimits.read(GOLDEN / "limits.json")
    return Alignments(instrument, site, runs, holder="a test", lock_folder=tmp_path / "locks")


def test_a_journal_of_alignments_of_old_holds_nothing_to_undo(tmp_path, same_kind):
    runs = pathlib.Path(shutil.copytree(GOLDEN / "beam", tmp_path / "beam"))
    (day,) = runs.glob("alignments/*/*")
    ended = [e.success for e in RunReader(day).events(ev.Aligned)]
    assert ended == [True, True]
    assert not alignments_of(runs, same_kind, tmp_path).recover()


def test_an_alignment_of_old_that_was_cut_off_is_taken_back(tmp_path, same_kind):
    runs = pathlib.Path(shutil.copytree(GOLDEN / "beam", tmp_path / "beam"))
    (log,) = runs.glob(f"alignments/*/*/{EVENTS}")
    records = RunReader(log.parent).records
    cut = [r.seq for r in records if isinstance(r.event, ev.Moving)][-1]
    found = next(r.event for r in reversed(records[:cut]) if isinstance(r.event, ev.Snapshot)).controls
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[: cut + 1]))
    for record in records[: cut + 1]:
        if isinstance(record.event, ev.Moving):
            same_kind.set(record.event.name, record.event.value)
    made = alignments_of(runs, same_kind, tmp_path)
    assert made.recover()
    made.undo()
    assert {n: same_kind.get(n) for n in found} == pytest.approx(found)


def test_a_policy_of_old_decides_the_same():
    pytest.importorskip("safetensors", reason="policies are kept as safetensors")
    from autoexp.training.deployed import Trained
    from autoexp.training.policies import Policy

    policy = Policy.load(GOLDEN / "policy")
    assert policy.act([[0.5, -0.5, 0, 0, 0]]) == pytest.approx(np.tanh([[-0.018301, 0.068301]]), abs=1e-4)
    assert Trained(policy).reaches_px > 0
