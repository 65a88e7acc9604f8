"""When a refit is made and when it is in force: a matter of counts, with time enough in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexp.models.schedule import SETTLED, STRIDE, following, in_force, lag, refits, replaced

FIRST, EVERY, CANDIDATES = st.integers(2, 1000), st.integers(1, 1000), st.integers(1, 2_000_000)


@pytest.mark.parametrize(
    ("n", "first", "every", "expected"),
    [(10, 10, 5, [10]), (30, 10, 5, [10, 15, 20, 25, 30]), (9, 2, 3, [2, 5, 8]), (130, 100, 1, [100, 110, 121])],
)
def test_schedule(n, first, every, expected):
    assert refits(n, first, every) == expected


@given(st.integers(2, 50), st.integers(1, 20), st.integers(0, 300))
def test_the_schedule_so_far_does_not_depend_on_what_comes_later(first, every, more):
    long = refits(first + more, first, every)
    for n in range(first, first + more + 1, 17):
        assert refits(n, first, every) == [k for k in long if k <= n]


@given(st.integers(2, 12_000), FIRST, EVERY, CANDIDATES)
def test_a_refit_is_in_force_some_outcomes_later_and_the_first_at_once(n, first, every, candidates):
    if n < first:
        return
    made = refits(n, first, every, candidates)
    at = in_force(n, first, every, candidates)
    assert at in made
    assert at == first or n - at >= lag(at, candidates)
    assert all(n - later < lag(later, candidates) for later in made if later > at)
    assert n < replaced(at, every, candidates)


@given(st.integers(2, 100_000), EVERY, CANDIDATES)
def test_a_refit_is_in_force_before_the_next_is_due_and_soon_replaced(at, every, candidates):
    """So one refit at most is being made, and what is learned one by one in between is bounded."""
    later = following(at, every, candidates)
    assert later - at >= max(every, lag(at, candidates))
    assert replaced(at, every, candidates) - at <= max(every, STRIDE) + STRIDE


@pytest.mark.parametrize(("candidates", "share"), [(100, 40), (10_000, 40), (20_000, 20), (100_000, 4), (10**6, 4)])
def test_the_more_candidates_the_longer_an_early_refit_takes(candidates, share):
    assert lag(SETTLED, candidates) == SETTLED // share


def test_later_a_refit_has_a_quarter_of_what_it_rests_on_and_at_last_as_long_as_the_next_takes_to_come():
    assert [lag(at) for at in (242, 1000, 1999, 2001, 50_000)] == [60, 250, 499, 500, 500]
    assert following(50_000, 5) == 50_500
