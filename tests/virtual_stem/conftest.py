"""What these tests share."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # for plain_specimens


@pytest.fixture(scope="session")
def recorded_data() -> pathlib.Path:
    """The folder of recorded data; a test that wants it is skipped where it is missing."""
    beside = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
    folder = pathlib.Path(os.environ.get("AUTOEXP_DATA", beside))
    if not (folder / "cuzn_eels.npz").is_file():
        pytest.skip(f"no recorded data in {folder}; set AUTOEXP_DATA to the folder that holds cuzn_eels.npz")
    return folder
