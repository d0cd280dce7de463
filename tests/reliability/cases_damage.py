"""Hostile bytes: files cut short, bits turned over, and headers that say anything at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.reliability.case import Case
from tests.reliability.damage import cut, flip
from tests.reliability.damage_files import FORMATS, Make, Sample
from tests.reliability.fuzz import FUZZ, fuzz

GROUP = "Hostile bytes"
#: How many lengths, bits of each half and headers the gate tries.
LENGTHS, BITS, HEADERS = 40, 50, 80
#: And how many headers where there is time.
MANY_HEADERS = 5000

_READ_OR_REFUSED = "refused, or a volume of the same shape with a sound grid; nothing else, ever"
_WITH_CHECKSUM = (".nii.gz", ".mha, compressed", ".zraw of a .mhd", ".nrrd, gzip")
_CHECKED = "refused where a checksum covers it; nothing but a refusal or a volume, ever"


def _damaged(
    how: Callable[[Sample, int | None], str], make: Make, count: int | None
) -> Callable[[Path], str]:
    return lambda folder: how(make(folder), count)


def _cases(name: str, make: Make) -> list[Case]:
    flipped = _CHECKED if name in _WITH_CHECKSUM else _READ_OR_REFUSED
    return [
        Case(GROUP, f"{name}, cut", "refused, at any length", _damaged(cut, make, LENGTHS)),
        Case(GROUP, f"{name}, a bit turned over", flipped, _damaged(flip, make, BITS)),
        Case(
            GROUP,
            f"{name}, cut to every length",
            "refused, at any length",
            _damaged(cut, make, None),
            slow=True,
        ),
        Case(
            GROUP, f"{name}, every bit turned over", flipped, _damaged(flip, make, None), slow=True
        ),
    ]


def _fuzzed(name: str, count: int) -> Callable[[Path], str]:
    return lambda folder: fuzz(folder, FUZZ[name], count)


CASES = [
    *[case for name, make in FORMATS.items() for case in _cases(name, make)],
    *[
        Case(
            GROUP,
            f"{name}, {'thousands' if slow else 'some'} of them",
            "refused, or a volume with a sound grid",
            _fuzzed(name, MANY_HEADERS if slow else HEADERS),
            slow=slow,
        )
        for name in FUZZ
        for slow in (False, True)
    ],
]
