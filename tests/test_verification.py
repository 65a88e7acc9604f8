"""A journal that makes no sense is refused in words when its decisions are to be made again."""

from __future__ import annotations

import numpy as np
import pytest
from folders import a_run, edit

from autoexp.campaigns.verification import verify
from autoexp.errors import AutoexpError
from autoexp.runlog import RunLog


def decided(**changes):
    """Let the last decision of a run say something else."""

    def change(records):
        last = [r["event"] for r in records if r["event"]["type"] == "decided"][-1]
        last.update(changes)
        return records

    return change


def test_a_journal_by_hand_is_verified(tmp_path):
    found = verify(a_run(tmp_path / "run"))
    assert found.decisions == 4 and found.reproduced < 4


@pytest.mark.parametrize(
    "change",
    [
        decided(pending=[77]),
        decided(known=1, pending=[0, 1, 99]),
        lambda records: [records[0], records[1], records[-1]],
        lambda records: [r for r in records if r["event"]["type"] != "decided"],
        lambda records: records[1:],
    ],
)
def test_what_contradicts_itself_is_refused_in_words(tmp_path, change):
    folder = a_run(tmp_path / "run")
    edit(folder, change)
    with pytest.raises(AutoexpError):
        verify(folder)


@pytest.mark.parametrize("image", [np.zeros(5), np.zeros((2, 2, 2)), np.array(["x"]), np.zeros((8, 8), complex)])
def test_an_overview_that_is_none_is_refused_in_words(tmp_path, image):
    folder = a_run(tmp_path / "run")
    with RunLog(folder) as log:
        ref = log.save_array("overview", image)

    def another(records):
        for record in records:
            if record["event"]["type"] == "prepared":
                record["event"]["overview"] = ref.model_dump()
        return records

    edit(folder, another)
    with pytest.raises(AutoexpError, match="overview"):
        verify(folder)
