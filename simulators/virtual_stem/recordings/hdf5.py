"""HDF5 files, looked through before anything in them is read: they hold all their data themselves, and not too much.

HDF5 knows four ways to serve what lies elsewhere (external links, links of a user's own kind, virtual datasets and
external storage). A file with any of these is refused before one of them is followed.
"""

from __future__ import annotations

import contextlib
import math
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from virtual_stem.recordings.access import MAX_TEXT_BYTES, require_file
from virtual_stem.recordings.signals import MissingLibraryError, RecordingError, Room, require_real

MAX_LINKS = 1_000_000
DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALE_OFFSET, LZF = 1, 2, 3, 4, 5, 6, 32000
GROWTH = {DEFLATE: 1032, LZF: 100}
"""How many times longer what comes out of a filter can be than what goes in."""
ELSEWHERE = 64
"""Kinds of links from this number on lead out of the file."""


@contextlib.contextmanager
def opened(path: pathlib.Path, room: Room) -> Iterator[Any]:
    """A file for reading, looked through.

    Raises:
        RecordingError: it refers to other files, or holds more than there is room for.
        MissingLibraryError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingLibraryError(f"reading {path.name} needs h5py: python -m pip install h5py") from error
    require_file(path, room.most)
    with h5py.File(path, "r") as file:
        _require_own_links(file)
        sizes = [_checked_size(dataset, room.most) for dataset in datasets(file)]
        Room(room.most + MAX_TEXT_BYTES).take(sum(sizes))
        yield file


def datasets(file: Any) -> list[Any]:
    """All datasets of a file; each once, whatever links lead to it."""
    import h5py

    found: list[Any] = []

    def look(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(item)

    file.visititems(look)
    return found


def read(dataset: Any, room: Room) -> npt.NDArray[Any]:
    """All of a dataset of real numbers.

    Raises:
        RecordingError: it holds anything else, or more than there is room for.
    """
    require_real(dataset.dtype)
    room.take(_size(dataset))
    return np.asarray(dataset[()])


def attribute(item: Any, name: str, default: Any) -> Any:
    """A single attribute, text as ``str``.

    Raises:
        RecordingError: it is a whole array, or too long.
    """
    if name not in item.attrs:
        return default
    about = item.attrs.get_id(name)
    if about.shape != () or about.get_storage_size() > MAX_TEXT_BYTES:
        raise RecordingError(f"its attribute {name:.40} is no single value")
    value = item.attrs[name]
    return value.decode() if isinstance(value, bytes) else value


def own_dataset(group: Any, name: str) -> Any:
    """A dataset that lies in a group itself.

    Raises:
        RecordingError: there is none of that name, or it is a link.
    """
    import h5py

    link = group.get(name, getlink=True) if isinstance(group, h5py.Group) and name in group else None
    if not isinstance(link, h5py.HardLink) or not isinstance(group[name], h5py.Dataset):
        raise RecordingError(f"it has no {name} of its own")
    return group[name]


def _require_own_links(file: Any) -> None:
    count = 0

    def look(_name: bytes, link: Any) -> str | None:
        nonlocal count
        count += 1
        if link.type >= ELSEWHERE:
            return "it links to another file, which is never opened; save the data into one file"
        return "it has too many parts" if count > MAX_LINKS else None

    if trouble := file.id.links.visit(look, info=True):
        raise RecordingError(trouble)


def _checked_size(dataset: Any, most: int) -> int:
    """Bytes of a dataset that holds all its data, and whose chunks do not swell."""
    if dataset.is_virtual or dataset.external:
        raise RecordingError("its data lie in another file, which is never opened; save the data into one file")
    if dataset.chunks is not None:
        _check_chunks(dataset, most)
    return _size(dataset)


def _size(dataset: Any) -> int:
    """Bytes, in Python's integers, which do not overflow."""
    return math.prod(int(length) for length in dataset.shape or ()) * int(dataset.dtype.itemsize)


def _check_chunks(dataset: Any, most: int) -> None:
    """Refuse chunks that would take more memory than all that may be read."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]
    packing = [f for f in filters if f not in (SHUFFLE, FLETCHER32)]
    whole = math.prod(dataset.chunks) * dataset.dtype.itemsize
    Room(most).take(whole)
    if len(packing) > 1:
        raise RecordingError("its data are compressed twice")
    growth = GROWTH.get(packing[0], 1) if packing else 1
    swelling: list[tuple[int, ...]] = []

    def look(chunk: Any) -> None:
        if chunk.size * growth > most:
            swelling.append(chunk.chunk_offset)

    dataset.id.chunk_iter(look)
    for offset in swelling:
        _, packed = dataset.id.read_direct_chunk(offset)
        if packing != [DEFLATE] or _inflated(packed, whole) > whole:
            raise RecordingError("a part of its data would swell to more than it should hold")


def _inflated(packed: bytes, most: int) -> int:
    """How long something becomes; what is more than ``most`` is not looked at."""
    inflate, total = zlib.decompressobj(), 0
    while packed and not inflate.eof and total <= most:
        total += len(inflate.decompress(packed, 1 << 20))
        packed = inflate.unconsumed_tail
    return total
