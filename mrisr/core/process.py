"""What a process has to be told on behalf of the libraries that it will load."""

import getpass
import os
import sys

#: Of glibc's malloc.h: parameters of ``mallopt``, and the bytes below which it shall keep what is freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _KEPT = -1, -3, 2**28


def make_ready() -> None:
    """Give a user without a name one, and let PyTorch work in forked children.

    MONAI asks for the user's name when it is imported, which fails in a container whose user stands in no
    list. PyTorch's threads do not survive a fork: a child that waits for them waits for ever, also one that
    is the first to import this package.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = "unknown"
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)
    if _is_forked():
        _one_thread()


def _is_forked() -> bool:
    """Tell whether multiprocessing has forked this process; one that it spawns has a command of its own."""
    running = sys.modules.get("multiprocessing.process")
    if running is None or running.parent_process() is None:
        return False
    return not any(word.startswith("from multiprocessing.") for word in sys.orig_argv)


def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to 256 MiB for what is allocated next.

    By itself it gives blocks beyond 32 MiB back at once. Feature maps of a network come and go by the dozen,
    and every new one's pages would be fetched and cleared again: a quarter of an inference on a CPU. For
    programs of our own; a process that merely imports the package is left as it is.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            libc.mallopt(parameter, _KEPT)
