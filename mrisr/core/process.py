"""What a process has to be told on behalf of the libraries that it will load."""

import getpass
import os
import sys


def make_ready() -> None:
    """Give a user without a name one, and let PyTorch work in forked children.

    MONAI asks for the user's name when it is imported, which fails in a container whose user stands in no
    list. PyTorch's threads do not survive a fork: a child that waits for them waits for ever.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = "unknown"
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
