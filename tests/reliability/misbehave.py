"""Everything a reader must not do, at a word: what the worker is tested with."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume

GOOD = Volume(np.arange(24.0).reshape(2, 3, 4), np.eye(4))


def misbehave(path: Path) -> Volume:
    """Does what the file says; called in the worker."""
    deed = path.read_text()
    if deed in _DEEDS:
        return _DEEDS[deed](path) or GOOD
    raise KeyError(deed)


def _refuse(path: Path, name: str = "") -> None:
    raise InputError(name or path, expected="something", found="else")


def _mention(path: Path, text: str) -> None:
    raise InputError(path, expected="one line", found=text)


def _exhaust(path: Path) -> None:
    try:
        np.ones(1 << 31, dtype=np.uint8)
    except MemoryError as error:
        raise InputError(path, expected="a small file", found="a large one") from error


_DEEDS: dict[str, Callable[[Path], Volume | None]] = {
    "read": lambda path: GOOD,
    "refuse": _refuse,
    "refuse nameless": lambda path: _refuse(path, "a file"),
    "refuse in lines": lambda path: _mention(path, "a\nb"),
    "abort": lambda path: os.abort(),
    "hang": lambda path: time.sleep(60),
    "print": lambda path: print("hello"),
    "whisper": lambda path: os.write(2, b"warning\n") and None,
    "exhaust": _exhaust,
    "exit": lambda path: sys.exit(3),
    "vanish": lambda path: os._exit(4),
    "shear": lambda path: Volume(GOOD.array, np.eye(4) + np.eye(4, k=1) * [[1], [0], [0], [0]]),
    "flatten": lambda path: Volume(GOOD.array, np.diag([1.0, 0.0, 1.0, 1.0])),
    "nan": lambda path: Volume(GOOD.array * np.nan, np.eye(4)),
}
