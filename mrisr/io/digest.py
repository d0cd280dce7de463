"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO

_BLOCK = 1 << 20


def file_sha256(*paths: Path) -> str:
    """SHA-256, hexadecimal, of a file's bytes, or of several files' one after the other."""
    with ExitStack() as stack:
        return sha256(*(stack.enter_context(path.open("rb")) for path in paths))


def sha256(*files: IO[bytes]) -> str:
    """The same of files that are open, from their beginning."""
    digest = hashlib.sha256()
    for file in files:
        file.seek(0)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
