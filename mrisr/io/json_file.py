"""JSON files that hold an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mrisr.core.errors import InputError, one_line
from mrisr.io.checks import readable


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        what: the content that is expected, for the message.

    Raises:
        InputError: it cannot be read, is no JSON or holds something else.
    """
    try:
        with readable(path, what):
            found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(path, expected=what, found=one_line(error)[:300]) from error
    if not isinstance(found, dict):
        raise InputError(path, expected=what, found=type(found).__name__)
    return found
