"""DICOM: where the slices lie, several series in a folder, several volumes in a series, enhanced files."""

from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from tests.reliability.dicom_files import (
    enhanced,
    every,
    position,
    repeated,
    series,
    setting,
    third,
    uid,
)
from tests.reliability.expect import Cases
from tests.reliability.volume_files import AFFINE, VOXELS, Make, nifti

CASES = Cases("DICOM geometry")
refuse, handle = CASES.refuse, CASES.handle


def slices(*kept: int) -> Make:
    return partial(series, slices=kept)


def truth_of(*kept: int) -> Make:
    """Makes the NIfTI that holds some slices only."""
    start = np.outer([0, 0, kept[0] * 3.0, 0], [0, 0, 0, 1])
    return partial(nifti, voxels=VOXELS[:, :, list(kept)], affine=AFFINE + start)


def at(k: int, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> list[float]:
    """Position of slice ``k``, moved by some mm."""
    return (np.array(position(k)) + [x, y, z]).tolist()


#: The axes in LPS of a turned grid.
ROTATION, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))
ROTATION[:, 2] = np.cross(ROTATION[:, 0], ROTATION[:, 1])
oblique = every(
    ImageOrientationPatient=[f"{c:.12f}" for c in ROTATION[:, :2].T.ravel()],
    ImagePositionPatient=lambda k: [f"{p:.11f}" for p in k * 3.0 * ROTATION[:, 2]],
)
LPS = np.diag([-1.0, -1.0, 1.0])
oblique_affine = np.eye(4)
oblique_affine[:3, :3] = LPS @ ROTATION * [0.7, 0.5, 3.0]

TILTED = [1, 0, 0, 0, float(np.cos(np.radians(10))), float(np.sin(np.radians(10)))]
PLANES = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]]


def jitter(k: int) -> list[float]:
    return [1, 1e-6 * (-1) ** k, 0, 1e-6 * (-1) ** k, 1, 1e-6]


refuse("a slice missing", slices(0, 1, 3, 4), "1 missing slice", "01.dcm", "03.dcm")
refuse("a slice missing of four", slices(0, 1, 3), "uneven gap")
refuse("irregular gaps", third(ImagePositionPatient=at(2, z=0.1)), "uneven gap")
ONCE = "each slice position once"
twice = third(ImagePositionPatient=position(1))
refuse("the same position twice", twice, ONCE, "01.dcm", "02.dcm")
refuse("all slices at one position", every(ImagePositionPatient=position(0)), ONCE)
refuse("a sheared stack", every(ImagePositionPatient=lambda k: at(k, y=0.5 * k)), "sheared")
refuse("a tilted gantry", every(ImageOrientationPatient=TILTED), "sheared by 10.00 degrees")
refuse("one slice shifted sideways", third(ImagePositionPatient=at(2, x=2)), "sideways")
handle("InstanceNumber reversed", every(InstanceNumber=lambda k: 99 - k))
handle("InstanceNumber shuffled", every(InstanceNumber=lambda k: (3, 1, 5, 2, 4)[k]))
handle("InstanceNumber the same in every slice", every(InstanceNumber=1))
handle("no InstanceNumber", every(InstanceNumber=None))
for sign, value in (("wrong", 3.3), ("negative", -3.0)):
    told, note = every(SpacingBetweenSlices=value), f"SpacingBetweenSlices {value:g} ignored"
    handle(f"{sign} SpacingBetweenSlices", told, note, should="the positions win")
handle("no SpacingBetweenSlices", every(SpacingBetweenSlices=None))
OWN = "rows and columns keep their own spacing (0.5 and 0.7 mm)"
handle("pixels that are not square", series, should=OWN)
SAME = "the same voxels at the same places as a NIfTI of it"
handle("an oblique stack", oblique, like=partial(nifti, affine=oblique_affine), should=SAME)
handle("cosines that jitter by 1e-6", every(ImageOrientationPatient=jitter))
planes = every(ImageOrientationPatient=lambda k: PLANES[k % 3])
refuse("a localizer with three planes", planes, "axial", "coronal", "sagittal")
refuse("slices of different Rows", third(Rows=6, Columns=32), "one matrix", "6x32", "02.dcm")
other = third(PixelSpacing=[0.6, 0.7])
refuse("slices of different PixelSpacing", other, "one PixelSpacing", "02.dcm")
for title, wrong in [
    ("no ImagePositionPatient", None),
    ("an empty ImagePositionPatient", []),
    ("ImagePositionPatient of two numbers", [1, 2]),
    ("no ImageOrientationPatient", None),
    ("ImageOrientationPatient of length 2", [2, 0, 0, 0, 2, 0]),
    ("ImageOrientationPatient not at right angles", [1, 0, 0, 0.6, 0.8, 0]),
    ("ImageOrientationPatient of zeros", [0] * 6),
    ("no PixelSpacing", None),
    ("PixelSpacing of zero", [0, 0]),
    ("negative PixelSpacing", [0.5, -0.7]),
    ("PixelSpacing of one number", [0.5]),
    ("Rows of zero", 0),
    ("no Columns", None),
]:
    (keyword,) = (word for word in title.split() if word[0].isupper())
    refuse(title, third(**{keyword: wrong}), "02.dcm", keyword)
handle("two slices", slices(1, 2), like=truth_of(1, 2))
two = partial(series, edit=setting(SliceThickness=None), slices=(1, 2))
handle("two slices, through-plane", two, like=truth_of(1, 2), job="throughplane")
handle("one slice, in-plane", slices(2), "a single slice", like=truth_of(2))
refuse("one slice, through-plane", slices(2), "at least 2 slices", job="throughplane")
thin = partial(series, edit=setting(SliceThickness=None, SpacingBetweenSlices=None), slices=(2,))
refuse("one slice of unknown thickness", thin, "thickness")
refuse("NaN in ImagePositionPatient", third(ImagePositionPatient=b"nan\\2.5\\3.125"), "02.dcm")
refuse("infinity in ImagePositionPatient", third(ImagePositionPatient=b"1\\inf\\3.1"), "02.dcm")
refuse("words in ImagePositionPatient", third(ImagePositionPatient=b"left\\2.5\\3"), "02.dcm")
refuse("a decimal comma in PixelSpacing", third(PixelSpacing=b"1,25\\2,5"), "02.dcm")

# --- several series and volumes -------------------------------------------------------------------

CASES.group = "DICOM series and volumes"


def two_series(folder: Path) -> Path:
    series(folder, "study", naming="a{:02d}.dcm")
    edit = setting(PixelData=VOXELS[:, :, 0].T.tobytes())
    return series(folder, "study", edit=edit, number=7, description="adc_map", naming="b{:02d}.dcm")


b_values = partial(repeated, DiffusionBValue=(50.0, 800.0))
dynamics = partial(repeated, TemporalPositionIdentifier=(1, 2))
two_volumes = partial(enhanced, volumes=2)
#: The NIfTI of the second volume of each.
half = partial(nifti, voxels=VOXELS // 2)


def frame_count(number: object) -> Make:
    return partial(enhanced, edit=setting(NumberOfFrames=number))


def no_plane(d: FileDataset, k: int) -> None:
    d.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence = [Dataset()]


def short(folder: Path) -> Path:
    target = b_values(folder)
    (target / "1_04.dcm").unlink()
    return target


BOTH = ("'t2_tse_tra'", "'adc_map'")
UIDS = (uid("series", 1), uid("series", 7))
refuse("two series in one folder", two_series, "2 series", *UIDS, *BOTH, "5 files")
for what, named in (("UID", UIDS[0]), ("number", 1), ("description", "T2_TSE_TRA")):
    name, options = f"two series, --series with the {what}", ("--series", named)
    handle(name, two_series, options=options, should="the series asked for")
neither = ("--series", "dwi")
refuse("two series, --series that neither is", two_series, "'dwi'", *BOTH, options=neither)
B = "DiffusionBValue: 50.0, 800.0"
FIRST, SECOND = ("--frame", 1), ("--frame", 2)
second = {"options": SECOND, "like": half, "should": "the second volume"}
refuse("b-values in one series", b_values, "2 volumes", B, "--frame")
handle("b-values, --frame 1", b_values, options=FIRST, should="the first volume")
handle("b-values, --frame 2", b_values, **second)
for number in (0, 3, -1):
    name, options = f"b-values, --frame {number} of 2", ("--frame", number)
    refuse(name, b_values, "--frame 1 to 2", options=options)
refuse("dynamics in one series", dynamics, "2 volumes", "TemporalPositionIdentifier: 1, 2")
handle("dynamics, --frame 2", dynamics, **second)
refuse("two volumes that no attribute tells apart", repeated, ONCE)
refuse("b-values, one of them short of a slice", short, "2 volumes", B, "--frame")
WHOLE = "in the slices of a volume"
echoes = every(EchoTime=lambda k: (12, 101)[k in (0, 1, 4)])
refuse("slices of two echoes, one of each position", echoes, "one EchoTime", WHOLE, "12.0, 101.0")
refuse("one slice without a b-value", third(DiffusionBValue=800.0), "DiffusionBValue", WHOLE)
parts = every(ImageType=lambda k: ["ORIGINAL", "PRIMARY", "MR"[k % 3 == 1], "ND"])
name, kinds = "slices of magnitude and real part", ("ORIGINAL\\PRIMARY\\M", "ORIGINAL\\PRIMARY\\R")
refuse(name, parts, "kind of image in ImageType", WHOLE, ", ".join(kinds))
zipped = every(EchoTime=lambda k: 101 - 89 * (k % 2), SpacingBetweenSlices=6)
refuse("two contrasts, slice by slice", zipped, "2 volumes", "EchoTime: 12.0, 101.0", "--frame")
every_second = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 1], [0, 0, 0, 1]])
odd = partial(nifti, voxels=VOXELS[:, :, 1::2], affine=AFFINE @ every_second)
name = "two contrasts, slice by slice, --frame 1"
handle(name, zipped, options=FIRST, like=odd, should="the first volume")
pairs = {"StackID": ("1", "2"), "FlipAngle": (5, 20), "RepetitionTime": (500, 4000)}
for keyword, values in pairs.items():
    told = every(**{keyword: lambda k, values=values: values[k % 2]})
    refuse(f"two stacks by {keyword}, slice by slice", told, "2 volumes", keyword, "--frame")
map_and_trace = every(ImageType=lambda k: ["DERIVED", "PRIMARY", "M", ("ADC", "TRACEW")[k % 2]])
told = {
    "ADC and trace": map_and_trace,
    "b-values in SequenceName": every(SequenceName=lambda k: ("ep_b50t", "ep_b800t")[k % 2]),
    "two echoes without their times": every(EchoNumbers=lambda k: k % 2 + 1),
    "two descriptions": every(SeriesDescription=lambda k: ("t2", "adc")[k > 1]),
    "before and after the contrast agent": every(ContrastBolusAgent=lambda k: ("", "Gd")[k > 1]),
}
CASES.each("two contrasts by what else tells them, slice by slice or in turn", told, "2 volumes")
packages = every(
    ImageType=lambda k: ["ORIGINAL", "PRIMARY", "M", ("ND", "NORM")[k % 2], "DIS2D"],
    SequenceName=lambda k: f"*tse2d1_{k}",
    AcquisitionNumber=lambda k: k % 2 + 1,
    AcquisitionTime=lambda k: f"1112{k % 2}3",
    TriggerTime=lambda k: 10.5 * k,
    RepetitionTime=lambda k: 3200 + 100 * k,
    EchoTime=lambda k: ("101", "101.0", "101.02")[k % 3],
)
handle("one volume in two packages, with a trigger", packages)
handle("enhanced multi-frame MR, one volume, frames out of order", enhanced)
ECHO = "EffectiveEchoTime"
refuse("enhanced MR with two volumes", two_volumes, "2 volumes", ECHO, "--frame")
handle("enhanced MR with two volumes, --frame 2", two_volumes, **second)
bare = partial(enhanced, geometry=False)
refuse("enhanced MR without geometry", bare, "PerFrameFunctionalGroupsSequence")
unplaced = partial(enhanced, edit=no_plane)
refuse("enhanced MR, a frame without position", unplaced, "ImagePositionPatient")
name = "NumberOfFrames other than the functional groups"
refuse(name, frame_count(4), "NumberOfFrames 4", "5 functional groups")
huge = frame_count(2_000_000_000)
refuse("NumberOfFrames of two thousand million", huge, "NumberOfFrames", cheap=True)
refuse("NumberOfFrames of zero", frame_count(0), "NumberOfFrames")
