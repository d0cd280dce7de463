"""``python -m tests.reliability``: run every case and print the table."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.reliability import table
from tests.reliability.expect import Case
from tests.reliability.runner import Skipped

_COLOURS = {"right": "green", "wrong": "bold red", "skipped": "yellow"}


def main() -> int:
    """Run what the arguments ask for; 1 if a case went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--group", default="", help="only groups whose heading contains this")
    parser.add_argument("--name", default="", help="only cases whose name contains this")
    parser.add_argument("--fast", action="store_true", help="leave out what takes long")
    parser.add_argument("--docs", action="store_true", help="write the tables into the docs")
    asked = parser.parse_args()
    if asked.docs:
        text = table.page(table.PAGE.read_text(encoding="utf-8"))
        table.PAGE.write_text(text, encoding="utf-8")
        return 0
    cases = [
        case
        for case in table.all_cases()
        if asked.group.lower() in case.group.lower()
        and asked.name.lower() in case.name.lower()
        and not (asked.fast and case.slow)
    ]
    return report(cases)


def report(cases: list[Case]) -> int:
    """Run the cases, group by group, and print what happened."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    totals = Counter(dict.fromkeys(_COLOURS, 0))
    began = time.perf_counter()
    for group in dict.fromkeys(c.group for c in cases):
        rows = Table("fed", "should", "did", "", title=group, title_justify="left", expand=True)
        for case in (c for c in cases if c.group == group):
            verdict, happened = run(case)
            totals[verdict] += 1
            if console.is_terminal:
                console.print(f"{totals.total()} of {len(cases)}", end="\r")
            words = map(escape, (case.name, case.should, happened))
            rows.add_row(*words, f"[{_COLOURS[verdict]}]{verdict}")
        console.print(rows)
        parts = ", ".join(f"{n} {verdict}" for verdict, n in totals.items())
        console.print(f"{totals.total()} of {len(cases)}: {parts}\n")
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


if __name__ == "__main__":
    sys.exit(main())
