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
from mrisr.io.files import file_sha256
from mrisr.io.metaheader import data_file
from mrisr.io.paths import ending

#: Files read at once: a network's disk answers several as fast as one.
READERS = 4


class Stamp(NamedTuple):
    """A file as it was when its digest was taken; ``name`` is within the input or output it is part of."""

    path: str
    name: str
    size: int
    changed_ns: int


class Digests:
    """SHA-256 of inputs and outputs. They are read again only where a size or a time has changed."""

    def __init__(self, known: dict[tuple[Stamp, ...], str] | None = None) -> None:
        self._known = known or {}
        self._used: dict[tuple[Stamp, ...], str] = {}

    @classmethod
    def load(cls, files: Iterable[Path]) -> Digests:
        """The digests that earlier runs have kept; a file that cannot be read is left out."""
        known: dict[tuple[Stamp, ...], str] = {}
        for file in files:
            with suppress(OSError, ValueError, TypeError):
                for stamps, sha in json.loads(file.read_bytes()):
                    known[tuple(Stamp(*stamp) for stamp in stamps)] = sha
        return cls(known)

    def save(self, file: Path) -> None:
        """Keep the digests that were asked for. Raises OutputError."""
        make_folder(file.parent)
        write_bytes(file, json.dumps(sorted(self._used.items()), indent=0).encode())

    def of(self, *paths: Path) -> str | None:
        """Digest of files and folders together; `None` where one of them cannot be read.

        That of a single file is the plain SHA-256 of its bytes. A ``.mhd`` includes its voxels, a folder all
        that it holds but hidden files.
        """
        try:
            stamps = tuple(_stamp(file, name) for path in paths for file, name in _files(path))
            digest = self._used.get(stamps) or self._known.get(stamps)
            if digest is None:
                digest = file_sha256(*(Path(stamp.path) for stamp in stamps))
                if len(stamps) > 1:
                    digest = digest_of([digest, *([stamp.name, stamp.size] for stamp in stamps)])
        except OSError:
            return None
        self._used[stamps] = digest
        return digest

    def look_at(self, paths: Iterable[Path]) -> None:
        """Take the digests of many inputs, several at once."""
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(self.of, dict.fromkeys(paths)))


def digest_of(content: Any) -> str:
    """Digest of what can be written as JSON, whatever the order of its keys.

    >>> digest_of({"a": 1, "b": None}) == digest_of({"b": None, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """The files of an input or output in a fixed order, with their names in it."""
    if not path.is_dir():
        voxels = data_file(path) if ending(path) == ".mhd" else None
        yield from ((file, file.name) for file in (path, voxels) if file is not None)
        return
    for place, folders, names in os.walk(path):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name), Path(place, name).relative_to(path).as_posix()


def _stamp(path: Path, name: str) -> Stamp:
    """A regular file as it is now. Raises OSError: there is none, or a pipe, which would be waited for."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path}: no regular file")
    absolute = os.path.abspath(path)  # noqa: PTH100
    return Stamp(absolute, name, status.st_size, status.st_mtime_ns)
