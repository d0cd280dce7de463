"""Temporary names of outputs, and the removal of those that killed runs left.

``.NAME.mrisr-tmp-PID-HOST-TOKEN`` is a target in the making (or, of a folder, the old one about to be
removed); ``.NAME.mrisr-old-...`` is an old folder that was moved aside where the system cannot
exchange two folders.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from os import PathLike
from pathlib import Path

_MAKING, _ASIDE = "mrisr-tmp", "mrisr-old"
_FOREIGN_LIFETIME_S = 7 * 24 * 3600
_STARTED = time.time()


def temporary_path(path: Path) -> Path:
    """A new name beside ``path`` with the same full suffix, by which libraries choose the format."""
    return path.with_name(f".{path.name}.{_MAKING}-{_token()}{full_suffix(path)}")


def is_temporary(candidate: Path, path: Path) -> bool:
    """Whether ``candidate`` is a temporary name of ``path``, of whatever process."""
    start = f".{path.name}.{_MAKING}-"
    return candidate.parent == path.parent and candidate.name.startswith(start)


def aside_path(path: Path) -> Path:
    """A new name beside ``path`` for the old folder while the new one takes its place."""
    return path.with_name(f".{path.name}.{_ASIDE}-{_token()}")


def full_suffix(path: str | PathLike[str]) -> str:
    """``".nii.gz"`` for a doubly ending name, else the plain suffix; as spelt in the path."""
    name = Path(path).name
    return name[-7:] if name.lower().endswith(".nii.gz") else Path(name).suffix


def remove_stale(path: Path) -> None:
    """Remove stale temporary files of a target; put an old folder back that has lost its place.

    What belongs to a process on this machine goes when that process is gone; what comes from another
    machine that shares the folder goes after a week.
    """
    start = re.escape(f".{path.name}.")
    pattern = re.compile(start + rf"({_MAKING}|{_ASIDE})-(\d+)-([0-9a-f]{{8}})-")
    for candidate in path.parent.iterdir():
        match = pattern.match(candidate.name)
        if match and _abandoned(candidate, int(match[2]), match[3]):
            if match[1] == _ASIDE and not os.path.lexists(path):
                with suppress(OSError):
                    candidate.rename(path)
            else:
                remove(candidate)


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds, if it is there and as far as it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _abandoned(path: Path, pid: int, host: str) -> bool:
    if host == _host() and pid != os.getpid():
        return not _alive(pid)
    with suppress(OSError):
        written = path.stat().st_mtime
        if host == _host():  # a restarted container often has the same process number again
            return written < _STARTED
        return time.time() - written > _FOREIGN_LIFETIME_S
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _token() -> str:
    return f"{os.getpid()}-{_host()}-{secrets.token_hex(4)}"
