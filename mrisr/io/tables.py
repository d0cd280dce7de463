"""Manifests: tables of text as spreadsheets write them, each fault told with its line."""

import codecs
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mrisr.core.errors import InputError

Row = dict[str | Any, Any]


class ManifestError(InputError):
    """A manifest that cannot be used. ``faults`` has a line for each reason."""

    def __init__(self, path: Path, faults: Sequence[str], what: str = "studies") -> None:
        self.faults = tuple(faults)
        found = faults[0] if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(path, expected=f"a manifest of {what}", found=found)


def read_rows(
    path: Path, check: Callable[[Sequence[str]], list[str]], what: str = "studies"
) -> list[tuple[int, Row]]:
    """Rows of a table by the names of its columns, each with the number of its line.

    The text is UTF-8, or UTF-16 with a mark, parted by commas, semicolons or tabs, whichever the first line
    has. A row with too few or too many cells has `None` among its values or names.

    Args:
        path: the file.
        check: gives the faults of the names of the columns.
        what: the table's contents, for messages.

    Raises:
        ManifestError: no such text, no table, or columns with faults; with a line for each.
    """
    try:
        data = path.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise ManifestError(
            path, [f"no readable file ({error.strerror or error})"], what
        ) from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        fault = f"line {line}: no UTF-8 text (byte {error.start}); save it as CSV UTF-8"
        raise ManifestError(path, [fault], what) from error
    first = text.partition("\n")[0]
    mark = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
    try:
        faults = check(reader.fieldnames or ())
        rows = [] if faults else [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ManifestError(path, [f"line {reader.line_num}: {error}"], what) from error
    if faults:
        raise ManifestError(path, faults, what)
    return rows
