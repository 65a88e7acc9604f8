"""A triangle that grows in place equals one that is made at once."""

from __future__ import annotations

import numpy as np
import pytest

from autoexp.models.triangle import Triangle


@pytest.fixture
def L():
    return np.tril(np.random.default_rng(0).uniform(0.1, 1, (40, 40))) + 3 * np.eye(40)


@pytest.mark.parametrize(("start", "room"), [(40, 0), (40, 70), (1, 0), (1, 20), (17, 40)])
def test_it_solves_as_the_whole_matrix_does(L, start, room):
    triangle = Triangle(L[:start, :start], room)
    for n in range(start, 40):
        triangle.append(n, L[n, :n], L[n, n])
    b = np.linspace(-1, 1, 40)
    np.testing.assert_allclose(L @ triangle.solve(b), b, atol=1e-12)
    np.testing.assert_allclose(L.T @ triangle.solve_transposed(b), b, atol=1e-12)
    np.testing.assert_allclose(triangle.inverse(40) @ L, np.eye(40), atol=1e-12)
    np.testing.assert_allclose(triangle.solve(b[:9]), triangle.solve(b)[:9], atol=1e-12)


def test_a_row_may_be_taken_back(L):
    triangle = Triangle(L[:10, :10], 30)
    triangle.append(10, np.ones(10), 7.0)
    triangle.append(11, np.ones(11), 7.0)
    triangle.append(10, L[10, :10], L[10, 10])
    np.testing.assert_array_equal(triangle.inverse(11), Triangle(L[:11, :11], 0).inverse(11))


def test_it_copies_nothing_to_solve_and_grows_without_being_told(L, monkeypatch):
    triangle = Triangle(L, 400)
    kept = triangle._L
    monkeypatch.setattr(np, "zeros", None)
    for n in range(40, 400):
        triangle.append(n, np.zeros_like(kept[0, :n]), 1.0)
    triangle.solve(np.ones(400))
    assert triangle._L is kept


def test_a_singular_one_says_so(L):
    L[3, 3] = 0
    with pytest.raises(np.linalg.LinAlgError, match="singular at row 4"):
        Triangle(L, 0).solve(np.ones(40))
