"""What an agent or a score says is what it should be, in plain types, or refused in words: nothing in between."""

from __future__ import annotations

import datetime
import fractions

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoexp import events as ev
from autoexp.advice import AdviceError, checked_prediction, checked_suggestion
from autoexp.agent import Evidence, Prediction, Suggestion
from autoexp.foreign import real_numbers

N = 4


class Sly(np.ndarray):
    """An array that says of itself what it likes."""

    dtype = property(lambda self: np.dtype(float))
    shape = property(lambda self: (N,))


class Raising:
    """Whoever looks at it is told off."""

    def __getattr__(self, name):
        raise RuntimeError("do not look at me")

    def __repr__(self):
        raise RuntimeError("do not print me")

    def __bool__(self):
        raise RuntimeError("do not judge me")


class Text(str):
    """A text that is more than a text."""

    def __len__(self):
        return 3

    def isascii(self):
        return True

    def isprintable(self):
        return True


strange = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.builds(pow, st.just(10), st.just(5000)),  # made as it is drawn: it cannot even be printed
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.just(Text("\udcff")),
    st.fractions(),
    st.datetimes(),
    st.lists(st.one_of(st.floats(), st.none(), st.text(max_size=2)), max_size=6),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), st.one_of(st.floats(), st.none()), max_size=3),
    st.builds(Raising),
    st.sampled_from(
        [np.int64(3), np.float32(0.5), np.float64("inf"), np.bool_(True), np.ma.masked, np.longdouble("1e4000")]
    ),
)
some_arrays = arrays.arrays(
    st.one_of(
        arrays.floating_dtypes(), arrays.integer_dtypes(), arrays.complex_number_dtypes(), arrays.boolean_dtypes(),
        arrays.datetime64_dtypes(), arrays.unicode_string_dtypes(max_len=3),
    ),
    st.one_of(st.just((N,)), arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=N)),
)  # fmt: skip
masked = st.builds(lambda array, mask: np.ma.array(array, mask=mask), some_arrays, st.booleans())
field = st.one_of(some_arrays, masked, strange, st.just(np.zeros(N)), st.just(np.ones(N).view(Sly)))
evidence = st.one_of(strange, st.builds(Evidence, strange, strange), st.just(Evidence({"a": 1.0}, {"v": 0.5})))
prediction = st.one_of(strange, st.builds(Prediction, field, field, strange, strange, evidence))


@given(told=prediction)
def test_a_prediction_is_what_can_be_written_or_refused(told):
    try:
        found = checked_prediction(told, N, 12)
    except Exception:
        return
    for array in (found.mean, found.std):
        assert type(array) is np.ndarray and array.dtype == np.float64 and array.shape == (N,)
        assert np.isfinite(array.astype(np.float32)).all()
    assert (found.std >= 0).all()
    assert type(found.after) is int and 0 <= found.after <= 12
    known = found.evidence
    event = ev.Predicted(
        after=found.after,
        array=ev.ArrayRef(file="x", crc32=0),
        coverage=found.coverage,
        density=known.density if known else {},
        shares=known.shares if known else {},
    )
    assert ev.Predicted.model_validate_json(event.model_dump_json()) == event
    assert known is None or known.preferred in known.density


@given(
    told=st.one_of(
        strange,
        st.builds(Suggestion, strange, st.one_of(strange, field, st.tuples(strange, strange)), strange, *[strange] * 3),
    )
)
def test_a_suggestion_is_what_can_be_written_or_refused(told):
    try:
        found = checked_suggestion(told)
    except Exception:
        return
    assert type(found.reason) is str
    event = ev.Decided(id=0, candidate=None, position=(0, 0), agent="a", reason=found.reason, mean=found.mean)
    assert ev.Decided.model_validate_json(event.model_dump_json()) == event
    assert all(type(n) is float and np.isfinite(n) for n in found.position)
    assert found.candidate is None or type(found.candidate) is int
    assert found.std is None or found.std >= 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"coverage": "x"}, "not finite"),
        ({"coverage": 1.5}, "no share"),
        ({"coverage": float("nan")}, "not finite"),
        ({"coverage": True}, "not finite"),
        ({"evidence": [1]}, "evidence that is none"),
        ({"evidence": Evidence({"a": None}, {})}, "not finite"),
        ({"evidence": Evidence({}, {})}, "no kernel"),
        ({"evidence": Evidence({1: 2.0}, {})}, "no name"),
        ({"evidence": Evidence({str(i): 1.0 for i in range(2000)}, {})}, "evidence that is none"),
        ({"after": -5}, "after -5 points"),
        ({"after": 2**60}, "after 1152921504606846976 points"),
        ({"after": True}, "after True points"),
        ({"after": 2.0}, "after 2.0 points"),
        ({"mean": np.full(N, np.inf)}, "mean that is no number"),
        ({"mean": np.full(N, 1e300)}, "too large"),
        ({"mean": np.zeros(N + 1)}, "shape"),
        ({"mean": np.zeros(N) + 1j}, "complex"),
        ({"mean": ["1", "2", "3", "4"]}, "text"),
        ({"mean": [1, [2], 3, 4]}, "no array"),
        ({"mean": np.ma.masked_all(N)}, "no number"),
        ({"mean": np.zeros(N, bool)}, "true or false"),
        ({"mean": np.zeros(N, "M8[s]")}, "dates"),
        ({"mean": [fractions.Fraction(1, 2)] * N}, "objects"),
        ({"mean": np.zeros((1, N))}, "shape"),
        ({"std": -np.ones(N)}, "below zero"),
        ({"std": np.full(N, np.nan)}, "standard deviation that is no number"),
    ],
)
def test_what_is_wrong_with_a_prediction_is_said(change, says):
    given = {"mean": np.zeros(N), "std": np.ones(N), "after": 3, **change}
    with pytest.raises(AdviceError, match=says):
        checked_prediction(Prediction(**given), N, 12)


def test_a_prediction_is_the_agents_no_longer():
    mean = np.zeros(N)
    found = checked_prediction(Prediction(mean, [1, 2, 3, 4], np.int64(3), np.float32(0.5)), N, 3)
    mean[:] = 7
    assert found.mean.tolist() == [0.0] * N
    assert (found.std.tolist(), found.after, found.coverage) == ([1, 2, 3, 4], 3, 0.5)


@given(told=st.one_of(field, strange))
def test_real_numbers_are_as_they_were_told_or_refused(told):
    try:
        found = real_numbers(told, N)
    except Exception:
        return
    assert type(found) is np.ndarray and found.dtype == np.float64 and found.shape == (N,)
    data = np.ma.getdata(told)
    assert np.asarray(data).dtype.kind in "fiu"
    hidden = np.broadcast_to(np.ma.getmaskarray(told) if isinstance(told, np.ma.MaskedArray) else False, (N,))
    assert np.isnan(found[hidden]).all()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found[~hidden], np.asarray(data, dtype=float)[~hidden])


@pytest.mark.parametrize("told", [datetime.datetime(2020, 1, 1), None, object(), {"a": 1}])
def test_what_is_no_array_at_all(told):
    with pytest.raises((ValueError, RuntimeError)):
        real_numbers(told, N)
