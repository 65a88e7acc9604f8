"""Deep kernel learning as published: a network on the patches, trained together with a Gaussian process on its output.

Wilson et al. 2016, "Deep kernel learning"; for microscopes Ziatdinov et al. 2022 and Roccapriore et al. 2022. As
published it fails both ways: after a hundred iterations it has learned little, after six hundred it has learned the
points by heart, and its intervals cover a tenth of what they should (Ober et al. 2021 say why). Here the kernel is
exact, targets are standardised, everything is float64, weights decay, and training stops where the leave-one-out
density is best. That makes it usable; the frozen views are better calibrated, and a hundred times faster.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autoexp.errors import MissingDependencyError
from autoexp.models.features import Views
from autoexp.models.kernel import Array
from autoexp.models.surrogate import Fit, FrozenViews, Rows
from autoexp.models.tiles import Frame
from autoexp.patches import Candidates

if TYPE_CHECKING:
    import torch

    from autoexp.models.reference import AdditiveGP

INSTALL = "pip install torch==2.13.0 gpytorch"

HIDDEN = (64, 32)
EMBEDDING = 2
STEPS = 200
PATIENCE = 40
RATE = 0.01
DECAY = 0.05
CHUNK = 8192


class DeepKernel:
    """A model whose one view is learned.

    Args:
        candidates: where one may measure.
        views: the frozen views, which serve until a network is trained.
        seed: the run's seed; it draws the network's first weights.

    Raises:
        MissingDependencyError: torch or gpytorch is not installed.
    """

    def __init__(self, candidates: Candidates, views: Views, seed: int):
        require_torch()
        self._candidates = candidates
        self._frozen = FrozenViews(views)
        self._frame = Frame.of(candidates)
        self._seed = seed

    @property
    def initial(self) -> Fit:
        return self._frozen.initial

    def fit(self, rows: Rows, y: Array, noise: Array) -> Fit:
        """Train network and kernel together on the measured patches, then describe all candidates by the network."""
        import torch

        from autoexp.models.reference import AdditiveGP

        x = torch.from_numpy(self._patches(rows))
        network = _network(x.shape[1], torch.Generator().manual_seed(self._seed))
        gp = AdditiveGP(_scaled(network(x)).detach(), torch.tensor(y), torch.tensor(noise), [EMBEDDING])
        _train(network, gp, x)
        with torch.no_grad():
            chunks = np.array_split(np.arange(len(self._candidates)), -(-len(self._candidates) // CHUNK))
            centre, spread = _moments(network(x))
            parts = [((network(torch.from_numpy(self._patches(c))) - centre) / spread).numpy() for c in chunks]
        return Fit(Views(("deep",), (np.concatenate(parts).astype(np.float32),)), gp.hyperparameters)

    def _patches(self, rows: Rows) -> npt.NDArray[np.float64]:
        return self._frame.patches(self._candidates, rows).astype(np.float64)


def require_torch() -> None:
    """See that the libraries of the deep kernel are there.

    Raises:
        MissingDependencyError: they are not; the message holds the line that installs them.
    """
    missing = [name for name in ("torch", "gpytorch") if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"The deep kernel needs {' and '.join(missing)}. Install with: {INSTALL}. "
            "The default kernel, 'views', needs neither."
        )


def _network(inputs: int, generator: torch.Generator) -> torch.nn.Sequential:
    """A perceptron in float64 whose first weights come from the generator, not from torch's global one."""
    import torch
    from torch import nn

    sizes = (inputs, *HIDDEN, EMBEDDING)
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, wide, narrow, dtype=torch.float64)
        nn.init.xavier_normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _moments(embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Column means and the root of the total variance of the measured points' embedding."""
    return embedding.mean(0), embedding.var(0, correction=0).sum().sqrt().clamp_min(1e-6)


def _scaled(embedding: torch.Tensor) -> torch.Tensor:
    """The embedding as wide as a standardised view, so that the model's priors hold for it."""
    centre, spread = _moments(embedding)
    return (embedding - centre) / spread


def _train(network: torch.nn.Module, gp: AdditiveGP, x: torch.Tensor) -> None:
    """Ascend the log posterior of network and kernel; keep the state whose leave-one-out density was best."""
    import torch

    optimizer = torch.optim.AdamW([
        {"params": network.parameters(), "weight_decay": DECAY},
        {"params": gp.parameters(), "weight_decay": 0.0},
    ], lr=RATE)
    best, waited, kept = -np.inf, 0, None
    for _ in range(STEPS):
        optimizer.zero_grad()
        gp.set_train_data(_scaled(network(x)), strict=False)
        density = gp.leave_one_out_density()
        if density > best:
            best, waited, kept = density, 0, (copy.deepcopy(network.state_dict()), gp.hyperparameters)
        elif (waited := waited + 1) > PATIENCE:
            break
        (-gp.log_posterior() / len(x)).backward()
        optimizer.step()
    assert kept is not None
    network.load_state_dict(kept[0])
    gp.hyperparameters = kept[1]
