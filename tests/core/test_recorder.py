"""What the recorder promises of a journal: only what makes sense is written, and what no longer does is named."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import plan, run
from journals import small_run

from autoexp import events as ev
from autoexp.agent import Prediction
from autoexp.errors import RunLogError
from autoexp.recorder import Recorder
from autoexp.runlog import EVENTS, SPECTRA, RunReader
from autoexp.scalarizers import Window


@pytest.fixture
def recorder(tmp_path):
    made = Recorder(small_run(tmp_path / "run"))
    yield made
    made.close()


IMPOSSIBLE = {
    "a point that was never decided": [ev.Exposing(id=99, exposure_s=0.1, dose_e=1.0)],
    "a point out of its turn": [ev.Decided(id=99, candidate=1, position=(0.5, 0.5), reason="x", agent="x", known=0)],
    "a second beginning": [ev.Started(run_id="x", plan=plan(), software={}, instrument={})],
    "a second stream": [
        ev.SpectraOpened(file=SPECTRA, channels=3, offset=0, scale=1, units="eV", counts_per_electron=1)
    ],
    "a second end": [ev.Finished(ending="stopped", reason="")],
    "something good before it": [ev.Warned(message="x"), ev.Finished(ending="stopped", reason="")],
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_makes_no_sense_is_refused_and_not_written(what, recorder):
    before, state = (recorder.folder / EVENTS).read_bytes(), recorder.state
    with pytest.raises(RunLogError):
        recorder.append(*IMPOSSIBLE[what])
    assert (recorder.folder / EVENTS).read_bytes() == before
    assert recorder.state is state
    recorder.append(ev.Warned(message="it goes on"))
    assert RunReader(recorder.folder).state.warnings[-1] == "it goes on"


def damage(folder, record, channels):
    data = bytearray((folder / SPECTRA).read_bytes())
    data[4 * channels * record + 1] ^= 0x10
    (folder / SPECTRA).write_bytes(data)


def test_damaged_spectra_are_named_once(recorder):
    recorder.name_damaged()
    warned = len(recorder.state.warnings)
    channels = recorder.state.spectra.channels
    damage(recorder.folder, recorder.state.measured[1].record, channels)
    recorder.name_damaged()
    recorder.name_damaged()
    assert len(recorder.state.warnings) == warned + 1
    assert str(recorder.state.measured[1].id + 1) in recorder.state.warnings[-1]
    damage(recorder.folder, recorder.state.measured[2].record, channels)
    recorder.name_damaged()
    assert len(recorder.state.warnings) == warned + 2


def cut_after(folder, engine, point):
    """As a crash after so many points leaves a run."""
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    last = next(r.seq for r in engine.records if isinstance(r.event, ev.Measured) and r.event.id == point)
    (folder / EVENTS).write_bytes(b"".join(lines[: last + 1]))


def test_a_run_that_is_resumed_over_a_damaged_spectrum_says_so_and_goes_on(instrument, tmp_path, locks):
    folder = tmp_path / "run"
    engine = run(plan(), instrument, folder, locks)
    cut_after(folder, engine, 2)
    damage(folder, 1, engine.state.spectra.channels)
    resumed = run(None, instrument, folder, locks)
    assert resumed.status.ending == "completed"
    assert [w for w in resumed.state.warnings if "as they were measured: 2." in w]
    assert [p.id for p in RunReader(folder).checked(resumed.state.measured).damaged] == [1]


def test_spectra_that_cannot_be_read_are_read_again_before_that_is_believed(recorder, monkeypatch):
    from autoexp import recorder as module

    own, failures = module.checked_spectra, [1, 1]

    def flaky(*given):
        if failures:
            failures.pop()
            raise RunLogError("Input/output error")
        return own(*given)

    monkeypatch.setattr(module, "checked_spectra", flaky)
    recorder.append(ev.Steered(command=ev.SetScalarizer(scalarizer=Window(low_eV=0.5, high_eV=1.0))))
    recorder.rescore()
    assert not recorder.score_hung
    assert np.isfinite([p.value for p in recorder.state.measured]).all()
    failures += [1] * 3
    recorder.rescore()
    assert "cannot be read" in recorder.state.warnings[-1]
    assert "Input/output error" in recorder.score_hung
    assert np.isnan([p.value for p in recorder.state.measured]).all()


def test_a_prediction_replaces_none_that_was_saved_before(recorder):
    rng, told = np.random.default_rng(0), []
    for after in (10, 20, 10, 10, 20, 4):
        told.append(rng.random((2, 49)).astype(np.float32))
        recorder.prediction(Prediction(*told[-1].astype(float), after=after))
    reader = RunReader(recorder.folder)
    saved = [reader.array(event.array) for event in reader.events(ev.Predicted)][-len(told) :]
    for array, as_told in zip(saved, told, strict=True):
        np.testing.assert_array_equal(array, as_told)
