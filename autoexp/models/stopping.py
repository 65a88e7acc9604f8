"""When to stop: what may still be missed, as a probability that holds whatever the candidates have in common.

Any one candidate c is better than the best measured one, b, by more than ε with the probability Φ((m_c - m_b - ε) / s),
and the standard deviation s of the difference of two targets is at most the sum of theirs. The chance that any of them
is, is at most the sum over all (Boole's inequality). With the model right, stopping at a sum of δ therefore leaves a
regret of at most ε with a probability of at least 1 - δ: a probabilistic regret bound (Wilson 2024, "Stopping Bayesian
optimization with probabilistic regret bounds", there by sampling; here in closed form, on the safe side).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from autoexp.models.kernel import Array

TINY = 1e-12


def chance_of_better(mean: Array, std: Array, free: npt.NDArray[np.bool_], best: int, within: float) -> float:
    """Upper bound on the chance that a free candidate exceeds the best measured one by more than ``within``.

    Args:
        mean: (n,) of the noise-free target, which is to be maximised.
        std: (n,) its standard deviation.
        free: (n,) which candidates count.
        best: the measured candidate of the highest mean.
        within: what does not matter, in units of the target.
    """
    sigma = np.maximum(std[free] + std[best], TINY)
    return float(min(1.0, special.ndtr((mean[free] - mean[best] - within) / sigma).sum()))
