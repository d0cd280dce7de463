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

    Keys hold the program's version: another version makes all results anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def load(self, title: Sequence[str], deciding: Mapping[str, Any]) -> Scored | None:
        """Find an earlier result; None where there is none, or it cannot be read.

        Args:
            title: case, series, scale and method, for the file's name.
            deciding: everything that decides the result, ready for JSON.
        """
        key = key_of(deciding)
        path = self._path(title, key)
        try:
            content = json.loads(path.read_bytes())
            if content["key"] != key:
                return None
            return _decoded(content["scored"], path.with_suffix(".npz").read_bytes())
        except _UNREADABLE:
            return None

    def save(self, title: Sequence[str], deciding: Mapping[str, Any], scored: Scored) -> Scored:
        """Write a result and return it as it will be read. Raises OutputError."""
        key = key_of(deciding)
        path = self._path(title, key)
        figures = finite(
            {"figures": scored.figures, "slices": scored.slices, "facts": scored.facts}
        )
        packed = io.BytesIO()
        halved = {
            name: a.astype(np.float16) if a.dtype == np.float32 else a
            for name, a in scored.pictures.items()
        }
        np.savez_compressed(packed, **halved)  # type: ignore[arg-type]
        content = json_bytes({"key": key, "result": list(title), "scored": figures})
        write_together({path.with_suffix(".npz"): packed.getvalue(), path: content})
        return _decoded(figures, packed.getvalue())

    def _path(self, title: Sequence[str], key: str) -> Path:
        words = re.sub(r"[^\w.+-]+", "-", "-".join(title))
        return self.folder / f"{words[:120]}-{key[:12]}.json"


def key_of(deciding: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides a result, the program's version included."""
    content = {"format": FORMAT, "mrisr": __version__, **deciding}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _decoded(content: Mapping[str, Any], packed: bytes) -> Scored:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        pictures = {name: arrays[name] for name in arrays.files}
    return Scored(
        figures={k: _number(v) for k, v in content["figures"].items()},
        slices={k: [_number(x) for x in v] for k, v in content["slices"].items()},
        pictures={
            k: a.astype(np.float32) if a.dtype == np.float16 else a for k, a in pictures.items()
        },
        facts=content["facts"],
    )


def _number(value: float | None) -> float:
    """A number of JSON, NaN for None."""
    return math.nan if value is None else float(value)


def finite(value: Any) -> Any:
    """The same with None in the place of numbers that are not finite, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value
