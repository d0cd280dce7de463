"""The tables of docs/reliability.md, made from the registry."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.registry import all_cases

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
START = "<!-- tables: python -m tests.reliability --docs -->"
END = "<!-- end of tables -->"


def tables() -> str:
    """A heading and a table for each group of cases."""
    parts = []
    cases = all_cases()
    for group in dict.fromkeys(c.group for c in cases):
        rows = [f"| {_cell(c.name)} | {_cell(c.should)} |" for c in cases if c.group == group]
        parts.append("\n".join([f"### {group}\n", "| fed | what happens |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def page(text: str) -> str:
    """``text`` with its tables replaced by those of the registry."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{tables()}\n\n{END}{after}"


def write() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")
