"""The array code that decides while an experiment runs equals the model as gpytorch defines it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from autoexp.models.fit import Objective, fit_map
from autoexp.models.kernel import Hyperparameters, Priors, covariance
from autoexp.models.posterior import Posterior

HYPERS = [
    Hyperparameters(np.array([0.6, 0.2, 0.4]), np.array([0.5, 1.1, 0.3]), 0.04),
    Hyperparameters(np.array([2.0, 0.01, 0.3]), np.array([0.1, 4.0, 1.0]), 0.5),
]


@pytest.fixture
def reference():
    pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
    pytest.importorskip("gpytorch", reason="gpytorch is not installed", exc_type=ImportError)
    from autoexp.models import reference

    return reference


@pytest.mark.parametrize("hyper", HYPERS)
def test_log_posterior_and_its_gradient(reference, problem, hyper):
    twin = reference.reference_model(problem.measured, problem.y, problem.noise, hyper)
    objective = Objective(problem.measured, problem.y, problem.noise, Priors.of(3))
    value, gradient = objective(hyper.log)
    log_posterior = twin.log_posterior()
    assert -value == pytest.approx(log_posterior.item(), abs=1e-6)

    log_posterior.backward()
    kernels, noise = twin.covar_module.kernels, twin.likelihood.second_noise_covar
    raw = [
        *((k.raw_outputscale, k.raw_outputscale_constraint, k.outputscale) for k in kernels),
        *((k.raw_lengthscale, k.raw_lengthscale_constraint, k.lengthscale) for k in (k.base_kernel for k in kernels)),
        (noise.raw_noise, noise.raw_noise_constraint, noise.noise),
    ]
    by_log = [x.item() * p.grad.item() / _slope(constraint, p) for p, constraint, x in raw]
    np.testing.assert_allclose(-gradient, by_log, rtol=1e-5, atol=1e-6)


def _slope(constraint, parameter) -> float:
    """Derivative of what a constraint makes of its raw parameter."""
    raw = parameter.detach().clone().requires_grad_()
    constraint.transform(raw).sum().backward()
    return raw.grad.item()


@pytest.mark.parametrize("hyper", HYPERS)
def test_marginal_likelihood_without_priors(reference, problem, hyper):
    K = covariance(problem.measured, problem.measured, hyper) + np.diag(problem.noise + hyper.noise)
    sign, logdet = np.linalg.slogdet(K)
    direct = -0.5 * (problem.y @ np.linalg.solve(K, problem.y) + logdet + len(problem.y) * np.log(2 * np.pi))
    twin = reference.reference_model(problem.measured, problem.y, problem.noise, hyper)
    prior = Priors.of(3).log_density(hyper)
    assert sign == 1
    assert direct == pytest.approx(twin.log_posterior().item() - prior, abs=1e-6)


@pytest.mark.parametrize("hyper", HYPERS)
def test_posterior(reference, problem, hyper):
    import torch

    twin = reference.reference_model(problem.measured, problem.y, problem.noise, hyper)
    mean, variance = twin.predict(torch.from_numpy(np.concatenate(problem.views, axis=1)))
    posterior = Posterior(problem.views, hyper, problem.rows, problem.y, problem.noise, np.float64)
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-6)
    np.testing.assert_allclose(posterior.variance, variance, atol=1e-6)


def test_fitted_hyperparameters_are_a_maximum(reference, problem):
    hyper = fit_map(problem.measured, problem.y, problem.noise)
    best = reference.reference_model(problem.measured, problem.y, problem.noise, hyper).log_posterior().item()
    for step in np.random.default_rng(0).standard_normal((20, len(hyper.log))):
        aside = Hyperparameters.from_log(hyper.log + 0.05 * step)
        other = reference.reference_model(problem.measured, problem.y, problem.noise, aside).log_posterior().item()
        assert other < best + 1e-4


def test_decisions_do_not_import_torch():
    code = (
        "import sys, numpy as np\n"
        "from autoexp.agent import Outcome\n"
        "from autoexp.agents import make_agent\n"
        "from autoexp.patches import cut\n"
        "from autoexp.plan import DeepKernelAgent, PatchSpec\n"
        "image = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)\n"
        "agent = make_agent(DeepKernelAgent(seeds=3), cut(image, PatchSpec(pixels=8, stride=8)), 0, 10)\n"
        "for i in range(6):\n"
        "    s = agent.suggest(1)[0]\n"
        "    agent.ingest([Outcome('ok', s.candidate, s.position, float(i))])\n"
        "assert agent.predict() is not None\n"
        "assert not {'torch', 'gpytorch'} & set(sys.modules), 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
