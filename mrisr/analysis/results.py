"""Output of the analyses: numbers, tables and files."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from mrisr.io.atomic import json_bytes, write_together

Row: TypeAlias = Mapping[str, str | float | None]

#: Colours that remain apart for colour-blind readers (Okabe and Ito).
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"


def number(value: float) -> float | None:
    """Six digits of a number for JSON and CSV; `None` where it is infinite or not a number."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


def patients(n: int) -> str:
    """A number of patients in words."""
    return f"{n} patient{'s' * (n != 1)}"


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """Rows with the same keys as CSV with a header; `None` is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, ending with a line break."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    lines.insert(1, "|---" * len(header) + "|")
    return "\n".join(lines) + "\n"


def write_analysis(
    output: Path,
    name: str,
    rows: Sequence[Row],
    content: Mapping[str, object],
    text: str,
    others: Mapping[str, bytes],
) -> None:
    """Write an analysis to ``name.csv``, ``.json`` and ``.md`` of a folder, and ``others`` by their file
    names: all of them or none. Raises OutputError."""
    files = {
        f"{name}.csv": csv_bytes(rows),
        f"{name}.json": json_bytes(content),
        f"{name}.md": text.encode(),
        **others,
    }
    write_together({output / file: data for file, data in files.items()})
