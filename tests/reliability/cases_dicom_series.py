"""DICOM: several series in a folder, several volumes in a series, and enhanced multi-frame files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset

from tests.reliability import expect
from tests.reliability.dicom_files import enhanced, repeated, series, set_all, uid
from tests.reliability.truth import VOXELS
from tests.reliability.volume_files import Make, nifti

SERIES = "DICOM series and volumes"
refuse = partial(expect.refuse, SERIES)
handle = partial(expect.handle, SERIES)


def two_series(folder: Path) -> Path:
    series(folder, "study", naming="a{:02d}.dcm")
    edit = set_all(PixelData=VOXELS[:, :, 0].T.tobytes())
    return series(folder, "study", edit=edit, number=7, description="adc_map", naming="b{:02d}.dcm")


def half(folder: Path) -> Path:
    """The NIfTI of the second volume of ``repeated`` and of ``enhanced``."""
    return nifti(folder, voxels=VOXELS // 2)


_b_values = partial(repeated, DiffusionBValue=(50.0, 800.0))
_dynamics = partial(repeated, TemporalPositionIdentifier=(1, 2))
_two_volumes = partial(enhanced, volumes=2)


def frame_count(number: object) -> Make:
    """Makes an enhanced file that states another number of frames."""
    return partial(enhanced, edit=set_all(NumberOfFrames=number))


def _without_plane(folder: Path) -> Path:
    """An enhanced file one of whose frames has no position."""

    def edit(d: FileDataset, k: int) -> None:
        d.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence = [Dataset()]

    return enhanced(folder, edit=edit)


def _short(folder: Path) -> Path:
    (folder / "1_04.dcm").unlink()
    return folder


CASES = [
    refuse(
        "two series in one folder",
        two_series,
        *("2 series", uid("series", 1), uid("series", 7), "'t2_tse_tra'", "'adc_map'", "5 files"),
    ),
    *[
        handle(
            f"two series, --series with the {what}",
            two_series,
            options=("--series", value),
            should="the series asked for",
        )
        for what, value in [("UID", uid("series", 1)), ("number", 1), ("description", "T2_TSE_TRA")]
    ],
    refuse(
        "two series, --series that neither is",
        two_series,
        "'dwi'",
        "'t2_tse_tra'",
        "'adc_map'",
        options=("--series", "dwi"),
    ),
    refuse(
        "b-values in one series", _b_values, "2 volumes", "DiffusionBValue: 50.0, 800.0", "--frame"
    ),
    handle("b-values, --frame 1", _b_values, options=("--frame", 1), should="the first volume"),
    handle(
        "b-values, --frame 2",
        _b_values,
        options=("--frame", 2),
        like=half,
        should="the second volume",
    ),
    *[
        refuse(
            f"b-values, --frame {number} of 2",
            _b_values,
            "--frame 1 to 2",
            options=("--frame", number),
        )
        for number in (0, 3, -1)
    ],
    refuse("dynamics in one series", _dynamics, "2 volumes", "TemporalPositionIdentifier: 1, 2"),
    handle(
        "dynamics, --frame 2",
        _dynamics,
        options=("--frame", 2),
        like=half,
        should="the second volume",
    ),
    refuse("two volumes that no attribute tells apart", repeated, "each slice position once"),
    refuse(
        "two volumes, one of them short of a slice",
        lambda folder: _short(_b_values(folder)),
        "each slice position once",
    ),
    handle("enhanced multi-frame MR, one volume, frames out of order", enhanced),
    refuse(
        "enhanced MR with two volumes", _two_volumes, "2 volumes", "EffectiveEchoTime", "--frame"
    ),
    handle(
        "enhanced MR with two volumes, --frame 2",
        _two_volumes,
        options=("--frame", 2),
        like=half,
        should="the second volume",
    ),
    refuse(
        "enhanced MR without geometry",
        partial(enhanced, geometry=False),
        "PerFrameFunctionalGroupsSequence",
    ),
    refuse("enhanced MR, a frame without position", _without_plane, "ImagePositionPatient"),
    refuse(
        "NumberOfFrames other than the functional groups",
        frame_count(4),
        "NumberOfFrames 4",
        "5 functional groups",
    ),
    refuse(
        "NumberOfFrames of two thousand million",
        frame_count(2_000_000_000),
        "NumberOfFrames",
        cheap=True,
    ),
    refuse("NumberOfFrames of zero", frame_count(0), "NumberOfFrames"),
]
