"""All cases, in the order of the table, and the tables of docs/reliability.md made of them."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path

from tests.reliability.case import Case

MODULES = (
    "cases_dicom",
    "cases_dicom_series",
    "cases_dicom_pixels",
    "cases_dicom_syntaxes",
    "cases_dicom_files",
    "cases_nifti",
    "cases_itk",
    "cases_paths",
    "cases_outputs",
    "cases_models",
    "cases_zones",
    "cases_privacy",
    "cases_damage",
    "cases_derived",
    "cases_collections",
    "kills",
    "disks",
    "contests",
    "memory",
    "resumes",
)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
START = "<!-- tables: python -m tests.reliability --docs -->"
END = "<!-- end of tables -->"


def all_cases() -> list[Case]:
    """The cases of every module. Raises ValueError for a name used twice in a group."""
    cases = [case for m in MODULES for case in import_module(f"tests.reliability.{m}").CASES]
    twice = [name for name, n in Counter(map(str, cases)).items() if n > 1]
    if twice:
        raise ValueError(f"two cases of one name: {', '.join(twice)}")
    return cases


def page(text: str) -> str:
    """``text`` with its tables replaced by those of the cases: a heading and a table for each group."""
    groups: dict[str, list[str]] = {}
    for case in all_cases():
        row = f"| {_cell(case.name)} | {_cell(case.should)} |"
        groups.setdefault(case.group, ["| fed | what happens |", "|---|---|"]).append(row)
    tables = "\n\n".join(f"### {group}\n\n" + "\n".join(rows) for group, rows in groups.items())
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{tables}\n\n{END}{rest.partition(END)[2]}"


def write() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")
