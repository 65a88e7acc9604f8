"""Lists and sets that never change behave as those of Python do, and keep what they were."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.persistent import BLOCK, PersistentList, PersistentSet

SIZES = st.one_of(
    st.integers(0, 5),
    st.integers(BLOCK - 2, BLOCK + 2),
    st.integers(2 * BLOCK - 1, 2 * BLOCK + 1),
    st.integers(BLOCK**2 - 1, BLOCK**2 + BLOCK + 1),
)


@settings(deadline=None, max_examples=60)
@given(
    SIZES, st.lists(st.tuples(st.sampled_from(["append", "set", "cut", "rest"]), st.integers(0, 1 << 20)), max_size=8)
)
def test_a_list_is_as_a_list(size, changes):
    held, known = PersistentList(range(size)), list(range(size))
    kept = []
    for change, number in changes:
        kept.append((held, list(known)))
        if change == "append":
            held, known = held.append(number), [*known, number]
        elif change == "set" and known:
            at = number % len(known)
            held, known[at] = held.set(at, -number), -number
        elif change == "cut":
            held, known = held[: number % (len(known) + 1)], known[: number % (len(known) + 1)]
        elif change == "rest":
            held, known = held[number % 3 :], known[number % 3 :]
    for one, expected in [*kept, (held, known)]:
        assert list(one) == expected
        assert one == expected
        assert [one[i] for i in range(-len(expected), len(expected))] == 2 * expected
        assert list(one.since(len(expected) // 2)) == expected[len(expected) // 2 :]
        assert one[1::3] == expected[1::3]


def test_a_list_grows_from_nothing_through_every_depth():
    held = PersistentList()
    for i in range(BLOCK**2 + 2 * BLOCK):
        assert len(held) == i
        held = held.append(i)
    assert held == list(range(BLOCK**2 + 2 * BLOCK))


def test_a_list_cut_short_goes_on_without_what_was_cut():
    whole = PersistentList(range(3 * BLOCK))
    for length in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK):
        assert whole[:length].append("next") == [*range(length), "next"]
    assert whole == list(range(3 * BLOCK))


@pytest.mark.parametrize("index", [-4, 3, 1 << 40])
def test_a_list_has_no_more_than_it_holds(index):
    with pytest.raises(IndexError):
        PersistentList("abc")[index]
    with pytest.raises(IndexError):
        PersistentList("abc").set(index, "d")


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=80))
def test_a_set_is_as_a_set(items):
    held, kept = PersistentSet(), []
    for count, item in enumerate(items):
        kept.append((held, set(items[:count])))
        held = held.add(item)
    for one, expected in [*kept, (held, set(items))]:
        assert one == expected
        assert len(one) == len(list(one)) == len(expected)
        assert all((i in one) == (i in expected) for i in range(41))
