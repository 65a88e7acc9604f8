"""Evidence: how well a kernel foresees what it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from autoexp.models.fit import fit_map, leave_one_out_density
from autoexp.models.kernel import covariance


def test_density_is_that_of_each_point_given_all_others(problem):
    K = covariance(problem.measured, problem.measured, problem.hyper)
    K[np.diag_indices(30)] += problem.hyper.noise + problem.noise
    logs = []
    for i in range(30):
        rest = np.arange(30) != i
        weights = np.linalg.solve(K[np.ix_(rest, rest)], K[rest, i])
        std = np.sqrt(K[i, i] - weights @ K[rest, i])
        logs.append(stats.norm.logpdf(problem.y[i], weights @ problem.y[rest], std))
    found = leave_one_out_density(problem.measured, problem.hyper, problem.y, problem.noise)
    assert found == pytest.approx(np.mean(logs))


def test_it_prefers_the_view_that_made_the_targets():
    rng = np.random.default_rng(0)
    seen, blind = rng.standard_normal((2, 60, 2)) / np.sqrt(2)
    y = np.sin(2 * seen[:, 0]) + 0.05 * rng.standard_normal(60)
    y = (y - y.mean()) / y.std()
    nothing = np.zeros(60)
    densities = [leave_one_out_density((v,), fit_map((v,), y, nothing), y, nothing) for v in (seen, blind)]
    assert densities[0] > densities[1] + 0.5
