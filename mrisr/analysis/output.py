"""How the analyses write what they found: numbers, tables, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any


def number(value: float) -> float | None:
    """Six digits of a number for JSON and CSV; None where it is infinite or not a number."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


def patients(n: int) -> str:
    """A number of patients in words.

    >>> patients(1), patients(2)
    ('1 patient', '2 patients')
    """
    return f"{n} patient{'s' * (n != 1)}"


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows with the same keys as CSV with a header; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
