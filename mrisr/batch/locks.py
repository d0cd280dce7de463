"""Locks between processes, also of several machines that share a disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from mrisr.io.atomic import as_output_error, make_folder


class Busy(Exception):
    """Another process holds the lock."""


class FileLock:
    """Only one process at a time is in the block; the others wait, or are turned away.

    The lock ends with the process, however it ends; the file stays. Without effect where a disk has no locks.

    Args:
        path: of the file that is locked.
        wait: False raises :class:`Busy` instead of waiting.
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        self.path, self.wait = path, wait
        self.handle = -1

    def __enter__(self) -> FileLock:
        make_folder(self.path.parent)
        with as_output_error(self.path):
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with suppress(ImportError):
                self._lock()
        except BaseException:
            os.close(self.handle)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.handle)

    def _lock(self) -> None:
        import fcntl

        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | (0 if self.wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Busy(str(self.path)) from None
        except OSError:
            pass
