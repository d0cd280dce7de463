"""Single results on the disk, by everything that decides them: a stopped evaluation goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mrisr import __version__
from mrisr.evaluation.case import Scored
from mrisr.io.atomic import json_bytes, make_folder, write_together

#: Format of the files, part of every key.
FORMAT = 2
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile)


class ResultCache:
    """A folder with two small files for each result: its figures (JSON) and its pictures (NumPy).

    A result's title (case, series, scale, method) is for the file's name; ``deciding`` is everything that
    decides it, ready for JSON. Keys hold the program's version too: another one makes all results anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def load(self, title: Sequence[str], deciding: Mapping[str, Any]) -> Scored | None:
        """Find an earlier result; None where there is none, or it cannot be read."""
        key, path = self._place(title, deciding)
        try:
            content = json.loads(path.read_bytes())
            if content["key"] != key:
                return None
            return _decoded(content["scored"], path.with_suffix(".npz").read_bytes())
        except _UNREADABLE:
            return None

    def save(self, title: Sequence[str], deciding: Mapping[str, Any], scored: Scored) -> Scored:
        """Write a result and return it as it will be read. Raises OutputError."""
        key, path = self._place(title, deciding)
        figures = finite(
            {"figures": scored.figures, "slices": scored.slices, "facts": scored.facts}
        )
        packed = io.BytesIO()
        np.savez_compressed(packed, **_cast(scored.pictures, np.float32, np.float16))
        content = json_bytes({"key": key, "result": list(title), "scored": figures})
        write_together({path.with_suffix(".npz"): packed.getvalue(), path: content})
        return _decoded(figures, packed.getvalue())

    def _place(self, title: Sequence[str], deciding: Mapping[str, Any]) -> tuple[str, Path]:
        """Key and path of a result."""
        content = {"format": FORMAT, "mrisr": __version__, **deciding}
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        words = re.sub(r"[^\w.+-]+", "-", "-".join(title))
        return key, self.folder / f"{words[:120]}-{key[:12]}.json"


def _decoded(content: Mapping[str, Any], packed: bytes) -> Scored:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        pictures = _cast(arrays, np.float16, np.float32)
    numbers = {k: [math.nan if x is None else x for x in v] for k, v in content["slices"].items()}
    figures = {k: math.nan if v is None else float(v) for k, v in content["figures"].items()}
    return Scored(figures, numbers, pictures, content["facts"])


def _cast(arrays: Mapping[str, Any], before: type, after: type) -> dict[str, Any]:
    """The arrays, those of one type turned into another."""
    return {k: a.astype(after) if a.dtype == before else a for k, a in arrays.items()}


def finite(value: Any, digits: int = 17) -> Any:
    """A value ready for JSON: numbers with so many digits, None for those that are not finite."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: finite(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v, digits) for v in value]
    return value
