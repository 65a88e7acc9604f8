"""An agent of one's own: it goes to the brightest patches first, but keeps its distance from where it was."""

import numpy as np

from autoexp.agent import Outcome, Suggestion
from autoexp.testing import check_agent


class BrightAndApart:
    """Brightness of a patch, less a penalty that fades with the distance from all points so far.

    Args:
        candidates: where it may measure.
        distance: how far the penalty reaches, fractions of the field.
    """

    name = "bright-and-apart"

    def __init__(self, candidates, distance=0.1):
        brightness = candidates.patches(np.arange(len(candidates))).mean(axis=(1, 2))
        self._score = (brightness - brightness.mean()) / brightness.std()
        self._candidates = candidates
        self._distance = distance
        self._free = candidates.allowed.copy()
        self._measured = []

    def suggest(self, n, pending=()):
        """Up to n positions; nothing twice, nothing that is pending, nothing where regions forbid."""
        free = self._free.copy()
        places = [*self._measured, *(s.position for s in pending)]
        free[[s.candidate for s in pending if s.candidate is not None]] = False
        found = []
        while len(found) < n and free.any():
            worth = np.where(free, self._score - self._crowding(places), -np.inf)
            index = int(worth.argmax())
            y, x = map(float, self._candidates.positions[index])
            reason = "bright, and far from all points so far"
            found.append(Suggestion(index, (y, x), reason, acquisition=float(worth[index])))
            places.append((y, x))
            free[index] = False
        return found

    def ingest(self, outcomes):
        """Remember where a spectrum was exposed, whatever came of it."""
        for outcome in outcomes:
            self._measured.append(outcome.position)
            if outcome.candidate is not None:
                self._free[outcome.candidate] = False

    def _crowding(self, places):
        """How crowded it is round every candidate (n,)."""
        if not places:
            return 0.0
        away = self._candidates.positions[:, None] - np.asarray(places)[None]
        return 3 * np.exp(-((away / self._distance) ** 2).sum(axis=2) / 2).sum(axis=1)


def replayed(agent, candidates, values, points):
    """What an agent finds where the value of every candidate is known: the best value after each point."""
    best = []
    for _ in range(points):
        (suggestion,) = agent.suggest(1)
        value = float(values[suggestion.candidate])
        agent.ingest([Outcome("ok", suggestion.candidate, suggestion.position, value)])
        best.append(max(value, best[-1]) if best else value)
    return best


if __name__ == "__main__":
    check_agent(BrightAndApart)
    print("keeps to the border")
