"""The places a run writes to: a volume's file, the folder of a DICOM series, or a DICOM Segmentation.

Each kind of output checks its path before any work is done, and writes what was made.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mrisr.core.errors import OutputError, UsageError
from mrisr.core.options import Format
from mrisr.core.volume import Volume
from mrisr.io import (
    SUPPORTED,
    check_output,
    check_output_folder,
    output_format,
    stem,
    write_volume,
)
from mrisr.io.paths import ending
from mrisr.runs.record import Record, record_path

if TYPE_CHECKING:
    from mrisr.dicom.source import Source

#: Endings of each format, the default first.
_ENDINGS: dict[Format, tuple[str, ...]] = {
    "nifti": (".nii.gz", ".nii"),
    "mha": (".mha", ".mhd"),
    "nrrd": (".nrrd",),
    "dicom": ("",),
}
_SEGMENTATION = ".dcm"


@dataclass(frozen=True)
class Output(ABC):
    """A place to write to, with the record and a picture beside it.

    Attributes:
        path: file or folder.
        inputs: what is never replaced.
        force: replace what exists.
        qc: path of a picture to draw, if any.
    """

    path: Path
    inputs: tuple[Path, ...]
    force: bool = False
    qc: Path | None = None
    #: Whether a DICOM source gives it patient and study.
    dicom: ClassVar[bool] = True

    @property
    def record(self) -> Path:
        """Where the record lies."""
        return record_path(self.path, stem(self.path))

    def check(self) -> None:
        """Make sure that writing destroys nothing and can succeed. Raises OutputError, UsageError."""
        beside = [self.record, *([self.qc] if self.qc is not None else [])]
        files = [*beside, *self._check_own(beside)]
        if len({f.resolve() for f in (*beside, self.path)}) < 1 + len(beside):
            raise OutputError(
                f"{self.path}: the volume, its record and its picture need different names"
            )
        for file in files:
            check_output(file, inputs=self.inputs, force=self.force)

    @abstractmethod
    def _check_own(self, beside: Sequence[Path]) -> list[Path]:
        """Check what is particular to the kind; returns the files that it writes itself."""

    @abstractmethod
    def write(self, volume: Volume, record: Record, source: Source | None) -> None:
        """Write the image, whole or not at all; ``source`` gives DICOM its patient. Raises OutputError."""


@dataclass(frozen=True)
class VolumeOutput(Output):
    """NIfTI, MetaImage or NRRD."""

    dicom: ClassVar[bool] = False

    def _check_own(self, beside: Sequence[Path]) -> list[Path]:
        output_format(self.path)
        return [self.path]

    def write(self, volume: Volume, record: Record, source: Source | None) -> None:
        """Write the file."""
        write_volume(
            volume, self.path, force=self.force, description=record.line(), inputs=self.inputs
        )


@dataclass(frozen=True)
class SeriesOutput(Output):
    """The folder of a derived DICOM series; ``templated``: patient and study are another series'."""

    templated: bool = False

    def check(self) -> None:
        """Make sure that the folder may be written; first, because "." has no name for a record."""
        check_output_folder(self.path, inputs=self.inputs, force=self.force)
        super().check()

    def _check_own(self, beside: Sequence[Path]) -> list[Path]:
        from mrisr.dicom.series import is_ours

        if any(self.path.resolve() in f.resolve().parents for f in beside):
            raise OutputError(f"{self.path}: only slices go into the folder of a series")
        if self.path.is_dir() and not is_ours(self.path):
            raise OutputError(
                f"{self.path}: holds files that are not a series made by mrisr; nothing is replaced"
            )
        return []

    def write(self, volume: Volume, record: Record, source: Source | None) -> None:
        """Write the series."""
        from mrisr.dicom.series import write_series

        assert source is not None
        derivation = record.derivation(templated=self.templated)
        write_series(volume, self.path, source, derivation, force=self.force)


@dataclass(frozen=True)
class SegmentationOutput(Output):
    """The file of a DICOM Segmentation."""

    def _check_own(self, beside: Sequence[Path]) -> list[Path]:
        for folder in self.inputs:  # the next run would take it for one of them
            if folder.resolve() in self.path.resolve().parents:
                raise OutputError(
                    f"{self.path}: lies in the input folder {folder}; choose another place"
                )
        return [self.path]

    def write(self, volume: Volume, record: Record, source: Source | None) -> None:
        """Write the labels as segments."""
        from mrisr.dicom.segmentation import PROSTATE_ZONES, write_segmentation

        assert source is not None
        derivation = record.derivation()
        write_segmentation(volume, self.path, source, derivation, PROSTATE_ZONES, force=self.force)


def is_dicom(path: Path | None, format: Format | None, *, labels: bool) -> bool:
    """Tell whether an output is DICOM: asked for, or a folder (labels: a .dcm) by its name."""
    if format is not None or path is None:
        return format == "dicom"
    if labels:
        return path.suffix.lower() == _SEGMENTATION
    return os.path.isdir(path) or not path.suffix  # noqa: PTH112 (long names)


def default_ending(format: Format | None, *, labels: bool) -> str:
    """Ending of a name that the user did not choose."""
    return _SEGMENTATION if labels and format == "dicom" else _ENDINGS[format or "nifti"][0]


def check_ending(path: Path, format: Format | None, *, labels: bool) -> None:
    """Refuse a name that no writer makes, or that is not of the format. Raises OutputError, UsageError."""
    dicom = is_dicom(path, format, labels=labels)
    if labels and ending(path) is None and not dicom:
        raise OutputError(
            f"{path}: expected a name ending in {SUPPORTED} or, for DICOM, {_SEGMENTATION}"
        )
    if not (labels and dicom):
        output_format(path)
    wanted = (_SEGMENTATION,) if labels and dicom else _ENDINGS[format or "nifti"]
    if format is not None and not path.name.lower().endswith(wanted):
        raise UsageError(f"--format {format}: the output is called {path.name}")
