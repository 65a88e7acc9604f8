"""Recorded spectrum images as specimens, from every kind of file that is read."""

from __future__ import annotations

import datetime
import inspect
import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_specimens import quick

from virtual_stem.geometry import ScanGeometry
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen
from virtual_stem.specimens.files import Axis
from virtual_stem.specimens.recorded import RecordedSpecimen

SPECTRA = np.random.default_rng(0).poisson(200.0, (6, 5, 40)).astype(np.float32)
IMAGE = np.random.default_rng(1).poisson(900.0, (12, 10)).astype(np.float32)
ENERGY = 700.0 + 8.0 * np.arange(40)


def specimen(**changes):
    return RecordedSpecimen(**{"spectra": SPECTRA, "energy": Axis(700.0, 8.0, "eV"), "image": IMAGE, **changes})


def centres(shape, field_nm):
    return ScanGeometry(field_nm).pixel_centres(shape).reshape(-1, 2)


class TestSpecimen:
    def test_at_the_centre_of_a_pixel_it_is_what_was_recorded(self):
        found = specimen().spectra(centres((6, 5), (6.0, 5.0)), ENERGY) * 8.0
        assert np.array_equal(found, SPECTRA.reshape(30, 40))
        assert np.array_equal(specimen().haadf(centres((12, 10), (6.0, 5.0))), IMAGE.ravel())

    @quick
    @given(st.floats(-2.4, 2.4), st.floats(-1.9, 1.9))
    def test_in_between_it_lies_between_its_neighbours(self, y, x):
        found = specimen().spectra(np.array([[y, x]]), ENERGY)[0] * 8.0
        row, column = int(np.floor(y + 2.5)), int(np.floor(x + 2.0))
        near = SPECTRA[row : row + 2, column : column + 2].reshape(-1, 40)
        assert (found >= near.min(axis=0) - 1e-6).all()
        assert (found <= near.max(axis=0) + 1e-6).all()

    def test_beyond_the_border_the_border_goes_on(self):
        found = specimen().spectra(np.array([[-50.0, -50.0]]), ENERGY)[0] * 8.0
        assert np.array_equal(found, SPECTRA[0, 0])

    def test_a_shifted_axis_moves_the_spectrum_and_nothing_lies_beyond_its_ends(self):
        found = specimen().spectra(np.array([[-2.5, -2.0]]), ENERGY + 8.0)[0] * 8.0
        assert found[:-1] == pytest.approx(SPECTRA[0, 0, 1:])
        assert found[-1] == 0

    def test_without_an_overview_the_sums_stand_in(self):
        alone = specimen(image=None)
        assert alone.haadf(centres((6, 5), (6.0, 5.0))) == pytest.approx(SPECTRA.sum(axis=2).ravel())

    @pytest.mark.parametrize(
        "changes",
        [{"spectra": SPECTRA[0]}, {"spectra": SPECTRA[:1]}, {"energy": Axis(700.0, -8.0, "eV")}],
        ids=["two dimensions", "one row", "falling energy"],
    )
    def test_what_is_no_spectrum_image_is_refused(self, changes):
        with pytest.raises(ValueError, match=r"positions and an energy|must rise"):
            specimen(**changes)


class TestMicroscope:
    def test_nothing_is_added_to_what_was_recorded(self):
        microscope = VirtualMicroscope(specimen())
        for exposure_s in (0.01, 1.0):
            frame = microscope.spectrum_frame(np.array([-2.5, -2.0]), exposure_s, (256, 40))
            assert frame.sum(axis=0) == pytest.approx(SPECTRA[0, 0], rel=1e-6)
        assert np.array_equal(microscope.scan(ScanGeometry((6.0, 5.0)), (12, 10), 1e-6), IMAGE)

    def test_binning_sums_channels(self):
        frame = VirtualMicroscope(specimen()).spectrum_frame(np.array([-2.5, -2.0]), 0.1, (16, 10))
        assert frame.sum(axis=0) == pytest.approx(SPECTRA[0, 0].reshape(10, 4).sum(axis=1), rel=1e-6)

    def test_its_truth_is_what_is_measured(self):
        truth = VirtualMicroscope(specimen()).expected_counts([[-2.5, -2.0]], 0.3)
        assert truth[0] == pytest.approx(SPECTRA[0, 0])

    def test_a_blanked_beam_shows_nothing(self):
        microscope = VirtualMicroscope(specimen())
        microscope.controls["C_Blank"] = 1.0
        assert not microscope.spectrum_frame(np.zeros(2), 0.1, (16, 40)).any()
        assert not microscope.scan(ScanGeometry((6.0, 5.0)), (12, 10), 1e-6).any()


def write_npz(path, **changes):
    arrays = {"spectra": SPECTRA, "energy_eV": ENERGY, "image": IMAGE, "pixel_nm": 2.5, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def write_hspy(folder):
    hs = pytest.importorskip("hyperspy.api", reason="HyperSpy is not installed; `pip install hyperspy` brings it")
    hs.set_log_level("ERROR")
    for name, signal, axes in (
        ("si", hs.signals.Signal1D(SPECTRA), 3),
        ("haadf", hs.signals.Signal2D(IMAGE), 2),
    ):
        for k, axis in enumerate(signal.axes_manager._axes):
            energy = k == 2
            axis.scale, axis.offset, axis.units = (
                (8.0, 700.0, "eV") if energy else (2.5 if axes == 3 else 1.25, 0, "nm")
            )
        signal.save(folder / f"{name}.hspy", overwrite=True)


def write_swift(folder, suffix):
    from nion.data import Calibration, DataAndMetadata
    from nion.swift.model import DataItem, HDF5Handler, NDataHandler

    handlers = {".ndata": NDataHandler.NDataHandler, ".h5": HDF5Handler.HDF5Handler}
    spectra = DataAndMetadata.new_data_and_metadata(
        SPECTRA,
        dimensional_calibrations=[
            Calibration.Calibration(0, 2.5e-3, "µm"),
            Calibration.Calibration(0, 2.5e-3, "µm"),
            Calibration.Calibration(700, 8, "eV"),
        ],
        data_descriptor=DataAndMetadata.DataDescriptor(False, 2, 1),
    )
    for name, xdata in (("si", spectra), ("haadf", DataAndMetadata.new_data_and_metadata(IMAGE))):
        item = DataItem.new_data_item(xdata)
        handler = handlers[suffix](folder / f"{name}{suffix}")
        array, when = np.asarray(item.data), datetime.datetime(2024, 1, 1)
        newer = "data_descriptor" in inspect.signature(handler.write_data).parameters
        handler.write_data(array, *([xdata.data_descriptor] if newer else []), when)
        handler.write_properties(item.write_to_dict(), when)
        handler.close()
        item.close()


WRITERS = {
    ".npz": lambda folder: write_npz(folder / "si.npz"),
    ".hspy": write_hspy,
    ".ndata": lambda folder: write_swift(folder, ".ndata"),
    ".h5": lambda folder: write_swift(folder, ".h5"),
}


class TestFiles:
    @pytest.mark.filterwarnings("ignore")  # of HyperSpy's own imports
    @pytest.mark.parametrize("suffix", sorted(WRITERS))
    def test_a_file_and_its_folder_with_the_overview(self, tmp_path, suffix):
        WRITERS[suffix](tmp_path)
        alone, together = make_specimen(str(tmp_path / f"si{suffix}")), make_specimen(str(tmp_path))
        for found in (alone, together):
            assert found.recorded
            assert found.field_nm == pytest.approx((15.0, 12.5))
            assert (found.axis.offset_eV, found.axis.dispersion_eV, found.axis.channels) == (700.0, 8.0, 40)
            assert np.array_equal(found.spectra(centres((6, 5), found.field_nm), ENERGY) * 8, SPECTRA.reshape(30, 40))
        assert np.array_equal(together.haadf(centres((12, 10), together.field_nm)), IMAGE.ravel())
        assert f"si{suffix}" in alone.title

    def test_the_size_of_a_pixel_is_a_nanometre_unless_the_file_says_otherwise(self, tmp_path):
        assert make_specimen(str(write_npz(tmp_path / "a.npz", pixel_nm=None))).field_nm == (6.0, 5.0)

    @pytest.mark.parametrize(
        ("what", "changes", "says"),
        [
            ("no spectra", {"spectra": None}, "no spectra"),
            ("no energies", {"energy_eV": None}, "no energy_eV"),
            ("too few energies", {"energy_eV": ENERGY[:-1]}, "39"),
            ("falling energies", {"energy_eV": ENERGY[::-1]}, "do not rise"),
            ("a voltage loop", {"energy_eV": np.sin(np.arange(40.0))}, "do not rise"),
            ("complex numbers", {"spectra": SPECTRA.astype(complex)}, "complex"),
            ("objects", {"spectra": SPECTRA.astype(object)}, "allow_pickle"),
        ],
    )
    def test_an_npz_that_cannot_be_used_says_why(self, tmp_path, what, changes, says):
        with pytest.raises(ValueError, match=says):
            make_specimen(str(write_npz(tmp_path / "bad.npz", **changes)))

    @pytest.mark.parametrize("suffix", [".npz", ".hspy", ".ndata", ".h5"])
    @pytest.mark.parametrize("content", [b"", b"not what it says", b"PK\x03\x04 broken"], ids=["empty", "text", "zip"])
    def test_a_broken_file_is_refused_by_name(self, tmp_path, suffix, content):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"broken{suffix} cannot be read"):
            make_specimen(str(path))

    def test_nothing_is_unpickled(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (tmp_path / "sprung").touch, ()

        trap = np.array([Trap()], dtype=object)
        np.savez(tmp_path / "trap.npz", spectra=trap, energy_eV=ENERGY)
        with zipfile.ZipFile(tmp_path / "trap.ndata", "w") as archive:
            with archive.open("data.npy", "w") as file:
                np.lib.format.write_array(file, trap, allow_pickle=True)
            archive.writestr("metadata.json", json.dumps({}))
        (tmp_path / "plain.npz").write_bytes(pickle.dumps(Trap()))
        for name in ("trap.npz", "trap.ndata", "plain.npz"):
            with pytest.raises(ValueError, match="cannot be read"):
                make_specimen(str(tmp_path / name))
        assert not (tmp_path / "sprung").exists()

    def test_an_unknown_kind_of_file_is_refused(self, tmp_path):
        (tmp_path / "picture.png").write_bytes(b"")
        with pytest.raises(ValueError, match=r"picture\.png is of no kind.*\.hspy"):
            make_specimen(str(tmp_path / "picture.png"))

    def test_a_folder_with_two_spectrum_images_is_ambiguous(self, tmp_path):
        write_npz(tmp_path / "a.npz", image=None)
        write_npz(tmp_path / "b.npz", image=None)
        both = r"2 maps of spectra: 1: a map of .* \(a\.npz\); 2: .*\(b\.npz\); name the one"
        with pytest.raises(ValueError, match=both):
            make_specimen(str(tmp_path))


def test_the_copper_zinc_sample(recorded_data):
    path = recorded_data / "cuzn_eels.npz"
    sample = make_specimen(str(path))
    with np.load(path) as file:
        spectra, image = file["spectra"], file["image"]
    microscope = VirtualMicroscope(sample)
    field = ScanGeometry(sample.field_nm)
    assert np.array_equal(microscope.scan(field, image.shape, 1e-6), image)
    truth = microscope.expected_counts(field.pixel_centres(image.shape).reshape(-1, 2), 0.1)
    assert truth == pytest.approx(spectra.reshape(-1, spectra.shape[2]))
    assert sample.view.pixels == 40
