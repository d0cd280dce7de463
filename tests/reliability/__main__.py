"""``python -m tests.reliability``: run every case and print the table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.reliability import docs
from tests.reliability.case import Case, Skipped
from tests.reliability.registry import all_cases

_COLOURS = {"right": "green", "wrong": "bold red", "skipped": "yellow"}


def main() -> int:
    """Run what the arguments ask for; 1 if a case went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--group", help="only groups whose heading contains this")
    parser.add_argument("--name", help="only cases whose name contains this")
    parser.add_argument("--fast", action="store_true", help="leave out what takes long")
    parser.add_argument("--docs", action="store_true", help="write the tables into the docs")
    asked = parser.parse_args()
    if asked.docs:
        docs.write()
        return 0
    cases = [c for c in all_cases() if _wanted(c, asked)]
    return report(cases)


def _wanted(case: Case, asked: argparse.Namespace) -> bool:
    texts = ((asked.group, case.group), (asked.name, case.name))
    return all(part is None or part.lower() in text.lower() for part, text in texts) and not (
        asked.fast and case.slow
    )


def report(cases: list[Case]) -> int:
    """Run the cases, group by group, and print what happened."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    totals = {"right": 0, "wrong": 0, "skipped": 0}
    began = time.perf_counter()
    for group in dict.fromkeys(c.group for c in cases):
        table = Table("fed", "should", "did", "", title=group, title_justify="left", expand=True)
        members = [c for c in cases if c.group == group]
        for case in members:
            verdict, happened = run(case)
            totals[verdict] += 1
            if console.is_terminal:
                console.print(f"{sum(totals.values())} of {len(cases)}", end="\r")
            colour = _COLOURS[verdict]
            table.add_row(
                *map(_escaped, (case.name, case.should, happened)), f"[{colour}]{verdict}"
            )
        console.print(table)
        console.print(_line(totals, len(cases)))
    console.print(f"{time.perf_counter() - began:.0f} s")
    return int(totals["wrong"] > 0)


def run(case: Case) -> tuple[str, str]:
    """Run one case in a folder of its own: right, wrong or skipped, and what happened."""
    with tempfile.TemporaryDirectory(prefix="case-", ignore_cleanup_errors=True) as folder:
        try:
            return "right", case.run(Path(folder).resolve())
        except Skipped as reason:
            return "skipped", str(reason)
        except AssertionError as error:
            return "wrong", str(error) or "the assertion has no words"
        except Exception as error:
            return "wrong", f"the case itself failed: {type(error).__name__}: {error}"


def _line(totals: dict[str, int], count: int) -> str:
    parts = [f"{n} {verdict}" for verdict, n in totals.items()]
    return f"{sum(totals.values())} of {count}: {', '.join(parts)}\n"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    sys.exit(main())
