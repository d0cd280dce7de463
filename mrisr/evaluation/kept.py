"""What an evaluation has found so far, on the disk: a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mrisr.io.atomic import json_bytes, make_folder, write_together

Arrays = Mapping[str, NDArray[np.generic]]
#: What reading a file that is damaged, or of another format, may raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile)


class Item(NamedTuple):
    """What is kept of one result: words for its file's name, and the SHA-256 of all that decides it."""

    words: str
    key: str


def key_from(deciding: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides a result, ready for JSON."""
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class KeptFolder:
    """A folder with two small files for each result: its figures (JSON) and its pictures (NumPy)."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def _path(self, item: Item) -> Path:
        words = re.sub(r"[^\w.+-]+", "-", item.words)
        return self.folder / f"{words[:120]}-{item.key[:12]}.json"

    def load(self, item: Item) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]] | None:
        """Figures and pictures of an earlier result of the same key; none where there is none, or it
        cannot be read."""
        path = self._path(item)
        try:
            content = json.loads(path.read_bytes())
            if content.pop("key") != item.key:
                return None
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
                return content, {name: arrays[name] for name in arrays.files}
        except (*UNREADABLE, AttributeError):
            return None

    def save(self, item: Item, content: Mapping[str, Any], arrays: Arrays) -> None:
        """Keep a result. Numbers that are not finite become none. Raises OutputError."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        path = self._path(item)
        figures = finite({"key": item.key, **content})
        write_together({path.with_suffix(".npz"): packed.getvalue(), path: json_bytes(figures)})


def number(value: float | None) -> float:
    """A kept number: NaN where there is none.

    >>> number(None), number(2)
    (nan, 2.0)
    """
    return math.nan if value is None else float(value)


def finite(value: Any) -> Any:
    """The same with none in the place of numbers that are not finite, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value
