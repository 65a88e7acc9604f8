"""Offline replay: which policy and which scalarizer would have worked on recorded data?

>>> from autoexp import campaigns
>>> result = campaigns.replay("session.npz", scalarizer=campaigns.parse_scalarizer(text), budget=100, seeds=5)
>>> result.summary()
"""

from autoexp.campaigns.campaign import Campaign, Checkpoint, Replay, Run, replay, summarize
from autoexp.campaigns.datasets import Dataset, from_arrays, load
from autoexp.campaigns.formats import DatasetError, Raw
from autoexp.campaigns.verification import Verification, verify
from autoexp.scalarizers import parse_scalarizer

__all__ = [
    "Campaign",
    "Checkpoint",
    "Dataset",
    "DatasetError",
    "Raw",
    "Replay",
    "Run",
    "Verification",
    "from_arrays",
    "load",
    "parse_scalarizer",
    "replay",
    "summarize",
    "verify",
]
