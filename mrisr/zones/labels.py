"""Labels of the zones of the prostate, and the table that gives an external model's labels their meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.core.errors import InputError, UsageError
from mrisr.core.labels import BACKGROUND, PZ, TZ, ZONES, named, whole, zone_of

__all__ = ["BACKGROUND", "PZ", "TITLES", "TZ", "ZONES", "LabelTable"]
TITLES = {"PZ": "peripheral zone", "TZ": "transition zone"}

_EXAMPLE = "1=TZ,2=PZ"


@dataclass(frozen=True)
class LabelTable:
    """Meaning of the labels of an external model: label -> ``PZ``, ``TZ`` or ``BACKGROUND``. Several may
    stand for one zone; 0 is background and need not be named.

    Raises:
        UsageError: a zone is left out (a gland without its zones would pass for one of no volume), or
            0 is a zone.
    """

    meanings: Mapping[int, int]

    def __post_init__(self) -> None:
        meanings = {BACKGROUND: BACKGROUND, **self.meanings}
        object.__setattr__(self, "meanings", dict(sorted(meanings.items())))
        missing = [name for name, label in ZONES.items() if label not in meanings.values()]
        if missing or meanings[BACKGROUND] != BACKGROUND or min(meanings) < 0:
            why = f"no label for {' and '.join(missing)}" if missing else "labels below 1 as zones"
            raise UsageError(f"label table: expected PZ and TZ, such as {_EXAMPLE}; found {why}")

    @classmethod
    def of(cls, named: Mapping[Any, Any]) -> LabelTable:
        """A table from external labels and names: ``{1: "TZ", 2: "PZ"}``. Raises UsageError."""
        meanings = {}
        for label, name in named.items():
            meaning = zone_of(name)
            if meaning is None or not re.fullmatch(r"\d{1,9}", str(label).strip()):
                wanted = f"entries such as {_EXAMPLE}"
                raise UsageError(f"label table: expected {wanted}, found {label}={name}")
            meanings[int(label)] = meaning
        return cls(meanings)

    @classmethod
    def parse(cls, text: str) -> LabelTable:
        """A table from ``1=TZ,2=PZ``. Raises UsageError."""
        entries = [entry.partition("=") for entry in text.split(",")]
        named = {label.strip(): name.strip() for label, _, name in entries}
        if len(named) < len(entries) or not all(equals for _, equals, _ in entries):
            wanted = f"entries such as {_EXAMPLE}, each label once"
            raise UsageError(f"label table: expected {wanted}, found {text!r}")
        return cls.of(named)

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """A table from a YAML or JSON file that maps labels to names. Raises InputError where it cannot be
        read as such a mapping, UsageError where a zone is left out or a name means nothing."""
        import yaml

        try:
            named = yaml.safe_load(path.read_text(encoding="utf-8"))  # of which JSON is a part
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            found = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
            raise InputError(path, expected="a label table", found=found) from error
        if not isinstance(named, dict):
            expected = f"a mapping of labels to zones, such as {json.dumps({1: 'TZ', 2: 'PZ'})}"
            raise InputError(path, expected=expected, found=type(named).__name__)
        return cls.of(named)

    @classmethod
    def given(cls, table: LabelTable | Mapping[int, str] | str | PathLike[str]) -> LabelTable:
        """A table as users give it: itself, a mapping, ``1=TZ,2=PZ`` or the path of a file."""
        if isinstance(table, LabelTable):
            return table
        if isinstance(table, Mapping):
            return cls.of(table)
        if isinstance(table, str) and "=" in table:
            return cls.parse(table)
        return cls.read(Path(table))

    @classmethod
    def recognised(cls, names: Mapping[int, str], where: Path) -> LabelTable:
        """A table from the names that a model gives its own labels.

        Raises:
            InputError: some name is no zone's, or a zone is missing: the user has to give a table.
        """
        meanings = {label: zone_of(name) for label, name in names.items()}
        known = {label: meaning for label, meaning in meanings.items() if meaning is not None}
        try:
            if len(known) == len(meanings):
                return cls(known)
        except UsageError:
            pass  # it is said below, with the names
        wanted = f"labels called peripheral and transition zone, or a --table such as {_EXAMPLE}"
        raise InputError(where, expected=wanted, found=named(names))

    def apply(self, array: NDArray[Any], where: Path | str) -> NDArray[np.uint8]:
        """Translate external labels, of any dtype and nearly whole, into those of the zones, in uint8. Raises
        InputError that names the model ``where`` and values that the table does not."""
        values, index = np.unique(whole(array)[0], return_inverse=True)
        unknown = [v for v in values.tolist() if v not in self.meanings]
        if unknown:
            found = ", ".join(repr(v).removesuffix(".0") for v in unknown[:5])
            found += " and others" if len(unknown) > 5 else ""
            raise InputError(where, expected=f"labels of the table {self}", found=found)
        ours = np.array([self.meanings[v] for v in values.tolist()], dtype=np.uint8)
        return ours[index].reshape(array.shape)

    def __str__(self) -> str:
        names = {BACKGROUND: "background", **{label: name for name, label in ZONES.items()}}
        return ",".join(f"{k}={names[v]}" for k, v in self.meanings.items() if k != BACKGROUND)
