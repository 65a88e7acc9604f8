"""The model in gpytorch: the one definition of kernels, priors and marginal likelihood.

The array code in ``kernel``, ``fit`` and ``posterior``, which decides while an experiment runs, is tested equal to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import gpytorch
import numpy as np
import torch
from gpytorch.priors import LogNormalPrior

from autoexp.models.kernel import Array, Floats, Hyperparameters, LogNormal, Priors

NOISE_FLOOR = 1e-6


class AdditiveGP(gpytorch.models.ExactGP):  # type: ignore[misc]
    """A sum of isotropic Matérn-5/2 kernels, one for each view, under log-normal priors; zero mean; float64.

    Args:
        x: (n, Σ d_v) points, their views side by side.
        y: (n,) standardised targets.
        noise: (n,) known noise variances of the targets.
        dims: d_v, the number of columns of each view.
        priors: on the hyperparameters.
    """

    def __init__(
        self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor, dims: Sequence[int], priors: Priors | None = None
    ):
        priors = priors or Priors.of(len(dims))
        with gpytorch.settings.min_fixed_noise(double_value=0.0):
            likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(noise, learn_additional_noise=True)
        likelihood.second_noise_covar = gpytorch.likelihoods.noise_models.HomoskedasticNoise(
            noise_prior=_prior(priors.noise), noise_constraint=gpytorch.constraints.GreaterThan(NOISE_FLOOR)
        )
        super().__init__(x, y, likelihood)
        ends = np.cumsum(dims)
        parts = [
            gpytorch.kernels.ScaleKernel(
                gpytorch.kernels.MaternKernel(
                    nu=2.5, active_dims=range(end - dim, end), lengthscale_prior=_prior(priors.length)
                ),
                outputscale_prior=_prior(priors.variance),
            )
            for dim, end in zip(dims, ends, strict=True)
        ]
        self.mean_module = gpytorch.means.ZeroMean()
        self.covar_module = gpytorch.kernels.AdditiveKernel(*parts)
        self.double()
        self.hyperparameters = priors.modes(len(dims))

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        """The prior at (n, Σ d_v) points."""
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The hyperparameters, as the array code has them."""
        return Hyperparameters(
            np.array([part.outputscale.item() for part in self.covar_module.kernels]),
            np.array([part.base_kernel.lengthscale.item() for part in self.covar_module.kernels]),
            self.likelihood.second_noise_covar.noise.item(),
        )

    @hyperparameters.setter
    def hyperparameters(self, hyper: Hyperparameters) -> None:
        for part, variance, length in zip(self.covar_module.kernels, hyper.variance, hyper.length, strict=True):
            part.outputscale, part.base_kernel.lengthscale = variance, length
        self.likelihood.second_noise_covar.noise = hyper.noise

    def log_posterior(self) -> torch.Tensor:
        """Log marginal likelihood of the targets plus log prior density of the hyperparameters."""
        self.train()
        marginal = gpytorch.mlls.ExactMarginalLogLikelihood(self.likelihood, self)
        value: torch.Tensor = marginal(self(*self.train_inputs), self.train_targets)
        return value * len(self.train_targets)

    def predict(self, x: torch.Tensor) -> tuple[Array, Array]:
        """Mean and variance (m,) of the noise-free target at (m, Σ d_v) points."""
        self.eval()
        with torch.no_grad(), gpytorch.settings.debug(False), gpytorch.settings.fast_pred_var(False):
            prediction = self(x)
            return prediction.mean.numpy(), prediction.variance.numpy()


def reference_model(
    views: tuple[Floats, ...], y: Array, noise: Array, hyper: Hyperparameters, priors: Priors | None = None
) -> AdditiveGP:
    """The gpytorch twin of the array code; arguments as for ``autoexp.models.fit.Objective``."""
    x = torch.from_numpy(np.concatenate(views, axis=1).astype(np.float64))
    dims = [view.shape[1] for view in views]
    model = AdditiveGP(x, torch.from_numpy(np.array(y)), torch.from_numpy(np.array(noise)), dims, priors)
    model.hyperparameters = hyper
    return model


def _prior(prior: LogNormal) -> LogNormalPrior:
    return LogNormalPrior(prior.loc, prior.sigma)
