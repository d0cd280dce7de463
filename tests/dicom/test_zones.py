"""Zones out of the segmentations of others, whatever their numbers, files and planes."""

import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError
from mrisr.data.labels import read_labels
from mrisr.dicom.attributes import code_item
from mrisr.dicom.segments import PROSTATE_ZONES
from mrisr.dicom.zones import read_zones

PZ_SEGMENT, TZ_SEGMENT = PROSTATE_ZONES
PRIVATE = Code("1", "99LOCAL", "Structure")
TISSUE = Code("85756007", "SCT", "Tissue")


def called(number, name, code=PRIVATE):
    return replace(PZ_SEGMENT, number=number, name=name, type=code)


@pytest.mark.parametrize(
    ("segments", "note"),
    [
        ((replace(TZ_SEGMENT, number=1), replace(PZ_SEGMENT, number=2)), ""),
        (
            (
                called(1, "a", Code("T-D0823", "SRT", "Transition zone")),
                called(2, "b", Code("T-D05E4", "SRT", "x")),
            ),
            "",
        ),
        ((called(1, "Central gland"), called(2, "PZ")), ""),
        ((called(1, "TransitionZone"), called(2, "PeripheralZone_mask")), ""),
        (
            (
                called(1, "1", Code("5", "99LOCAL", "Transition zone of prostate")),
                called(2, "2", Code("6", "99LOCAL", "Peripheral zone of the prostate")),
            ),
            "",
        ),
        (
            (called(1, "PZ", TZ_SEGMENT.type), called(2, "TZ", PZ_SEGMENT.type)),
            "codes of segments are followed, not their labels 1 'PZ', 2 'TZ'",
        ),
    ],
)
def test_segments_are_what_their_codes_or_names_say(foreign, labels, segments, note):
    """Numbers say nothing: here 1 is the transition zone. Planes that are left out are 0."""
    turned = np.array([0, 2, 1], np.uint8)[labels.array].transpose(2, 1, 0)
    file = read_zones(foreign(array=turned, segments=segments), labels)
    np.testing.assert_array_equal(file.volume.array, labels.array)
    assert note in " ".join(file.notes)
    assert bool(file.notes) == bool(note)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_zones_on_the_planes_of_the_image(foreign, labels, kind):
    """Gaps among the planes, other structures, and an image whose array axes run otherwise."""
    thinned = labels.array.copy()
    thinned[:, :, [0, 2]] = 0
    others = np.where(thinned == 0, 0, thinned + 1)
    others[:6, :6, 3] = 1
    structures = (
        called(1, "Bladder"),
        replace(PZ_SEGMENT, number=2),
        replace(TZ_SEGMENT, number=3),
    )
    path = foreign(kind, array=others.transpose(2, 1, 0).astype(np.uint8), segments=structures)
    for codes_ in ("LPS", "RAS", "SLA"):
        image = replace(labels, array=thinned).reoriented(codes_)
        file = read_zones(path, image)
        np.testing.assert_array_equal(file.volume.array, image.array)
        np.testing.assert_array_equal(file.volume.affine, image.affine)
        assert file.notes == ("segments left out: 1 'Bladder'",)


def without_type(d: pydicom.Dataset) -> None:
    del d.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    d.SegmentSequence[1].SegmentedPropertyTypeCodeSequence = []


def with_region(d: pydicom.Dataset) -> None:
    for item, zone in zip(d.SegmentSequence, PROSTATE_ZONES, strict=True):
        item.AnatomicRegionSequence = [code_item(zone.type)]


def test_segments_without_a_code_or_with_that_of_their_place(foreign, labels):
    file = read_zones(
        foreign(segments=(called(1, "PZ"), called(2, "TZ")), edit=without_type), labels
    )
    np.testing.assert_array_equal(file.volume.array, labels.array)
    for name, kind, told in (("Segment_", TISSUE, True), ("Lesion ", TISSUE, False)):
        segments = [called(n, f"{name}{n}", kind) for n in (1, 2)]
        path = foreign(segments=segments, edit=with_region)
        if told:
            file = read_zones(path, labels)
            np.testing.assert_array_equal(file.volume.array, labels.array)
        else:  # which lies in a zone and is none
            with pytest.raises(InputError, match="found 1 'Lesion 1', 2 'Lesion 2'"):
                read_zones(path, labels)
    path = foreign(segments=(called(1, "a"), called(2, "b")), edit=without_type)
    with pytest.raises(InputError, match="by their codes or labels, found 1 'a', 2 'b'"):
        read_zones(path, labels)


def from_zero(d: pydicom.Dataset) -> None:
    for group in d.PerFrameFunctionalGroupsSequence:
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber -= 1


def unidentified(d: pydicom.Dataset) -> None:
    for group in d.PerFrameFunctionalGroupsSequence:
        del group.SegmentIdentificationSequence


def undeclared(d: pydicom.Dataset) -> None:
    d.SegmentSequence[-1].SegmentNumber = 7


@pytest.mark.parametrize(
    ("kind", "edit", "found"),
    [
        ("BINARY", from_zero, "1, 2, found frame 1 of 0"),
        ("BINARY", unidentified, "1, 2, found frame 1 of none"),
        ("BINARY", undeclared, "1, 7, found frame [0-9]+ of 2"),
        ("LABELMAP", undeclared, "0, 1, 7, found frame [0-9]+ of 2"),
    ],
)
def test_frames_of_no_segment(foreign, labels, kind, edit, found):
    with pytest.raises(InputError, match=f"foreign.dcm: expected frames of the segments {found}"):
        read_zones(foreign(kind, edit=edit), labels)


def test_a_folder_of_segmentations(foreign, labels):
    """One file beside what archives and desktops leave, and one for each zone."""
    path = foreign(name="study/zones.dcm")
    for other in (".DS_Store", "LICENSE"):
        (path.parent / other).write_text("no segmentation")
        file = read_labels(path.parent, labels)
        np.testing.assert_array_equal(file.volume.array, labels.array)
    array = labels.array.transpose(2, 1, 0)
    for number, zone in enumerate(PROSTATE_ZONES, start=1):
        segments = (called(1, "Bladder"), replace(zone, number=2))
        foreign(array=(array == number) * np.uint8(2), segments=segments, name=f"each/{number}.dcm")
    file = read_labels(path.parent.parent / "each", labels)
    np.testing.assert_array_equal(file.volume.array, labels.array)
    assert file.notes == ("segments left out: 1 'Bladder', 4 'Bladder'",)
    shutil.copy(path, path.parent.parent / "each")
    with pytest.raises(
        InputError, match=r"each: expected PZ in one file, found 1\.dcm, zones\.dcm"
    ):
        read_labels(path.parent.parent / "each", labels)


def test_zones_that_nothing_tells(foreign, labels, series):
    gland = np.stack([labels.array > 0, labels.array == 1, labels.array == 2], -1)
    gland = gland.transpose(2, 1, 0, 3).astype(np.uint8)
    named = (called(1, "Prostate"), called(2, "PZ"), called(3, "TZ"))
    file = read_zones(foreign(array=gland, segments=named), labels)
    np.testing.assert_array_equal(file.volume.array, labels.array)
    alike = (called(1, "PZ"), called(2, "TZ"), called(3, "transition zone"))
    with pytest.raises(InputError, match=r"foreign\.dcm: .*segments that do not overlap"):
        read_zones(foreign(array=gland, segments=alike), labels)
    unnamed = [called(1, "Segment_1", TISSUE), called(2, "Peripheral zone", PZ_SEGMENT.type)]
    path = foreign(segments=unnamed)
    with pytest.raises(InputError, match=r"foreign.dcm: .*1 'Segment_1', 2 'Peripheral zone'"):
        read_zones(path, labels)
    path = foreign()
    (series.parent / "alone").mkdir()
    shutil.copy(path, series.parent / "alone" / "1-1.dcm")
    for given in (path, series.parent / "alone"):
        np.testing.assert_array_equal(read_labels(given, labels).volume.array, labels.array)
    moved = labels.affine.copy()
    moved[:3, 3] += 0.3
    with pytest.raises(
        InputError, match=r"foreign\.dcm: expected frames on the voxels of .*frame "
    ):
        read_zones(path, replace(labels, affine=moved))
    with pytest.raises(InputError, match="at most 100 voxels"):
        read_zones(path, labels, max_voxels=50)
    for other in (series / "IM0001", series / "missing"):
        with pytest.raises(InputError, match="expected a DICOM segmentation"):
            read_zones(other, labels)
