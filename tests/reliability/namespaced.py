"""Runs the cases that need disks, and prints what came of them as JSON; started by ``disks.py``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.reliability import disks, resumes
from tests.reliability.case import Skipped


def main() -> None:
    """Run each case in a folder of its own."""
    found: dict[str, tuple[str, str]] = {}
    for case in (*disks.CASES, *resumes.CASES):
        if case.name in disks.NEED_DISKS:
            with tempfile.TemporaryDirectory() as name:
                try:
                    found[case.name] = ("passed", case.run(Path(name, "case")))
                except AssertionError as error:
                    found[case.name] = ("failed", str(error))
                except Skipped as error:
                    found[case.name] = ("skipped", str(error))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
