"""The simulated instruments once more, in torch: millions of moves a second, and differentiable by the moves.

The physics are those of :class:`autoexp.training.instruments.Instruments`, from which the instruments are taken; here
a state goes in and a state comes out, so that a gradient can flow through as many moves as one likes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from autoexp.training.instruments import HALF_PX, VISIBLE_PX, Instruments


class Disks(NamedTuple):
    """Where n disks are: positions (n, 2) in pixels, and what is still to come of the moves before (n, 2)."""

    positions: torch.Tensor
    late: torch.Tensor

    @property
    def seen(self) -> torch.Tensor:
        """Which disks (n,) are on their cameras."""
        return (self.positions.abs() < VISIBLE_PX).all(dim=1)


class TorchInstruments:
    """n instruments, the same as some simulated ones.

    Args:
        instruments: of which they are the twins, with their disks where they are now.
        seed: of the noise.
        dtype: of all tensors.
        device: where they are.

    Attributes:
        disks: where the disks were when this was made.
        goals: (n, 2) where they should be.
    """

    def __init__(
        self,
        instruments: Instruments,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ):
        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=device)

        self._random = torch.Generator(device).manual_seed(seed)
        p = instruments.properties
        self._response, self._drift, self._slope = tensor(p.response), tensor(p.drift), tensor(p.slope) / HALF_PX
        self._lag, self._action_noise = tensor(p.lag)[:, None], tensor(p.action_noise)[:, None]
        self._read_noise, self._rounded = tensor(p.read_noise)[:, None], instruments.ranges.rounded
        self.disks = Disks(tensor(instruments.positions), tensor(p.late))
        self.goals = tensor(instruments.goals)

    def __len__(self) -> int:
        return len(self.goals)

    def move(self, disks: Disks, moves: torch.Tensor) -> Disks:
        """Where disks are after moves (n, 2) of the controls, in their own units."""
        asked = (self._response * moves[:, None]).sum(dim=2)
        place = disks.positions.clamp(-HALF_PX, HALF_PX)
        shift = (1 + (self._slope * place).sum(dim=1, keepdim=True)) * asked
        length = (asked.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
        shift = shift + self._action_noise * length * self._noise()
        return Disks(disks.positions + (1 - self._lag) * shift + disks.late + self._drift, self._lag * shift)

    def measure(self, disks: Disks) -> torch.Tensor:
        """Positions (n, 2) as the cameras show them, also of disks that are not seen; see :attr:`Disks.seen`.

        Rounding lets gradients pass as if it were not there (straight-through estimator: Bengio et al. 2013).
        """
        found = disks.positions + self._read_noise * self._noise()
        return found + (found.round() - found).detach() if self._rounded else found

    def _noise(self) -> torch.Tensor:
        goals = self.goals
        return torch.randn(goals.shape, generator=self._random, dtype=goals.dtype, device=goals.device)
