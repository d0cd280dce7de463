"""Deeds done to the functional groups of an enhanced multi-frame file."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pydicom
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from tests.reliability import dicom_files

Deed = Callable[[FileDataset], None]

_MACROS = ["PlanePositionSequence", "PlaneOrientationSequence", "MREchoSequence"]
_MACROS += ["PixelMeasuresSequence", "PixelValueTransformationSequence"]
_GROUPS = ["PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"]
_VALUES: list[tuple[str, str, object]] = [
    ("ImagePositionPatient", "DS", [0, 0, 0]),
    ("ImagePositionPatient", "DS", ["1e30", 0, 0]),
    ("ImagePositionPatient", "DS", [1, 2]),
    ("ImagePositionPatient", "DS", None),
    ("ImagePositionPatient", "LO", "somewhere"),
    ("ImageOrientationPatient", "DS", [0, 1, 0, 1, 0, 0]),
    ("ImageOrientationPatient", "DS", [1, 0, 0, 1, 0, 0]),
    ("ImageOrientationPatient", "DS", ["1e200", 0, 0, 0, "1e200", 0]),
    ("ImageOrientationPatient", "FD", [1.0, 0.0, 0.0, 0.0, float("nan"), 0.0]),
    ("PixelSpacing", "DS", [0, 0]),
    ("PixelSpacing", "DS", [-1, 1]),
    ("PixelSpacing", "DS", "0.5"),
    ("PixelSpacing", "FD", [float("inf"), 1.0]),
    ("SliceThickness", "DS", [1, 2]),
    ("SpacingBetweenSlices", "CS", "WIDE"),
    ("RescaleSlope", "DS", 0),
    ("RescaleSlope", "DS", ["1e300"]),
    ("RescaleSlope", "FD", float("nan")),
    ("RescaleIntercept", "DS", ["-1e300"]),
    ("EffectiveEchoTime", "FD", [1.0, 2.0]),
    ("FrameType", "CS", ["A"] * 300),
    ("Rows", "US", 0),
    ("Columns", "US", 65535),
    ("NumberOfFrames", "IS", 0),
    ("NumberOfFrames", "IS", -5),
    ("NumberOfFrames", "IS", 4),
    ("NumberOfFrames", "IS", 2**31 - 1),
    ("NumberOfFrames", "IS", [5, 5]),
]


@cache
def _whole() -> FileDataset:
    with tempfile.TemporaryDirectory() as folder:
        d = pydicom.dcmread(dicom_files.enhanced(Path(folder)))
        d.walk(lambda *_: None)  # everything is read before the file goes
        return d


def enhanced() -> FileDataset:
    """A whole file, to be changed at will."""
    return copy.deepcopy(_whole())


def deed() -> st.SearchStrategy[Deed]:
    """Something done to a file."""
    place = st.integers(0, 4)
    macro, group = st.sampled_from(_MACROS), st.sampled_from(_GROUPS)
    return st.one_of(
        st.builds(_change, group, place, macro, st.sampled_from(_VALUES)),
        st.builds(_macro, group, place, macro, st.integers(0, 3)),
        st.builds(_frames, group, place, st.sampled_from(["drop", "repeat", "empty", "all"])),
        st.builds(_top, st.sampled_from(_VALUES)),
    )


def _items(d: Dataset, keyword: str) -> list[Dataset]:
    return list(d.get(keyword) or [])


def _set(d: Dataset, keyword: str, vr: str, value: object) -> None:
    d[keyword] = DataElement(keyword, vr, value, validation_mode=pydicom.config.IGNORE)


def _top(value: tuple[str, str, object]) -> Deed:
    return lambda d: _set(d, *value)


def _change(group: str, place: int, macro: str, value: tuple[str, str, object]) -> Deed:
    """Put an attribute into a macro, which is made where it is missing."""

    def do(d: FileDataset) -> None:
        for item in _items(d, group)[place : place + 1]:
            inner = _items(item, macro) or [Dataset()]
            _set(inner[0], *value)
            setattr(item, macro, Sequence(inner))

    return do


def _macro(group: str, place: int, macro: str, count: int) -> Deed:
    """Leave a macro out, or give it another number of items."""

    def do(d: FileDataset) -> None:
        for item in _items(d, group)[place : place + 1]:
            inner = _items(item, macro) or [Dataset()]
            if count:
                setattr(item, macro, Sequence([copy.deepcopy(inner[0]) for _ in range(count - 1)]))
            elif macro in item:
                delattr(item, macro)

    return do


def _frames(group: str, place: int, how: str) -> Deed:
    """Drop, repeat or empty the groups of a frame, or drop the sequence."""

    def do(d: FileDataset) -> None:
        items = _items(d, group)
        if how == "all" and group in d:
            delattr(d, group)
        elif place < len(items):
            new = {"drop": [], "repeat": [items[place]] * 2, "empty": [Dataset()], "all": []}[how]
            items[place : place + 1] = [copy.deepcopy(i) for i in new]
            setattr(d, group, Sequence(items))

    return do
