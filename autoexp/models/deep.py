"""Deep kernel learning as published: a network on the patches, trained together with a Gaussian process on its output.

Wilson et al. 2016, "Deep kernel learning"; for microscopes Roccapriore et al. 2022 and Ziatdinov et al. 2022. As
published it fails both ways: after a hundred iterations it has learned little, after six hundred it has learned the
points by heart, and its intervals cover a tenth of what they should (Ober et al. 2021 say why). The leave-one-out
density does not see that, since the network has seen the point that is left out: stopped by it, intervals that claim
90 % held 34 to 59 % of new measurements. So a quarter of the points is held back from the network. Training stops where
their density is best, and the hyperparameters maximise their probability given the other points (the conditional
marginal likelihood, Lotfi et al. 2022). And since one such network is a matter of luck, several are trained, each with
another quarter held back, and the candidates are described by all of them at once. Decision 0010 has the figures of
these remedies and of those that did less. The frozen views still predict better, find more, and cost a hundredth.

Or the network joins them, where it helps: where the points that were held back from everything, the network included,
are more probable with its view than without it.
"""

from __future__ import annotations

import copy
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import optimize

from autoexp.errors import MissingDependencyError
from autoexp.models.features import View, Views, standardised
from autoexp.models.fit import REACH, Objective, fit_map
from autoexp.models.kernel import Array, Floats, Hyperparameters, Priors, log_density
from autoexp.models.posterior import Posterior
from autoexp.models.surrogate import ALL, POSITION, Fit, FrozenViews, Rows
from autoexp.models.tiles import Frame
from autoexp.patches import Candidates

if TYPE_CHECKING:
    import torch

INSTALL = "pip install torch==2.13.0 gpytorch"

HIDDEN = (64, 32)
EMBEDDING = 2
STEPS = 150
PATIENCE = 30
RATE = 0.01
DECAY = 1.0
HELD_BACK = 4
CHUNK = 8192
MEMBERS = 4
FEWEST = 20
"""Points from which on a network may join the frozen views."""
WITH_NETWORK = "with the network"


class DeepKernel:
    """A model whose one view is learned.

    Args:
        candidates: where one may measure.
        views: the frozen views, which serve until a network is trained.
        seed: the run's seed; it draws the networks' first weights.
        members: how many networks.

    Raises:
        MissingDependencyError: torch or gpytorch is not installed.
    """

    def __init__(self, candidates: Candidates, views: Views, seed: int, members: int = MEMBERS):
        require_torch()
        self._members = members
        self._candidates = candidates
        self._frozen = FrozenViews(views)
        self._frame = Frame.of(candidates)
        self._seed = seed

    @property
    def initial(self) -> Fit:
        return self._frozen.initial

    def fit(self, rows: Rows, y: Array, noise: Array) -> Fit:
        """Train the networks on the measured patches, describe all candidates by them, fit the kernel to that."""
        view = self.view(rows, y, noise)
        hyper = _conditional_map(view[rows], y, noise, ~held_back(self._seed, len(y)))
        return Fit(Views(("deep",), (view,)), hyper)

    def view(self, rows: Rows, y: Array, noise: Array) -> View:
        """What the networks, trained on some candidates, make of all candidates: (N, 2 members), standardised."""
        import torch

        x = torch.from_numpy(self._patches(rows))
        networks = []
        for member in range(self._members):
            network = _network(x.shape[1], torch.Generator().manual_seed((self._seed + 1000 * member) % 2**64))
            _train(network, x, y, noise, held_back(self._seed, len(y), member + 1))
            networks.append(network)
        with torch.no_grad():
            chunks = np.array_split(np.arange(len(self._candidates)), -(-len(self._candidates) // CHUNK))
            parts = [torch.from_numpy(self._patches(chunk)) for chunk in chunks]
            embedded = [np.concatenate([network(part).numpy() for part in parts]) for network in networks]
        return standardised(np.concatenate(embedded, axis=1))

    def _patches(self, rows: Rows) -> npt.NDArray[np.float64]:
        return self._frame.patches(self._candidates, rows).astype(np.float64)


class JoinedKernel:
    """The frozen views, and a network as one more view where the evidence says that it helps.

    Args:
        candidates: where one may measure.
        views: the frozen views.
        seed: the run's seed.

    Raises:
        MissingDependencyError: torch or gpytorch is not installed.
    """

    def __init__(self, candidates: Candidates, views: Views, seed: int):
        self._frozen = FrozenViews(views)
        self._deep = DeepKernel(candidates, views, seed, members=1)
        self._seed = seed

    @property
    def initial(self) -> Fit:
        return self._frozen.initial

    def fit(self, rows: Rows, y: Array, noise: Array) -> Fit:
        """Compare on points that neither the network nor the hyperparameters have seen, then fit to all of them."""
        if len(y) < FEWEST:
            return self._frozen.fit(rows, y, noise)
        frozen, held = self._frozen.views, held_back(self._seed, len(y))
        trial = self._with(self._deep.view(rows[~held], y[~held], noise[~held]))
        without, joined, blind = (
            _foreseen(tuple(view[rows] for view in arrays), y, noise, held)
            for arrays in (frozen.arrays, trial.arrays, frozen.arrays[-1:])
        )
        density = {ALL: float(without.mean()), WITH_NETWORK: float(joined.mean()), POSITION: float(blind.mean())}
        gain = joined - without
        helps = gain.mean() > gain.std() / np.sqrt(len(gain))  # by more than its own standard error
        views = self._with(self._deep.view(rows, y, noise)) if helps else frozen
        return Fit(views, fit_map(tuple(view[rows] for view in views.arrays), y, noise), density)

    def _with(self, view: View) -> Views:
        frozen = self._frozen.views
        *structure, position = frozen.arrays
        return Views((*frozen.names[:-1], "deep", "position"), (*structure, view, position))


def held_back(seed: int, n: int, member: int = 0) -> npt.NDArray[np.bool_]:
    """A random quarter of n points, (n,); another one for each member of an ensemble."""
    return np.random.default_rng([seed, n, member]).permutation(n) < max(1, n // HELD_BACK)


def require_torch() -> None:
    """Import the libraries of the deep kernel.

    Raises:
        MissingDependencyError: one is missing or broken; the message holds the line that installs it.
    """
    for name in ("torch", "gpytorch"):
        try:
            import_module(name)
        except (ImportError, OSError) as error:  # a broken library fails to load as often as a missing one
            raise MissingDependencyError(
                f"The deep kernel needs {name}, which cannot be imported ({error}). Install it with: {INSTALL}. "
                "The default kernel, 'views', does without."
            ) from error


def _network(inputs: int, generator: torch.Generator) -> torch.nn.Sequential:
    """A perceptron in float64 whose first weights come from the generator, not from torch's global one."""
    import torch
    from torch import nn

    sizes = (inputs, *HIDDEN, EMBEDDING)
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, wide, narrow, dtype=torch.float64)  # type: ignore[no-untyped-call]
        nn.init.xavier_normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _scaled(embedding: torch.Tensor, all_of_them: torch.Tensor) -> torch.Tensor:
    """The embedding as wide as a standardised view, so that the model's priors hold for it."""
    spread = (all_of_them.var(0, correction=0).sum() + 1e-12).sqrt()
    return (embedding - all_of_them.mean(0)) / spread


def _train(network: torch.nn.Module, x: torch.Tensor, y: Array, noise: Array, held: npt.NDArray[np.bool_]) -> None:
    """Ascend the log posterior of network and kernel; leave the network as it predicted the held points best."""
    import torch

    from autoexp.models.reference import AdditiveGP

    used = torch.from_numpy(~held)
    gp = AdditiveGP(network(x[used]).detach(), torch.tensor(y[~held]), torch.tensor(noise[~held]), [EMBEDDING])
    decaying = {"params": network.parameters(), "weight_decay": DECAY}
    optimizer = torch.optim.AdamW([decaying, {"params": gp.parameters(), "weight_decay": 0.0}], lr=RATE)
    best, waited, kept = -np.inf, 0, copy.deepcopy(network.state_dict())
    for _ in range(STEPS):
        optimizer.zero_grad()
        z = network(x)
        z = _scaled(z, z[used])
        gp.set_train_data(z[used], strict=False)
        mean, variance = gp.predict(z[~used].detach())
        density = log_density(y[held] - mean, variance + gp.hyperparameters.noise + noise[held]).sum()
        if density > best:
            best, waited, kept = density, 0, copy.deepcopy(network.state_dict())
        elif (waited := waited + 1) > PATIENCE:
            break
        (-gp.log_posterior() / len(x)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.load_state_dict(kept)


def _conditional_map(view: Floats, y: Array, noise: Array, used: npt.NDArray[np.bool_]) -> Hyperparameters:
    """Hyperparameters that maximise log p(held targets | used targets) + log prior, the network being what it is."""
    priors = Priors.of(1)
    everything = Objective((view,), y, noise, priors)
    seen = Objective((view[used],), y[used], noise[used], priors)

    def objective(log: Array) -> tuple[float, Array]:
        (joint, joint_slope), (marginal, slope) = everything(log), seen(log)
        prior = priors.log_density(Hyperparameters.from_log(log))  # both objectives hold it, and it cancels
        return joint - marginal - prior, joint_slope - slope - priors.slope(log)

    start = priors.modes(1).log
    bounds = list(zip(start - REACH, start + REACH, strict=True))
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return Hyperparameters.from_log(found.x)


def _foreseen(views: tuple[Floats, ...], y: Array, noise: Array, held: npt.NDArray[np.bool_]) -> Array:
    """Log density of each held target given the others, the hyperparameters being fitted to those alone."""
    used = ~held
    hyper = fit_map(tuple(view[used] for view in views), y[used], noise[used])
    posterior = Posterior(views, hyper, np.flatnonzero(used), y[used], noise[used], np.float64)
    variance = posterior.variance[held] + hyper.noise + noise[held]
    return log_density(y[held] - posterior.mean[held], variance)
