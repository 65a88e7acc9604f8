"""The list of deliberate faults fits the source as it is now; ``make mutants`` judges them."""

from __future__ import annotations

import mutation
import pytest


@pytest.mark.parametrize("mutant", mutation.read_list(), ids=lambda mutant: mutant.name)
def test_a_fault_can_be_put_in_and_there_are_tests_to_find_it(mutant):
    assert mutant.applied(mutation.ROOT) != (mutation.ROOT / mutant.file).read_text(encoding="utf-8")
    for name in mutant.tests:
        assert (mutation.ROOT / "tests" / name.split("::")[0]).is_file(), name


def test_a_fault_that_no_longer_fits_is_said(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\ny = 2\n", encoding="utf-8")
    given = {"name": "a", "file": "a.py", "tests": ()}
    assert mutation.Mutant(old="y = 2", new="y = 3", **given).applied(tmp_path).endswith("y = 3\n")
    for old, new in (("z", "x"), ("x = 1", "x = 2"), ("y = 2", "y =")):
        with pytest.raises(mutation.BrokenMutantError, match=r"occurs|no Python"):
            mutation.Mutant(old=old, new=new, **given).applied(tmp_path)


@pytest.mark.parametrize(
    ("code", "output", "word"),
    [
        (0, "3 passed", "survived"),
        (1, "FAILED tests/a.py::test - x", "found"),
        (None, "", "found"),
        (2, "ERROR tests/a.py - ImportError", "broken"),
        (4, "file not found", "broken"),
        (5, "no tests ran", "broken"),
    ],
)
def test_what_an_end_of_the_tests_means(code, output, word):
    assert mutation._meaning(code, output)[0] == word
