"""What C and C++ libraries write to the process's standard error, past Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Keep what libraries write to standard error from the user; it is in the list afterwards."""
    words: list[str] = []
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error
        yield words
        return
    with suppress(Exception):
        sys.stderr.flush()
    listening, speaking = os.pipe()
    for end in (listening, speaking):
        os.set_blocking(end, False)  # a library that says too much loses its words, not its time
    os.dup2(speaking, 2)
    os.close(speaking)
    try:
        yield words
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        with os.fdopen(listening, "rb") as pipe:
            words.append((pipe.read() or b"").decode(errors="replace"))
