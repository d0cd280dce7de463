"""Segments of a label volume: the structures that its labels stand for, by codes or by names.

Sources: PS3.16 CID 7150 (categories), CID 6300 (zones of the prostate).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom.sr.coding import Code

from mrisr.core.errors import InputError
from mrisr.core.labels import BACKGROUND, PZ, TZ, ZONES, named, unnamed, zone_of, zones_of

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")


@dataclass(frozen=True)
class Segment:
    """The structure that one label stands for."""

    number: int  #: the label; the segments of a file are numbered from 1 without a gap
    name: str  #: for people, at most 64 characters
    category: Code  #: PS3.16 CID 7150
    type: Code  #: for instance PS3.16 CID 6300
    #: Recommended for display: red, green, blue from 0 to 255.
    colour: tuple[int, int, int] | None = None


_PERIPHERAL = Code("279706003", "SCT", "Peripheral zone of the prostate")
_TRANSITION = Code("399384005", "SCT", "Transition zone of the prostate")
PROSTATE_ZONES = (
    Segment(PZ, "Peripheral zone", ANATOMICAL_STRUCTURE, _PERIPHERAL, (230, 159, 0)),
    Segment(TZ, "Transition zone", ANATOMICAL_STRUCTURE, _TRANSITION, (86, 180, 233)),
)
#: Types that leave open what a segment is.
UNSPECIFIC = (
    Code("", "", ""),
    Code("85756007", "SCT", "Tissue"),
    Code("41216001", "SCT", "Prostate"),
    ANATOMICAL_STRUCTURE,
)


def zone_segments(
    labels: Mapping[int, str], codes: Mapping[int, Code], path: Path
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Zone of each segment that is one, by its number, and notes about the others.

    A segment is what its code says (SNOMED CT or the older SRT), else its label or the meaning of its code.
    Raises InputError where none of them tells both zones.
    """
    coded = {
        n: zone.number for n, code in codes.items() for zone in PROSTATE_ZONES if code == zone.type
    }
    meant = {n: code.meaning for n, code in codes.items()}
    found = coded if set(coded.values()) == set(ZONES.values()) else None
    found = found or zones_of(labels) or zones_of(meant)
    told = {n: labels[n] or meant[n] for n in labels}
    if found is None:
        wanted = "segments of peripheral and transition zone, by their codes or labels"
        raise InputError(path, expected=wanted, found=named(told))
    notes = []
    left = {n for n in told if not found.get(n) and zone_of(told[n]) != BACKGROUND}
    if left:
        notes.append(f"segments left out: {named({n: told[n] for n in sorted(left)})}")
    if any((zone_of(labels[n]) or zone) != zone for n, zone in found.items()):
        notes.append(f"the codes of segments are followed, not their labels {named(labels)}")
    return found, tuple(notes)


def meaning_of(label: str, kind: Code, region: Code) -> Code:
    """The code that tells what a segment is: its type, or its region where type and label leave that open."""
    return region if region.value and kind in UNSPECIFIC and unnamed(label) else kind
