"""All cases, in the order of the table, and the tables of docs/reliability.md made of them."""

from collections import Counter
from importlib import import_module

from tests.reliability.expect import Case
from tests.reliability.runner import ROOT

MODULES = """cases_dicom cases_dicom_pixels cases_dicom_syntaxes cases_dicom_files cases_nifti cases_itk
cases_paths cases_outputs cases_models cases_zones cases_privacy cases_damage cases_derived kills faults
limits""".split()
PAGE = ROOT / "docs" / "reliability.md"
START, END = "<!-- tables: python -m tests.reliability --docs -->", "<!-- end of tables -->"


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
        cells = (c.replace("|", r"\|").replace("<", "&lt;") for c in (case.name, case.should))
        groups.setdefault(case.group, []).append(f"| {' | '.join(cells)} |\n")
    heading = "| fed | what happens |\n|---|---|\n"
    tables = "\n".join(f"### {g}\n\n{heading}{''.join(rows)}" for g, rows in groups.items())
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{tables}\n{END}{rest.partition(END)[2]}"
