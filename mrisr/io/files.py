"""Operations on files that safe writing is made of: temporary names, flush, rename, lock, digest.

``.NAME.mrisr-tmp-PID-HOST-TOKEN`` is a target in the making (or, of a folder, the old one about to be
removed); ``.NAME.mrisr-old-...`` is an old folder that was moved aside where the system cannot
exchange two folders. A file replaces another by a plain rename.
"""

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from mrisr.core.errors import OutputError

_MAKING, _ASIDE = "mrisr-tmp", "mrisr-old"
_FOREIGN_LIFETIME_S = 7 * 24 * 3600
_STARTED = time.time()
_LINUX_EXCHANGE = _MACOS_SWAP = 2
_HERE = -100  # AT_FDCWD: relative paths start in the working folder
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
_IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST}
_LOCKS = threading.local()  # what this thread has locked
#: What a disk answers that cannot flush a folder, or need not. Nothing is lost by then.
_NO_FLUSH = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.EBADF, errno.ENOTSUP}


def temporary_path(path: Path) -> Path:
    """A new name beside ``path`` with the same full suffix, by which libraries choose the format."""
    suffix = path.name[-7:] if path.name.lower().endswith(".nii.gz") else path.suffix
    return path.with_name(f".{path.name}.{_MAKING}-{_token()}{suffix}")


def is_temporary(candidate: Path, path: Path) -> bool:
    """Tell whether ``candidate`` is a temporary name of ``path``, of whatever process."""
    start = f".{path.name}.{_MAKING}-"
    return candidate.parent == path.parent and candidate.name.startswith(start)


def aside_path(path: Path) -> Path:
    """A new name beside ``path`` for the old folder while the new one takes its place."""
    return path.with_name(f".{path.name}.{_ASIDE}-{_token()}")


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


def flush(path: Path) -> None:
    """Bring a file's contents to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(path: Path) -> None:
    """Bring a folder's names to the disk, where it can do that."""
    try:
        flush(path)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise


def flush_tree(folder: Path) -> None:
    """Bring a folder and all that is in it to the disk."""
    for name, _, files in os.walk(folder, topdown=False):
        for file in files:
            flush(Path(name, file))
        flush_folder(Path(name))


def move_file(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give the file ``temporary`` the name ``path``. Without ``overwrite`` the old name may stay too.

    Raises OutputError if ``path`` exists and ``overwrite`` is False.
    """
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        found = "exists already, another run wrote it"
        raise OutputError(f"{path}: {found} (--force replaces)") from None
    except OSError:  # file systems without hard links
        if path.exists():
            raise OutputError(f"{path}: exists already (--force replaces)") from None
        os.replace(temporary, path)


def move_folder(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give the folder ``temporary`` the name ``path``; an old folder of that name is gone afterwards.

    At every moment ``path`` is the old folder or the new one; where the system cannot exchange two
    folders it is missing for a moment, and ``remove_stale`` puts the old one back after a kill.

    Raises:
        OutputError: something that is not an empty folder is there, and ``overwrite`` is False.
        OSError: it cannot be done; the old folder is in its place.
    """
    for _ in range(10):  # other runs may take the place or leave it between two looks
        try:
            temporary.rename(path)  # takes the place of nothing, or of an empty folder
            return
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
        if not overwrite:
            raise OutputError(f"{path}: exists already (--force replaces)")
        with suppress(FileNotFoundError):  # another run has just moved it: try again
            if _exchange(temporary, path):
                remove(temporary)
                return
            if _move_in_two_steps(temporary, path):
                return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[int]:
    """Only one process at a time is in this block for a folder or a file; it may enter again while it is.

    Yields the handle of the lock, which a child process may inherit: the lock ends with the last process that
    holds it. A file serves on disks between machines too, which lock no folders. Without effect where a disk
    has no locks.

    Raises:
        BlockingIOError: another process is in the block, and ``wait`` is False.
        OSError: there is no such path, or it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    held: set[tuple[int, int]] = _LOCKS.__dict__.setdefault("held", set())
    try:
        status = os.fstat(handle)
        key = status.st_dev, status.st_ino
        if key in held:  # a second lock would wait for the first for ever
            yield handle
            return
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except (OSError, ImportError):
            pass
        held.add(key)
        try:
            yield handle
        finally:
            held.discard(key)
    finally:
        os.close(handle)


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths trade places in one step; False where the system or its disk cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(a), os.fsencode(b)
    if sys.platform == "darwin":
        call = getattr(libc, "renamex_np", None)
        failed = call is None or call(*names, _MACOS_SWAP)
    else:
        call = getattr(libc, "renameat2", None)
        failed = call is None or call(_HERE, names[0], _HERE, names[1], _LINUX_EXCHANGE)
    if not failed:
        return True
    code = ctypes.get_errno()
    if call is not None and code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(b))
    return False


def _move_in_two_steps(temporary: Path, path: Path) -> bool:
    """False if another run took the place in between, with everything as it was."""
    aside = aside_path(path)
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError as error:
        with suppress(OSError):
            aside.rename(path)
        if os.path.lexists(path):
            remove(aside)  # it is still there only if another run's folder has its place
        if error.errno in _IN_THE_WAY:
            return False
        raise
    remove(aside)
    return True


def file_sha256(*paths: Path) -> str:
    """SHA-256, hexadecimal, of a file's bytes, or of several files' one after the other."""
    with ExitStack() as stack:
        return sha256(*(stack.enter_context(path.open("rb")) for path in paths))


def sha256(*files: IO[bytes]) -> str:
    """The same of files that are open, from their beginning."""
    digest = hashlib.sha256()
    for file in files:
        file.seek(0)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
