"""Lists and sets that never change: adding to one gives another, and the two share almost all they hold.

Whoever keeps an old one, on whichever thread, keeps it as it was. Adding costs about the same however much there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar, overload

T = TypeVar("T")

BLOCK = 64


class PersistentList(Sequence[T], Generic[T]):
    """A list as blocks of 64: the last one, not yet full, and a list, of this same kind, of those that are.

    Args:
        items: what it holds.
    """

    __slots__ = ("_full", "_last", "_length")
    _full: PersistentList[tuple[T, ...]] | None

    def __init__(self, items: Iterable[T] = ()):
        given = tuple(items)
        full = len(given) // BLOCK * BLOCK
        self._full = PersistentList(given[i : i + BLOCK] for i in range(0, full, BLOCK)) if full else None
        self._last, self._length = given[full:], len(given)

    def append(self, item: T) -> PersistentList[T]:
        """The list with one more item at its end."""
        if len(self._last) < BLOCK:
            return self._made(self._full, (*self._last, item), self._length + 1)
        full = PersistentList((self._last,)) if self._full is None else self._full.append(self._last)
        return self._made(full, (item,), self._length + 1)

    def set(self, index: int, item: T) -> PersistentList[T]:
        """The list with another item at an index, 0..length-1.

        Raises:
            IndexError: there is no such index.
        """
        if not 0 <= index < self._length:
            raise IndexError(index)
        number, at = divmod(index, BLOCK)
        block = self._block(number)
        block = (*block[:at], item, *block[at + 1 :])
        if self._full is None or number == len(self._full):
            return self._made(self._full, block, self._length)
        return self._made(self._full.set(number, block), self._last, self._length)

    def since(self, index: int) -> Iterator[T]:
        """The items from an index on, without a look at those before."""
        return (self[i] for i in range(index, self._length))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> PersistentList[T]: ...
    def __getitem__(self, index: int | slice) -> T | PersistentList[T]:
        if isinstance(index, slice):
            wanted = range(*index.indices(self._length))
            if wanted.start == 0 and wanted.step == 1:
                return self._first(len(wanted))
            return PersistentList(self[i] for i in wanted)
        if index < 0:
            index += self._length
        if not 0 <= index < self._length:
            raise IndexError(index)
        return self._block(index // BLOCK)[index % BLOCK]

    def __iter__(self) -> Iterator[T]:
        full = () if self._full is None else itertools.chain.from_iterable(self._full)
        return itertools.chain(full, self._last)

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PersistentList | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PersistentList({list(self)})"

    def _block(self, number: int) -> tuple[T, ...]:
        return self._last if self._full is None or number == self._full._length else self._full[number]

    def _first(self, length: int) -> PersistentList[T]:
        """So many items from the first on."""
        if length == self._length:
            return self
        number, count = divmod(length, BLOCK)
        return self._made(self._full[:number] if self._full and number else None, self._block(number)[:count], length)

    @staticmethod
    def _made(full: PersistentList[tuple[T, ...]] | None, last: tuple[T, ...], length: int) -> PersistentList[T]:
        made: PersistentList[T] = PersistentList.__new__(PersistentList)
        made._full, made._last, made._length = full, last, length
        return made


class PersistentSet(AbstractSet[T]):
    """A set as a few frozen sets, each larger than the next, which are merged as they grow.

    Args:
        items: what it holds.
    """

    __slots__ = ("_parts",)

    def __init__(self, items: Iterable[T] = ()):
        given = frozenset(items)
        self._parts: tuple[frozenset[T], ...] = (given,) if given else ()

    def add(self, item: T) -> PersistentSet[T]:
        """The set with one more item."""
        if item in self:
            return self
        parts = (*self._parts, frozenset((item,)))
        while len(parts) > 1 and len(parts[-2]) <= len(parts[-1]):
            parts = (*parts[:-2], parts[-2] | parts[-1])
        made: PersistentSet[T] = PersistentSet()
        made._parts = parts
        return made

    def __contains__(self, item: object) -> bool:
        for part in self._parts:  # noqa: SIM110 - half the time of any()
            if item in part:
                return True
        return False

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __repr__(self) -> str:
        return f"PersistentSet({list(self)})"
