"""Hostile bytes: files cut short, bits turned over, and headers that say anything at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.reliability.damage import cut, flip
from tests.reliability.damage_files import FORMATS, Sample
from tests.reliability.expect import Case
from tests.reliability.fuzz import FUZZ, fuzz

GROUP = "Hostile bytes"
#: How many lengths, bits of each half and headers the gate tries; and headers where there is time.
LENGTHS, BITS, HEADERS, MANY_HEADERS = 16, 20, 25, 5000

_WITH_CHECKSUM = (".nii.gz", ".mha, compressed", ".zraw of a .mhd", ".nrrd, gzip")
_ANY_LENGTH = "refused, at any length"
_BIT = "refused, or a volume of the same shape with a sound grid; nothing else, ever"
_CHECKED_BIT = "refused where a checksum covers it; nothing but a refusal or a volume, ever"


def _damaged(
    name: str, how: Callable[[Sample, int | None], str], count: int | None, title: str
) -> Case:
    promised = _CHECKED_BIT if name in _WITH_CHECKSUM else _BIT
    return Case(
        GROUP,
        f"{name}, {title}",
        _ANY_LENGTH if how is cut else promised,
        lambda folder: how(FORMATS[name](folder), count),
        slow=count is None,
    )


def _fuzzed(name: str, count: int, title: str) -> Case:
    def run(folder: Path) -> str:
        return fuzz(folder, FUZZ[name], count)

    should = "refused, or a volume with a sound grid"
    return Case(GROUP, f"{name}, {title} of them", should, run, slow=count > HEADERS)


CASES = [
    *[
        _damaged(name, how, count, title)
        for name in FORMATS
        for how, count, title in (
            (cut, LENGTHS, "cut"),
            (flip, BITS, "a bit turned over"),
            (cut, None, "cut to every length"),
            (flip, None, "every bit turned over"),
        )
    ],
    *[
        _fuzzed(name, count, title)
        for name in FUZZ
        for count, title in ((HEADERS, "some"), (MANY_HEADERS, "thousands"))
    ],
]
