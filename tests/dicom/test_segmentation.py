import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mrisr.core import geometry
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data.labels import read_labels
from mrisr.data.phantom import label_volume
from mrisr.dicom import multiframe as multiframe_writer
from mrisr.dicom.attributes import code_item
from mrisr.dicom.segmentation import (
    PROSTATE_ZONES,
    read_segmentation,
    read_zones,
    write_segmentation,
)
from mrisr.dicom.source import deidentified, read_source
from mrisr.io import read_volume
from tests.dicom.conftest import (
    DERIVATION,
    FAULTS,
    as_nifti,
    assert_valid,
    at,
    errors_of,
    frames,
    multiframe,
    references,
    stumped,
    tool,
    upsampled,
    world,
)
from tests.dicom.synthetic import SECRETS, hospital_series

GRIDS = {"own": (1, 1, 1), "in-plane": (2, 2, 1), "through-plane": (1, 1, 3.5)}
ZONES = replace(DERIVATION, label="prostate zones", series_offset=91)


@pytest.fixture
def series(tmp_path):
    return hospital_series(tmp_path / "series", size=48, slices=6)


@pytest.fixture
def source(series):
    return read_source(series)


@pytest.fixture
def labels(series):
    """Zones on the source's own grid."""
    return zones(read_volume(series))


def zones(grid: Volume) -> Volume:
    found = label_volume(grid.shape, grid.affine)
    assert set(np.unique(found.array)) == {0, 1, 2}
    return replace(found, stacked_along=grid.stacked_along)


def write(labels, tmp_path, source, **more):
    more = {"segments": PROSTATE_ZONES, "derivation": ZONES, **more}
    return write_segmentation(labels, tmp_path / "zones.dcm", source, **more)


def check_same(path: Path, labels: Volume) -> None:
    back = read_segmentation(path).volume
    np.testing.assert_array_equal(back.array, labels.array)
    np.testing.assert_allclose(back.affine, labels.affine, atol=1e-5)


def check_against(labels: Volume, d: pydicom.Dataset) -> None:
    """Every frame of every segment is there, where it belongs."""
    seen = 0
    for plane, points, group in frames(d):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(plane, at(labels, points) == number)
        seen += plane.size
    assert seen == labels.array.size * len(d.SegmentSequence)


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_come_back_on_their_grid(tmp_path, series, source, grid):
    labels = zones(upsampled(read_volume(series), GRIDS[grid]))
    path = write(labels, tmp_path, source)
    check_same(path, labels)
    back = read_segmentation(path)
    assert (back.path, back.volume.stacked_along, back.volume.name) == (path, 2, str(path))
    check_against(labels, pydicom.dcmread(path))
    assert_valid(path)
    assert errors_of(tool("dcentvfy"), *sorted(series.iterdir()), path) == []
    subprocess.run([tool("dcmftest"), path], check=True, capture_output=True)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_other_axes_than_the_source(tmp_path, plane):
    series = hospital_series(tmp_path / "s", size=48, slices=6, plane=plane, obliquity=21)
    grid = upsampled(read_volume(series), (1, 2, 1))
    labels = as_nifti(label_volume(grid.shape, grid.affine))
    assert geometry.axis_codes(labels.affine) != geometry.axis_codes(grid.affine)
    path = write(labels, tmp_path, read_source(series))
    check_against(labels, pydicom.dcmread(path))
    back = read_segmentation(path).volume
    np.testing.assert_allclose(back.affine, grid.affine, atol=1e-5)


def test_planes_across_those_of_the_source(tmp_path, source):
    """Then every slice is the source of every plane; it is said once."""
    affine = np.array([[0, 0, 3.0, -20], [1.5, 0, 0, -18], [0, 1.5, 0, -12], [0, 0, 0, 1]])
    labels = zones(Volume(np.zeros((24, 16, 14)), affine, stacked_along=2))
    path = write(labels, tmp_path, source)
    d = pydicom.dcmread(path)
    check_against(labels, d)
    (derivation,) = d.SharedFunctionalGroupsSequence[0].DerivationImageSequence
    assert len(derivation.SourceImageSequence) == 6
    assert not any("DerivationImageSequence" in g for g in d.PerFrameFunctionalGroupsSequence)
    assert_valid(path)


def test_attributes(tmp_path, series, source, labels):
    old = pydicom.dcmread(series / "IM0001")
    d = pydicom.dcmread(write(labels, tmp_path, source))
    for keyword in """
        StudyInstanceUID FrameOfReferenceUID PatientName PatientID PatientBirthDate PatientSex
        PatientAge StudyDate StudyTime StudyID AccessionNumber StudyDescription
        ReferringPhysicianName SpecificCharacterSet BodyPartExamined
    """.split():
        assert d[keyword].value == old[keyword].value, keyword
    assert (d.SOPClassUID, d.Modality) == ("1.2.840.10008.5.1.4.1.1.66.4", "SEG")
    assert (d.SegmentationType, d.SegmentsOverlap) == ("BINARY", "NO")
    assert (d.SeriesNumber, d.InstanceNumber) == (591, 1)
    assert d.SeriesDescription == "t2_tse_tra_5 prostate zones segmentation"
    assert (d.ContentDate, d.SeriesDate) == ("20260305", "20260305")
    assert "Research use only" in d.DerivationDescription
    assert d.SeriesInstanceUID not in (old.SeriesInstanceUID, d.StudyInstanceUID)
    assert d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID
    makers = [item.Manufacturer for item in d.ContributingEquipmentSequence]
    assert makers == ["SIEMENS", "Highdicom open-source contributors", "The mrisr authors"]
    assert (d.Manufacturer, d.ManufacturerModelName) == ("The mrisr authors", "mrisr")
    assert (d.SoftwareVersions, d.DeviceSerialNumber) == ("mrisr 0", "ab" * 32)
    for number, item in enumerate(d.SegmentSequence, start=1):
        assert item.SegmentNumber == number
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = item.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("mrisr", "0")
        assert algorithm.AlgorithmParameters == f"model_sha256={'ab' * 32},seed=3"
        assert len(item.RecommendedDisplayCIELabValue) == 3
    assert not any(e.tag.is_private or e.tag.group == 0x6000 for e in d.iterall())
    assert b"SECRET-STEP" not in (tmp_path / "zones.dcm").read_bytes()


def test_codes_are_those_of_the_standard():
    """Against pydicom's copy of the dictionaries of PS3.16."""
    known = (codes.SCT.PeripheralZoneOfTheProstate, codes.SCT.TransitionZoneOfTheProstate)
    assert tuple(s.type for s in PROSTATE_ZONES) == known
    assert {s.category for s in PROSTATE_ZONES} == {codes.SCT.AnatomicalStructure}


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(("grid", "preserved"), [("own", "YES"), ("in-plane", "NO")])
def test_frames_refer_to_their_slices(tmp_path, series, source, grid, preserved, enhanced):
    """The slices of an enhanced source are one instance, referred to once, and told by number."""
    source = multiframe(source) if enhanced else source
    labels = zones(upsampled(read_volume(series), GRIDS[grid]))
    path = write(labels, tmp_path, source)
    d = pydicom.dcmread(path)
    uids = [s.sop_uid for s in source.slices]
    (referred,) = d.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == source.series_uid
    unique = [(uid, None) for uid in dict.fromkeys(uids)]
    assert references(referred.ReferencedInstanceSequence) == unique
    whole = [(uids[0], [1, 2, 3, 4, 5, 6])] if enhanced else [(uid, None) for uid in uids]
    assert references(d.SourceImageSequence) == whole
    for _, points, group in frames(d):
        (derivation,) = group.DerivationImageSequence
        (image,) = derivation.SourceImageSequence
        k = round((np.linalg.inv(source.affine) @ [*points[0, 0], 1])[2])
        assert references([image]) == [(uids[k], source.slices[k].frame)]
        assert image.SpatialLocationsPreserved == preserved
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert derivation.DerivationCodeSequence[0].CodeValue == "113076"
    assert_valid(path)


def test_segments_that_do_not_occur_or_one_only(tmp_path, source, labels):
    one = labels.with_array(np.where(labels.array == 1, 1, 0))
    none = labels.with_array(np.zeros_like(labels.array))
    for given in (one, none):
        path = write(given, tmp_path, source, force=True)
        check_same(path, given)
        assert_valid(path)
    series = hospital_series(tmp_path / "s", size=48, slices=1)
    single = read_volume(series)
    single = single.with_array((single.array > 500).astype(float))
    more = {"segments": PROSTATE_ZONES[:1], "force": True}
    check_same(write(single, tmp_path, read_source(series), **more), single)


def test_without_the_patient(tmp_path, source, labels):
    path = write(labels, tmp_path, deidentified(source))
    raw = path.read_bytes().lower()
    first = source.slices[0]
    for secret in (*SECRETS, source.series_uid, first.carried.StudyInstanceUID, first.sop_uid):
        assert secret.encode("latin-1").lower() not in raw, secret
    d = pydicom.dcmread(path)
    assert (d.PatientIdentityRemoved, d.PatientID[:5]) == ("YES", "ANON-")
    assert_valid(path)


@pytest.mark.parametrize(
    "edits",
    [
        {"PatientSex": "?", "StudyTime": "10:15", "PatientBirthDate": "unknown"},
        {"Manufacturer": None, "SoftwareVersions": None},
        {"SoftwareVersions": ["a", "b"], "SpecificCharacterSet": None, "PatientName": "A"},
        {"LossyImageCompression": "01", "LossyImageCompressionRatio": "8"},
        {"SeriesNumber": None, "SeriesDescription": "x" * 64},
        {"FrameOfReferenceUID": None},
        {"TimezoneOffsetFromUTC": "+0100"},
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value|Value doesn't match:UserWarning")
def test_odd_sources(tmp_path, edits):
    series = hospital_series(tmp_path / "s", size=48, slices=3, **edits)
    d = pydicom.dcmread(write(zones(read_volume(series)), tmp_path, read_source(series)))
    assert len(d.SeriesDescription) <= 64
    assert d.SeriesDescription.endswith("prostate zones segmentation")
    assert d.LossyImageCompression == edits.get("LossyImageCompression", "00")
    assert d.ContentDate == ("20260306" if "TimezoneOffsetFromUTC" in edits else "20260305")


def test_a_rerun_gives_the_same_file(tmp_path, source, labels):
    first = write(labels, tmp_path, source).read_bytes()
    assert write(labels, tmp_path, source, force=True).read_bytes() == first
    lesions = replace(PROSTATE_ZONES[1], type=Code("1", "99TEST", "Lesion"))
    other = {"segments": (PROSTATE_ZONES[0], lesions)}, {"derivation": replace(ZONES, key="other")}
    uids = set()
    for more in ({}, *other):
        path = write(labels, tmp_path, source, force=True, **more)
        uids.add(pydicom.dcmread(path).SOPInstanceUID)
    assert len(uids) == 3


# --- what is refused ------------------------------------------------------------------------------


def test_labels_nobody_declared(tmp_path, source, labels):
    wrong = labels.with_array(labels.array.astype(np.int16) * 7 - 1)
    with pytest.raises(InputError, match=r"labels from 0 to 2, found -1, 6, 13$"):
        write(wrong, tmp_path, source)
    with pytest.raises(InputError, match="whole numbers, found fractions"):
        write(labels.with_array(labels.array * 0.5), tmp_path, source)
    sheared = labels.affine @ [[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    with pytest.raises(InputError, match="right angles"):
        write(replace(labels, affine=sheared), tmp_path, source)
    for segments in ((), PROSTATE_ZONES[1:], PROSTATE_ZONES[::-1]):
        with pytest.raises(UsageError, match="1, 2, 3 and so on"):
            write(labels, tmp_path, source, segments=segments)
    assert [p.name for p in tmp_path.iterdir()] == ["series"]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_old_file_stays_where_the_new_one_does_not_read_back(
    tmp_path, source, labels, monkeypatch, fault
):
    (tmp_path / "zones.dcm").write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        write(labels, tmp_path, source)
    stumped(monkeypatch, fault)
    with pytest.raises(OutputError, match=rf"zones\.dcm: not written, .*{FAULTS[fault]}") as caught:
        write(labels, tmp_path, source, force=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "zones.dcm").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["series", "zones.dcm"]


def test_more_than_a_file_holds(tmp_path, source, labels, monkeypatch):
    monkeypatch.setattr(multiframe_writer, "_MOST", labels.array.size // 4 - 1)
    with pytest.raises(OutputError, match="bytes of pixels"):
        write(labels, tmp_path, source)


def test_highdicom_loads_when_it_is_used():
    code = "import sys, mrisr.dicom.segmentation, mrisr.dicom.parametric_map as m\n"
    code += "sys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- what others wrote, and what is none ----------------------------------------------------------


@pytest.fixture
def foreign(tmp_path, series, labels):
    """A segmentation as others write it: empty planes left out, of any type."""
    import highdicom as hd

    def run(kind="BINARY", array=None, segments=PROSTATE_ZONES, edit=None, name="foreign.dcm"):
        images = [pydicom.dcmread(p) for p in sorted(series.iterdir())]
        by_hand = hd.seg.SegmentAlgorithmTypeValues.MANUAL
        described = [
            hd.seg.SegmentDescription(s.number, s.name, s.category, s.type, by_hand)
            for s in segments
        ]
        given = labels.array.transpose(2, 1, 0) if array is None else array
        names = ("1.2.3", 1, "1.2.4", 1, "m", "n", "1", "s")
        path = tmp_path / name
        made = hd.seg.Segmentation(images, given, kind, described, *names)
        if edit is not None:
            edit(made)
        path.parent.mkdir(exist_ok=True)
        made.save_as(path)
        return path

    return run


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segmentations_of_others(foreign, labels, kind):
    back = read_segmentation(foreign(kind)).volume
    assert (back.array > 0).any(axis=(0, 1)).sum() == (labels.array > 0).any(axis=(0, 1)).sum()
    np.testing.assert_array_equal(back.array, at(labels, world(back)))


def test_what_is_no_label_volume(tmp_path, series, foreign, labels):
    stack = np.stack([labels.array.transpose(2, 1, 0) > 0] * 2, axis=-1).astype(np.uint8)
    path = foreign(array=stack)
    with pytest.raises(InputError, match="segments that do not overlap"):
        read_segmentation(path)
    with pytest.raises(InputError, match="fractional"):
        read_segmentation(foreign("FRACTIONAL"))
    path = foreign()
    with pytest.raises(InputError, match="at most 100 voxels"):
        read_segmentation(path, max_voxels=100)
    whole = path.read_bytes()
    others = [series / "IM0001", tmp_path / "missing.dcm"]
    for kept in (0, 200, len(whole) // 2, len(whole) - 8):
        others.append(tmp_path / f"{kept}.dcm")
        others[-1].write_bytes(whole[:kept])
    for other in others:
        with pytest.raises(InputError, match="expected a DICOM segmentation") as caught:
            read_segmentation(other)
        assert "\n" not in str(caught.value)


# --- zones, whatever their numbers ----------------------------------------------------------------

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
