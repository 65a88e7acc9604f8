"""Files of recorded data as somebody else may have made them, for both who read such: a specimen and a replay."""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
import zipfile
import zlib

import numpy as np
import pytest
from fuzz import CASES, damaged_bytes, damaged_document

from autoexp.campaigns import load
from autoexp.errors import AutoexpError, PlanError
from autoexp.plan import VirtualInstrument
from autoexp.session import make_specimen
from virtual_stem import recordings
from virtual_stem.recordings import RecordingError

h5py = pytest.importorskip("h5py")

SPECTRA = np.random.default_rng(0).poisson(200.0, (5, 4, 8)).astype("f4")
ENERGY = 400.0 + 0.5 * np.arange(8)
MOST = 1_000_000
CALIBRATIONS = [{"offset": 0, "scale": 2, "units": "nm"}] * 2 + [{"offset": 400, "scale": 0.5, "units": "eV"}]


def specimen(path):
    return make_specimen(VirtualInstrument(specimen=str(path)))


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()


def header(shape, dtype="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(path, how=zipfile.ZIP_DEFLATED, **parts):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def npz(path, **changes):
    parts = {"spectra": npy(SPECTRA), "energy_eV": npy(ENERGY), **changes}
    return zipped(path, **{f"{name}__npy": content for name, content in parts.items()})


def ndata(path, data=None, metadata=None):
    about = {"dimensional_calibrations": CALIBRATIONS} if metadata is None else metadata
    about = about if isinstance(about, bytes) else json.dumps(about).encode()
    return zipped(path, data__npy=npy(SPECTRA) if data is None else data, metadata__json=about)


def hspy(path, make=None, **attributes):
    """HyperSpy's file, as its library writes it; ``make`` puts the data into the group."""
    with h5py.File(path, "w") as file:
        file.attrs.update(file_format="HyperSpy", file_format_version="3.3")
        group = file.create_group("Experiments/__unnamed__")
        for k, about in enumerate(CALIBRATIONS):
            axis = group.create_group(f"axis-{k}")
            axis.attrs.update({"_type": "UniformDataAxis", "navigate": k < 2, "size": SPECTRA.shape[k], **about})
        group["axis-2"].attrs.update(attributes)
        (make or (lambda group: group.create_dataset("data", data=SPECTRA)))(group)
    return path


def item(path, make=None, properties=None):
    """A large item of Swift's."""
    about = json.dumps({"dimensional_calibrations": CALIBRATIONS}) if properties is None else properties
    with h5py.File(path, "w") as file:
        (make or (lambda group: group.create_dataset("data", data=SPECTRA)))(file)
        file["data"].attrs["properties"] = about
    return path


GOOD = {
    "a.npz": npz,
    "a.ndata": ndata,
    "a.ndata1": ndata,
    "a.hspy": hspy,
    "a.hdf5": hspy,
    "a.h5": item,
    "a.nhdf": item,
    "packed.hspy": lambda path: hspy(
        path, lambda g: g.create_dataset("data", data=SPECTRA, chunks=(2, 2, 8), compression="gzip", shuffle=True)
    ),
    "kev.hspy": lambda path: hspy(path, offset=0.4, scale=0.0005, units="keV"),
    "map [1]?.hspy": hspy,
}


@pytest.mark.parametrize("name", GOOD)
def test_the_same_map_in_every_form_is_the_same_for_both(tmp_path, name):
    path = GOOD[name](tmp_path / name)
    data, sample = load(path), specimen(path)
    assert np.array_equal(data.spectra.reshape(SPECTRA.shape), SPECTRA)
    assert np.array_equal(sample._spectra, SPECTRA)
    assert data.energy_eV == pytest.approx(ENERGY)
    assert sample.axis.energy_eV == pytest.approx(ENERGY)


def test_arrays_in_fortrans_order_and_other_numbers(tmp_path):
    turned = np.asfortranarray(SPECTRA)
    assert np.array_equal(load(npz(tmp_path / "a.npz", spectra=npy(turned))).spectra, SPECTRA.reshape(20, 8))
    for kind in (">u2", "<i8", "f2", "f8"):
        assert load(npz(tmp_path / "b.npz", spectra=npy(SPECTRA.astype(kind)))).spectra.dtype == kind


# --- what is refused


def lie(path, at, value, *signatures):
    """Change two bytes at a place behind each signature of a zip's parts."""
    content = bytearray(path.read_bytes())
    for signature, place in zip(signatures, at, strict=True):
        found = content.find(signature)
        while found >= 0:
            content[found + place : found + place + 2] = value
            found = content.find(signature, found + 4)
    path.write_bytes(content)
    return path


def flipped(path):
    content = bytearray(path.read_bytes())
    at = content.find(b"spectra.npy") + 40
    for k in range(at, at + 20):
        content[k] ^= 0xFF
    path.write_bytes(content)
    return path


class Evil:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return pathlib.Path.touch, (self.folder / "sprung",)


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
BAD_ARCHIVES = {
    "objects": (lambda p: npz(p, spectra=header((1,), "|O") + pickle.dumps([Evil(p.parent)])), "never loaded"),
    "structured": (lambda p: npz(p, spectra=npy(np.zeros(3, "f4,i4"))), "instead of real numbers"),
    "text": (lambda p: npz(p, spectra=npy(np.full((5, 4, 8), "x"))), "instead of real numbers"),
    "huge shape": (lambda p: npz(p, spectra=header((10**6, 10**6, 8))), "at most"),
    "shape that overflows": (lambda p: npz(p, spectra=header((2**40, 2**40, 8))), "at most"),
    "negative shape": (lambda p: npz(p, spectra=header((-4, -4, 8))), "impossible shape"),
    "more said than there": (lambda p: npz(p, spectra=npy(SPECTRA)[:-200]), "header speaks of"),
    "more there than said": (lambda p: npz(p, spectra=npy(SPECTRA) + b"x"), "longer than its header"),
    "endless header": (lambda p: npz(p, spectra=b"\x93NUMPY\x01\x00\xff\xff" + b" " * 70_000), "damaged"),
    "nested header": (lambda p: npz(p, spectra=b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 8192), "damaged"),
    "no header": (lambda p: npz(p, spectra=b"\0" * 400), "damaged"),
    "damaged stream": (lambda p: flipped(npz(p)), "damaged"),
    "encrypted": (lambda p: lie(npz(p), (6, 8), b"\x01\x00", LOCAL, CENTRAL), "encrypted"),
    "odd method": (lambda p: lie(npz(p), (8, 10), b"\x63\x00", LOCAL, CENTRAL), "compressed by a method"),
    "lzma": (lambda p: zipped(p, zipfile.ZIP_LZMA, spectra__npy=npy(SPECTRA)), "compressed by a method"),
    "bomb": (lambda p: npz(p, spectra=header((30, 100, 1000)) + bytes(12_000_000)), "at most"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_archives_that_lie_are_refused_by_both(tmp_path, monkeypatch, name):
    monkeypatch.setattr("autoexp.campaigns.formats.MAX_BYTES", MOST)
    monkeypatch.setattr("virtual_stem.specimens.files.MAX_BYTES", MOST)
    make, says = BAD_ARCHIVES[name]
    path = make(tmp_path / "bad.npz")
    for use in (load, specimen):
        with pytest.raises(PlanError, match=rf"bad\.npz cannot be read: .*{says}"):
            use(path)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npz"]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "no properties"),
        (b"{", "not JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", "not JSON"),
        (b" " * 9_000_000, "longer than"),
        ({"dimensional_calibrations": [3, 4, 5]}, "calibration"),
        ({"dimensional_calibrations": CALIBRATIONS[:2]}, "2 calibrations do not fit"),
        ({"dimensional_calibrations": [*CALIBRATIONS[:2], {"offset": "x", "scale": 1, "units": "eV"}]}, "no number"),
        ({"dimensional_calibrations": [*CALIBRATIONS[:2], {"offset": 0, "scale": 1e999, "units": "eV"}]}, "no finite"),
    ],
)
def test_items_whose_metadata_are_none_are_refused_by_both(tmp_path, metadata, says):
    ndata(tmp_path / "a.ndata", metadata=metadata)
    for use in (load, specimen):
        with pytest.raises(PlanError, match=rf"a\.ndata cannot be read: .*{says}"):
            use(tmp_path / "a.ndata")


def test_names_in_an_archive_are_no_paths(tmp_path):
    path = (
        ndata(tmp_path / "inside" / "a.ndata") if (tmp_path / "inside").mkdir() else ndata(tmp_path / "inside/a.ndata")
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil", "x")
        archive.writestr(str(tmp_path / "evil-of-autoexp"), "x")
    assert len(load(path)) == len(specimen(path)._spectra.reshape(-1, 8))
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]
    assert not (tmp_path / "evil-of-autoexp").exists()


def virtual(group, path):
    layout = h5py.VirtualLayout(SPECTRA.shape, "f4")
    layout[:] = h5py.VirtualSource(str(path), "data", SPECTRA.shape)
    group.create_virtual_dataset("data", layout)


def beside(group, path):
    """The real data lie here, and something that leads out lies beside them."""
    group.create_dataset("data", data=SPECTRA)
    group["metadata"] = h5py.ExternalLink(str(path), "data")


ELSEWHERE = {
    "external link": lambda group, path: group.__setitem__("data", h5py.ExternalLink(str(path), "data")),
    "external link beside": beside,
    "virtual dataset": virtual,
    "external storage": lambda group, path: group.create_dataset(
        "data", SPECTRA.shape, "f4", external=[(str(path), 0, SPECTRA.nbytes)]
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("suffix", [".hspy", ".h5", ".nxs", ".emd"])
def test_no_other_file_is_opened(tmp_path, name, suffix):
    """What they lead to is a pipe: whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "canary")
    path = tmp_path / f"a{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            ELSEWHERE[name](file, tmp_path / "canary")
    else:
        hspy(path, lambda group: ELSEWHERE[name](group, tmp_path / "canary"))
    for use in (load, specimen):
        with pytest.raises(PlanError, match="another file, which is never opened"):
            use(path)


def swelling(group):
    """A chunk of a hundred bytes that says so and holds a hundred megabytes."""
    data = group.create_dataset("data", (5, 4, 8), "f4", chunks=(5, 4, 8), compression="gzip")
    packed = zlib.compress(bytes(100_000_000), 9)
    data.id.write_direct_chunk((0, 0, 0), packed)


BAD_HDF5 = {
    "huge": (lambda g: g.create_dataset("data", (10**5, 10**5, 1000), "f4", chunks=(1, 1, 1000)), "at most"),
    "huge and empty": (lambda g: g.create_dataset("data", (1000, 1000, 3), "f4"), "at most"),
    "huge beside": (
        lambda g: (g.create_dataset("data", data=SPECTRA), g.create_dataset("x", (10**9,), "f8")),
        "at most",
    ),
    "huge chunks": (
        lambda g: g.create_dataset("data", data=SPECTRA, chunks=(512, 512, 64), maxshape=(None, None, None)),
        "at most",
    ),
    "swelling chunk": (swelling, "swell"),
    "packed twice": (
        lambda g: h5py.h5d.create(
            g.id, b"data", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((5, 4, 8)), dcpl=_packed_twice()
        ),
        "compressed twice",
    ),
    "soft loop": (lambda g: g.__setitem__("data", h5py.SoftLink("/Experiments/__unnamed__/data")), "of its own"),
    "group": (lambda g: g.create_group("data"), "of its own"),
    "nothing": (lambda g: None, "of its own"),
    "text": (lambda g: g.create_dataset("data", data=[b"a"] * 4), "never loaded"),
    "complex": (lambda g: g.create_dataset("data", data=SPECTRA.astype("c8")), "real numbers"),
}


def _packed_twice():
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((5, 4, 8))
    plist.set_deflate(9)
    plist.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (9,))
    return plist


@pytest.mark.parametrize("name", BAD_HDF5)
def test_hdf5_that_lies_is_refused_by_both(tmp_path, monkeypatch, name):
    monkeypatch.setattr("autoexp.campaigns.formats.MAX_BYTES", MOST)
    monkeypatch.setattr("virtual_stem.specimens.files.MAX_BYTES", MOST)
    make, says = BAD_HDF5[name]
    hspy(tmp_path / "bad.hspy", make)
    for use in (load, specimen):
        with pytest.raises(PlanError, match=rf"bad\.hspy cannot be read: .*{says}"):
            use(tmp_path / "bad.hspy")


def test_circles_of_links_are_no_trouble(tmp_path):
    def around(group):
        group.create_dataset("data", data=SPECTRA)
        group["round"] = group.file["/"]
        group["again"] = h5py.SoftLink("/Experiments")

    assert len(load(hspy(tmp_path / "a.hspy", around))) == 20


@pytest.mark.parametrize("properties", ["[" * 60_000, "[]", "x", np.arange(5), ["{}"] * 1000, b"\xff"])
def test_properties_of_an_item_that_are_none_are_refused(tmp_path, properties):
    item(tmp_path / "a.h5", properties=properties)
    for use in (load, specimen):
        with pytest.raises(PlanError, match=r"a\.h5 cannot be read"):
            use(tmp_path / "a.h5")


def test_formulas_in_a_file_are_not_computed(tmp_path):
    formula = f"__import__('pathlib').Path({str(tmp_path / 'sprung')!r}).touch()"
    hspy(tmp_path / "a.hspy", _type="FunctionalDataAxis", expression=formula)
    store = tmp_path / "a.zspy" / "Experiments" / "x" / "axis-2"
    store.mkdir(parents=True)
    (store / ".zattrs").write_text('{"_type": "FunctionalDataAxis", "\\u0065xpression": "x"}')
    for name in ("a.hspy", "a.zspy"):
        with pytest.raises(PlanError, match="never computed"):
            load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_stores_that_hold_pickles_or_lead_elsewhere_are_refused(tmp_path):
    for name, content in (("pickled.zspy", '{"filters": [{"id": "pickle"}]}'), ("damaged.zspy", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".zarray").write_text(content)
    zipped(tmp_path / "packed.zspy", **{".zarray": '{"filters": [{"id": "Pickle"}]}'})
    (tmp_path / "linked.zspy").mkdir()
    (tmp_path / "linked.zspy" / "0.0").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "linked.zspy" / "pipe")
    for path in sorted(tmp_path.glob("*.zspy")):
        for use in (load, specimen):
            with pytest.raises(PlanError, match=r"never loaded|a link|cannot be read"):
                use(path)


@pytest.mark.parametrize("suffix", sorted(recordings.READERS))
def test_what_is_no_file_is_refused_at_once(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    (tmp_path / f"empty{suffix}").touch()
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "loop", "empty", "zero"):
        for use in (load, specimen):
            with pytest.raises(AutoexpError):
                use(tmp_path / f"{name}{suffix}")


def test_a_folder_is_its_own_files_and_nothing_else(tmp_path):
    outside = npz(tmp_path / "outside.npz")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "linked.npz").symlink_to(outside)
    os.mkfifo(folder / "pipe.npz")
    (folder / "inner.npz").mkdir()
    with pytest.raises(PlanError, match="holds nothing"):
        specimen(folder)
    npz(folder / "own.npz")
    assert specimen(folder)._spectra.shape == SPECTRA.shape


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pixel_nm": npy(np.nan)}, "above 0"),
        ({"pixel_nm": npy(-1.0)}, "above 0"),
        ({"pixel_nm": npy(0.0)}, "above 0"),
        ({"pixel_nm": npy(1e308)}, "no microscope scans"),
        ({"pixel_nm": npy(1e-300)}, "no microscope scans"),
        ({"pixel_nm": npy([1.0, 2.0])}, "one number"),
        ({"energy_eV": npy(np.full(8, np.nan))}, "even steps"),
        ({"energy_eV": npy(np.linspace(-1, 1, 8) * 1.5e308)}, "even steps"),
        ({"energy_eV": npy(1e9 + np.arange(8.0))}, "within 1e.06 eV"),
        ({"spectra": npy(np.full((5, 4, 8), np.nan))}, "finite"),
        ({"spectra": npy(np.full((5, 4, 8), 1e308))}, "finite numbers within"),
        ({"spectra": npy(np.zeros((0, 4, 8)))}, "shape"),
        ({"image": npy(np.full((5, 5), np.inf))}, "finite"),
        ({"image": npy(np.zeros((0, 5)))}, "An overview has"),
    ],
)
def test_a_specimen_is_physical(tmp_path, changes, says):
    with pytest.raises(PlanError, match=says):
        specimen(npz(tmp_path / "a.npz", **changes))


# --- memory

BOMBS = """
    import resource, sys
    from virtual_stem import recordings
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    allowed = int(sys.argv[2])
    try:
        recordings.read(__import__("pathlib").Path(sys.argv[1]), allowed)
    except recordings.RecordingError:
        pass
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(grown / allowed)
"""
ALLOWED = 40_000_000


def many_names(path):
    """A list of contents that is all the file."""
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(30_000):
            archive.writestr(f"{k:05d}" * 12, b"")
    return path


def text_of_brackets(path):
    return ndata(path, metadata=b'{"a":[' + b"[]," * 2_600_000 + b"[]]}")


AT_MOST = (100, 100, 1000)  # float32: exactly what is allowed
SIZED = {
    "as large as allowed.npz": lambda p: npz(p, spectra=npy(np.zeros((98, 100, 1000), "f4"))),
    "bomb.npz": lambda p: npz(p, spectra=header((1000, 1000, 100)) + bytes(400_000_000)),
    "liar.npz": lambda p: lie_about_size(npz(p, spectra=header(AT_MOST) + bytes(400_000_000))),
    "names.npz": many_names,
    "brackets.ndata": text_of_brackets,
    "as large as allowed.hspy": lambda p: hspy(
        p, lambda g: g.create_dataset("data", AT_MOST, "f4", chunks=(1, 1, 1000))
    ),
    "one chunk.hspy": lambda p: hspy(
        p, lambda g: g.create_dataset("data", data=np.zeros(AT_MOST, "f4"), chunks=AT_MOST, compression="gzip")
    ),
    "swelling.hspy": lambda p: hspy(p, swelling),
}


def lie_about_size(path):
    """The list of contents says that an entry unpacks to what is allowed; it unpacks to ten times as much."""
    content = bytearray(path.read_bytes())
    for signature, place in ((LOCAL, 22), (CENTRAL, 24)):
        at = content.find(signature)
        content[at + place : at + place + 4] = (ALLOWED - 1000).to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", SIZED)
def test_memory_stays_within_three_times_what_is_allowed(tmp_path, name):
    path = SIZED[name](tmp_path / name)
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOMBS), str(path), str(ALLOWED)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(found.stdout) < 3


# --- fuzz


HANGING = (
    "eNrtVctO20AUHTu0stJWBakSj00tq8uUmgoiimibh0NME5KQQIAGBCaxkaXgoNisUFSW7V902U/pX9E78XE0QaKLdlV1jnQ047ln7mtmkm+2tf"
    "UsvZRmHJrGZtgsE3EH3C5Nfyf2M4wKxq8Yf6jJujK2LWB9Dv7v6/aapRJX391DEseciUeNSfyPsEv5Bh8P8Z3c0p/qtK7nRI54H+2/jKuwx7Ev"
    "Jflej8dUvPAIOlzPyf18aD1FL4HvnNNfwqazeY3Nf5ns08Z2VVWVeF/8cigcXNxOVfwUFSrsCXtBkqvh4ModRr4bxvZFRRn3anZSgjb1Xr9zj2"
    "nxDS/8th+tWt3iLzqpR0/Juykh8e+iVmTsFbFK/ERsE4+ITeJn4kdinbhDbIBZ4jaxTOwSK9hfJG4STeI+sUPME7ewbhFX4LMAn9xmEy+ILfjl"
    "ulXiMWJ8gI7rd6E7Jx7C/3to15BLGzEOiH3UdQS/nG/g00ONRcTZwzrPO4fRgSaL2Bb8bSDXHPrD4wao5R0xg1q5j1PiGXEZvmzs2cV8Bf7aID"
    "+T10JeHWj3wQJysNCLLHphI1ZybhXBRwn94ed3Ats2cm3h/JrIowJNA/YCesX9ryOHTeS0g/5b6FVV6FUeZ1BG7RXhLtTG96RcrFcV4Q9d/F/i"
    "uDF6/qUbhP4gcPqnXafvnw+diL5C4/i61/U8w9jQOzfGwPNCN6K5mdGNkHQuzd/S/Drwo5DmRnBpjDL6HylXTVFrLq+JardtjE5GyWvKPZe/KB"
    "ISEhISEhISEhISEhISD+EXwdPCVw=="
)


def hanging(path):
    """An item of Swift's with a few damaged bytes, on which HDF5 never returns, holding the whole program."""
    path.write_bytes(zlib.decompress(base64.b64decode(HANGING)))
    return path


def test_a_file_on_which_a_library_hangs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings.apart, "PATIENCE_S", 2.0)
    path = hanging(tmp_path / "a.h5")
    for use in (load, specimen):
        with pytest.raises(PlanError, match="it is damaged, and the library for it fails on it"):
            use(path)
    assert len(load(item(tmp_path / "good.h5"))) == 20


def test_a_file_on_which_a_library_crashes_is_refused(tmp_path, monkeypatch):
    trial = recordings.apart.Trial()
    trial.require_readable(item(tmp_path / "a.h5"), MOST)
    monkeypatch.setattr(trial, "_started", lambda: True)
    trial._process.kill()
    with pytest.raises(RecordingError, match="the library for it fails on it"):
        trial.require_readable(tmp_path / "a.h5", MOST)
    monkeypatch.undo()
    trial.require_readable(tmp_path / "a.h5", MOST)
    trial.close()


def test_where_no_other_process_can_be_had_files_are_read_here(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "TRIAL", recordings.apart.Trial())
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    assert len(load(item(tmp_path / "a.h5"))) == 20


@pytest.mark.parametrize("name", ["a.npz", "a.ndata", "a.hspy", "a.h5", "packed.hspy"])
def test_damaged_files_are_read_or_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(recordings.apart, "PATIENCE_S", 3.0)
    content = GOOD[name](tmp_path / name).read_bytes()
    path = tmp_path / f"damaged{pathlib.Path(name).suffix}"
    read = 0
    for number in range(CASES):
        path.write_bytes(damaged_bytes(content, number))
        try:
            recordings.read(path, MOST)
            read += 1
        except RecordingError:
            pass
        for use in (load, specimen):
            try:
                use(path)
            except PlanError:
                continue
    assert read < CASES
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({name, path.name})


def test_damaged_metadata_are_read_or_refused(tmp_path):
    document = {"data_source": {"dimensional_calibrations": CALIBRATIONS, "datum_dimension_count": 1}, "title": "x"}
    for number in range(CASES):
        ndata(tmp_path / "a.ndata", metadata=damaged_document(document, number))
        for use in (load, specimen):
            try:
                use(tmp_path / "a.ndata")
            except PlanError:
                continue


@pytest.mark.parametrize("suffix", [".dm3", ".dm4", ".tif", ".emd", ".nxs", ".msa", ".ser", ".blo", ".rpl"])
def test_what_the_library_makes_of_rubbish_is_refused_in_words(tmp_path, suffix):
    pytest.importorskip("hyperspy")
    starts = {".dm3": b"\0\0\0\3", ".dm4": b"\0\0\0\4", ".tif": b"II*\0\x08\0\0\0", ".msa": b"#FORMAT : EMSA\n"}
    for tail in (b"\xff" * 5000, bytes(5000), os.urandom(500), b""):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(starts.get(suffix, b"\x89HDF\r\n\x1a\n") + tail)
        with pytest.raises(RecordingError, match=rf"a\{suffix} cannot be read: .*\w"):
            recordings.read(path, MOST)
