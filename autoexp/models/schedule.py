"""When hyperparameters are fitted anew, and from when on each fit is in force.

A refit takes longer than an exposure, so it is only in force some outcomes later, and is made meanwhile. All of it
depends on nothing but the number of outcomes and of candidates, never on the clock: whoever learns the same outcomes
decides the same. That nobody waits for a refit is a matter of leaving it enough outcomes. Few outcomes among few
candidates are fitted in a few exposures of 50 ms; beyond that the work grows with both, and so do the distances.
"""

from __future__ import annotations

OVERLAP = 40
"""For every so many outcomes that an early refit rests on, it is in force one outcome later."""
SETTLED = 240
"""Outcomes up to which refits are frequent: beyond, hyperparameters change little, and a refit takes seconds."""
FEW, MANY = 10_000, 100_000
"""Candidates between which the way of an early refit into force grows in proportion, to ten times as long."""
STRIDE = 500
"""Outcomes between refits, and from a refit until it is in force, at most: it bounds what is learned in between."""


def lag(at: int, candidates: int = 0) -> int:
    """How many outcomes after the ``at``-th a refit to those is in force, among so many candidates.

    >>> lag(200), lag(200, 100_000), lag(1000), lag(9000)
    (5, 50, 250, 500)
    """
    if at <= SETTLED:
        return at * min(max(candidates, FEW), MANY) // (OVERLAP * FEW)
    return min(at // 4, STRIDE)


def following(at: int, every: int, candidates: int = 0) -> int:
    """When the refit after the one at ``at`` is due.

    Args:
        at: outcomes that the earlier one rests on.
        every: outcomes between refits, at least.
        candidates: how many there are.
    """
    if at <= SETTLED:
        return at + max(every, at // 10, lag(at, candidates))
    return at + max(every, min(at, STRIDE))


def refits(n: int, first: int, every: int, candidates: int = 0) -> list[int]:
    """At which numbers of outcomes, up to ``n``, the hyperparameters are fitted; ever sparser, as they settle.

    >>> refits(30, 10, 5)
    [10, 15, 20, 25, 30]
    >>> refits(3000, 10, 5)[-7:]
    [220, 242, 484, 968, 1468, 1968, 2468, 2968]
    """
    counts = [first]
    while (later := following(counts[-1], every, candidates)) <= n:
        counts.append(later)
    return counts


def in_force(n: int, first: int, every: int, candidates: int = 0) -> int:
    """After how many outcomes the fit was made that is in force at ``n``: the first at once, others a little later.

    >>> [in_force(n, 10, 5) for n in (10, 15, 40, 41, 46, 200, 204, 301, 302)]
    [10, 15, 35, 40, 45, 196, 196, 220, 242]
    """
    made = reversed(refits(n, first, every, candidates))
    return next(at for at in made if at == first or n >= at + lag(at, candidates))


def replaced(at: int, every: int, candidates: int = 0) -> int:
    """From how many outcomes on the refit at ``at`` is no longer in force."""
    later = following(at, every, candidates)
    return later + lag(later, candidates)
