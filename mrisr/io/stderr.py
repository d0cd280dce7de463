"""The standard error of C and C++ libraries, which write past Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Keep what libraries write to standard error from the user; it is in the list afterwards."""
    captured: list[str] = []
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error
        yield captured
        return
    with suppress(Exception):
        sys.stderr.flush()
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)  # a library that writes too much loses text, not time
    os.dup2(write_end, 2)
    os.close(write_end)
    try:
        yield captured
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        with os.fdopen(read_end, "rb") as pipe:
            captured.append((pipe.read() or b"").decode(errors="replace"))
