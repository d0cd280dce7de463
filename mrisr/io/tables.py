"""Manifests: tables of text as spreadsheets write them, each fault told with its line."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mrisr.core.errors import InputError

Row = dict[str | Any, Any]
#: What spreadsheets and copied text leave around a cell unseen.
_BLANKS = re.compile(r"\A[\s\u200b\u200e\u202a\u2060\ufeff]+|[\s\u200b\u200e\u202c\u2060\ufeff]+\Z")
#: A line by which Excel is told what parts the cells.
_SEPARATOR = re.compile(r'\A\s*"?sep=([,;\t|])"?[^\r\n]*')


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

    The text is UTF-8, or UTF-16 with a mark. Cells are parted by what a line ``sep=`` before the table names,
    or by commas, semicolons or tabs, whichever the first line has most of. Blanks around a cell, rows
    without content and such columns at the end are left out. A row with too few or too many cells has `None`
    among its values or names.

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
    text = text.lstrip("\ufeff\u200b")
    stated = _SEPARATOR.match(text)
    text = _SEPARATOR.sub("", text)
    first = re.split(r"[\r\n]", text.strip(), maxsplit=1)[0]
    mark = stated[1] if stated else max(",;\t", key=first.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=mark, skipinitialspace=True
    )
    try:
        lines = [(reader.line_num, [_BLANKS.sub("", cell) for cell in row]) for row in reader]
    except csv.Error as error:
        raise ManifestError(path, [f"line {reader.line_num}: {error}"], what) from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    width = max((i + 1 for _, cells in lines for i, cell in enumerate(cells) if cell), default=0)
    names = lines[0][1][:width] if lines else []
    if faults := check(names):
        raise ManifestError(path, faults, what)
    return [(number, dict(zip_longest(names, cells[:width]))) for number, cells in lines[1:]]
