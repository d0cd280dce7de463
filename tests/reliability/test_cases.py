"""Every case of the reliability tables as a test, and the tables of the docs against the cases."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import table
from tests.reliability.expect import Case
from tests.reliability.runner import Skipped

#: One promise each, under many faults: of these groups the gate tries two cases.
TRIED_TWICE = (
    "Disks",
    "Hostile bytes",
    "Killed while writing",
    "Memory",
    "Patient data",
    "Runs that meet or are stopped",
    "Training",
)


def marked() -> Iterator[Any]:
    """The cases, those that the gate leaves out marked slow."""
    tried = Counter[str]()
    for case in table.all_cases():
        tried[case.group] += not case.slow
        slow = case.slow or (case.group in TRIED_TWICE and tried[case.group] > 2)
        yield pytest.param(case, id=str(case), marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize("case", list(marked()))
def test_case(case: Case, tmp_path: Path) -> None:
    try:
        assert case.run(tmp_path)
    except Skipped as reason:
        pytest.skip(str(reason))


def test_the_page_has_the_cases_of_the_table() -> None:
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.START in text
    assert table.page(text) == text, "bring it up to date: python -m tests.reliability --docs"
