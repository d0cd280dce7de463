"""Files that appear whole or not at all.

A writer gets a temporary path in the target's folder; when it is done the file is flushed to the
disk and renamed over the target. A failure, or a kill at any moment, leaves the old file as it was.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from mrisr.errors import OutputError

_MARK = "mrisr-tmp"
_FOREIGN_LIFETIME_S = 7 * 24 * 3600


@contextmanager
def atomic_path(
    path: str | PathLike[str], *, overwrite: bool = True, size: int = 0
) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block ends well.

    The temporary name keeps the full suffix (``.nii.gz``), so that libraries choose the right
    format. It is removed when the block raises. Leftovers of killed runs with the same target are
    removed first.

    Args:
        path: the target. A symbolic link is replaced, never followed.
        overwrite: False makes the final step fail if the target has appeared meanwhile.
        size: bytes about to be written; a disk with less room is refused at once.

    Raises:
        OutputError: for every OSError (no space, no permission, no folder), naming the path.
    """
    path = Path(path)
    with _as_output_error(path, size):
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: expected a file to write, found something else there")
        remove_leftovers(path)
        if size > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        temporary = path.with_name(_temporary_name(path))
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            _flush(temporary)
            _move(temporary, path, overwrite)
            _flush(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: str | PathLike[str], data: bytes, *, overwrite: bool = True) -> Path:
    """Write ``data`` to ``path`` in one step. Raises OutputError."""
    with atomic_path(path, overwrite=overwrite, size=len(data)) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_json(path: str | PathLike[str], obj: Any, *, overwrite: bool = True) -> Path:
    """Write ``obj`` as indented JSON (NaN is not JSON: ValueError). Raises OutputError."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return write_bytes(path, text.encode(), overwrite=overwrite)


def make_folder(path: str | PathLike[str]) -> Path:
    """The folder ``path``, made with its parents where it is missing. Raises OutputError."""
    path = Path(path)
    with _as_output_error(path, 0):
        path.mkdir(parents=True, exist_ok=True)
    return path


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that killed runs left for this target.

    A file of a process on this machine goes when that process is gone; one from another machine
    that shares the folder goes after a week.
    """
    start = re.escape(f".{path.name}.{_MARK}-")
    pattern = re.compile(start + r"(\d+)-([0-9a-f]{8})-")
    for candidate in path.parent.iterdir():
        match = pattern.match(candidate.name)
        if match and _abandoned(candidate, int(match[1]), match[2]):
            with suppress(OSError):
                candidate.unlink()


def full_suffix(path: str | PathLike[str]) -> str:
    """``".nii.gz"`` for a doubly ending name, else the plain suffix; as spelt in the path."""
    name = Path(path).name
    return name[-7:] if name.lower().endswith(".nii.gz") else Path(name).suffix


def _abandoned(path: Path, pid: int, host: str) -> bool:
    if host == _host():
        return not _alive(pid)
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _FOREIGN_LIFETIME_S
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _temporary_name(path: Path) -> str:
    token = f"{os.getpid()}-{_host()}-{secrets.token_hex(4)}"
    return f".{path.name}.{_MARK}-{token}{full_suffix(path)}"


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise OutputError(
            f"{path}: exists already, another run wrote it (--force replaces)"
        ) from None
    except OSError:  # file systems without hard links
        if path.exists():
            raise OutputError(f"{path}: exists already (--force replaces)") from None
        os.replace(temporary, path)


@contextmanager
def _as_output_error(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        needs = f" ({size} bytes needed)" if size else ""
        raise OutputError(f"{path}: cannot be written: {cause}{needs}") from error
