"""Digests of files and folders, remembered by size and time of the last change."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mrisr.io.atomic import make_folder, write_bytes
from mrisr.io.digest import file_sha256
from mrisr.io.metaheader import data_file
from mrisr.io.paths import ending

#: Files read at once: a network's disk answers several as fast as one.
READERS = 4


class Stamp(NamedTuple):
    """A file as it was when its digest was taken."""

    path: str
    size: int
    changed_ns: int


class Digests:
    """SHA-256 of files by path. Only those whose size or time has changed are read again."""

    def __init__(self, known: dict[Stamp, str] | None = None) -> None:
        self._known = known or {}
        self._used: dict[Stamp, str] = {}

    @classmethod
    def load(cls, files: Iterable[Path]) -> Digests:
        """What earlier runs have kept; a file that cannot be read is none."""
        known: dict[Stamp, str] = {}
        for file in files:
            with suppress(OSError, ValueError, TypeError):
                known |= {Stamp(*stamp): sha for *stamp, sha in json.loads(file.read_bytes())}
        return cls(known)

    def save(self, file: Path) -> None:
        """Keep the digests that were asked for. Raises OutputError."""
        make_folder(file.parent)
        rows = sorted([*stamp, sha] for stamp, sha in self._used.items())
        write_bytes(file, json.dumps(rows, indent=0).encode())

    def of_file(self, path: Path) -> str | None:
        """Digest of a regular file; None where there is none that can be read."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return None  # a pipe would be waited for
            stamp = Stamp(os.path.abspath(path), status.st_size, status.st_mtime_ns)  # noqa: PTH100
            digest = self._used.get(stamp) or self._known.get(stamp) or file_sha256(path)
        except OSError:
            return None
        self._used[stamp] = digest
        return digest

    def of(self, path: Path) -> str | None:
        """Digest of an input: a file (with the voxels of a ``.mhd``), or all that a folder holds; None where
        there is nothing to read."""
        if path.is_dir():
            files = {file.relative_to(path).as_posix(): file for file in _below(path)}
        else:
            voxels = data_file(path) if ending(path) == ".mhd" else None
            if voxels is None:
                return self.of_file(path)
            files = {path.name: path, voxels.name: voxels}
        return digest_of({name: self.of_file(file) for name, file in files.items()})

    def of_all(self, paths: Iterable[Path]) -> dict[Path, str | None]:
        """Digests of many inputs, several read at once."""
        paths = list(dict.fromkeys(paths))
        with ThreadPoolExecutor(READERS) as pool:
            return dict(zip(paths, pool.map(self.of, paths), strict=True))


def digest_of(content: Any) -> str:
    """Digest of what can be written as JSON, whatever the order of its keys.

    >>> digest_of({"a": 1, "b": None}) == digest_of({"b": None, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _below(folder: Path) -> Iterator[Path]:
    """Files below a folder in a fixed order, without hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))
