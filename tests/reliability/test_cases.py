"""Every case of the reliability tables as a test, and the tables of the docs against the cases."""

from pathlib import Path

import pytest

from tests.reliability import table
from tests.reliability.expect import Case
from tests.reliability.runner import Skipped


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=str(c), marks=[pytest.mark.slow] * c.slow) for c in table.all_cases()],
)
def test_case(case: Case, tmp_path: Path) -> None:
    try:
        assert case.run(tmp_path)
    except Skipped as reason:
        pytest.skip(str(reason))


def test_the_page_has_the_cases_of_the_table() -> None:
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.START in text
    assert table.page(text) == text, "bring it up to date: python -m tests.reliability --docs"
