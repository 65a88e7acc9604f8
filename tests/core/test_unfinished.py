"""Runs that were cut off, ended without an instrument."""

from __future__ import annotations

import pytest
from helpers import plan, run

from autoexp import events as ev
from autoexp.plan import ELECTRONS_PER_PICOAMPERE_SECOND
from autoexp.runlog import EVENTS, RunReader
from autoexp.state import fold
from autoexp.unfinished import close_unfinished, find_unfinished


@pytest.fixture
def make_cut_off(instrument, tmp_path, locks):
    """Makes a run whose log ends with the exposure of a point, as after a kill."""

    def make(point):
        folder = tmp_path / "run"
        run(plan(), instrument, folder, locks)
        kept = []
        for line, record in zip(
            (folder / EVENTS).read_bytes().splitlines(keepends=True), RunReader(folder).records, strict=True
        ):
            kept.append(line)
            if isinstance(record.event, ev.Exposing) and record.event.id == point:
                break
        (folder / EVENTS).write_bytes(b"".join(kept))
        return folder

    return make


@pytest.mark.parametrize("point", [0, 2])
def test_closing_accounts_for_an_exposure_of_unknown_outcome(make_cut_off, tmp_path, point):
    folder = make_cut_off(point)
    (found,) = find_unfinished(tmp_path)
    assert (found.points, found.unknown) == (point, 1)
    before = fold(RunReader(folder).records)
    close_unfinished(folder, "discarded")
    state = fold(RunReader(folder).records)
    assert state.finished.ending == "discarded"
    one = 50.0 * ELECTRONS_PER_PICOAMPERE_SECOND * state.plan.spectrum.exposure_s
    assert state.dose_e - before.dose_e == pytest.approx(one)
    assert state.dose_e == pytest.approx(state.prepared.dose_e + (point + 1) * one)
    assert find_unfinished(tmp_path) == []
