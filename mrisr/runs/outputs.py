"""Inputs and outputs of a run on files: a volume's file, a DICOM series or a DICOM Segmentation.

Each kind of output checks its path before any work is done, and writes what was made.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mrisr.core.errors import OutputError, UsageError
from mrisr.core.options import Files, Format
from mrisr.core.stages import stage
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import (
    SUPPORTED,
    check_output,
    check_output_folder,
    input_format,
    output_format,
    read_file,
    stem,
    write_volume,
)
from mrisr.io.atomic import atomic_path
from mrisr.io.paths import ending
from mrisr.runs.record import Record

if TYPE_CHECKING:
    from mrisr.dicom.source import Source

#: Endings of each format, the default first.
_ENDINGS: dict[Format, tuple[str, ...]] = {
    "nifti": (".nii.gz", ".nii"),
    "mha": (".mha", ".mhd"),
    "nrrd": (".nrrd",),
    "dicom": ("",),
}
_DICOM_FILE = ".dcm"
#: Added to the SeriesNumber of a derived series for that of its map.
_MAP_OFFSET = 10
DEFAULTS = Files()


@dataclass(frozen=True)
class Output(ABC):
    """A place to write to, with the record and a picture beside it.

    Attributes:
        path: file or folder.
        inputs: what is never replaced.
        force: replace what exists.
        qc: path of a picture to draw, if any.
        uncertainty: path of the map of standard deviations, if any.
    """

    path: Path
    inputs: tuple[Path, ...]
    force: bool = False
    qc: Path | None = None
    uncertainty: Path | None = None

    @property
    def record(self) -> Path:
        """Path of the record."""
        return self.path.with_name(f"{stem(self.path)}.json")

    def check(self) -> None:
        """Make sure that writing destroys nothing and can succeed. Raises OutputError, UsageError."""
        beside = [self.record, *(p for p in (self.qc, self.uncertainty) if p is not None)]
        files = [*self._check_own(beside), *beside]
        if len({f.resolve() for f in (*beside, self.path)}) < 1 + len(beside):
            raise OutputError(
                f"{self.path}: the volume, its record, its picture and its uncertainty need different "
                "names"
            )
        for file in files:
            check_output(file, inputs=self.inputs, force=self.force)

    @abstractmethod
    def _check_own(self, beside: Sequence[Path]) -> list[Path]:
        """Check what is particular to the kind; returns the files that it writes itself."""

    @contextmanager
    def with_uncertainty(
        self, values: Volume | None, record: Record, source: Source | None
    ) -> Iterator[None]:
        """Have the map of standard deviations, if any, whole on the disk before the block, and in its place
        when that has ended well. Raises OutputError."""
        if values is None or self.uncertainty is None:
            yield
            return
        with atomic_path(self.uncertainty, overwrite=self.force) as part:
            self._write_map(replace(values, name=f"{self.uncertainty}"), part, record, source)
            yield

    def _write_map(self, values: Volume, path: Path, record: Record, source: Source | None) -> None:
        """Write a map as a volume's file."""
        about = f"{record.line()}; standard deviation"
        write_volume(values, path, force=True, description=about)

    @abstractmethod
    def write(self, volume: Volume, record: Record, source: Source | None) -> None:
        """Write the image, whole or not at all; ``source`` gives DICOM its patient. Raises OutputError."""


@dataclass(frozen=True)
class VolumeOutput(Output):
    """NIfTI, MetaImage or NRRD."""

    def _check_own(self, beside: Sequence[Path]) -> list[Path]:
        for path in (self.path, self.uncertainty):
            if path is not None:
                output_format(path)
        if self.uncertainty is not None and ending(self.uncertainty) == ".mhd":
            raise OutputError(f"{self.uncertainty}: a map is one file; .mha is MetaImage in one")
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
        if self.uncertainty is not None and self.uncertainty.suffix.lower() != _DICOM_FILE:
            expected = f"a name ending in {_DICOM_FILE}, as the output is DICOM"
            raise OutputError(f"{self.uncertainty}: expected {expected}")
        if self.path.is_dir() and not is_ours(self.path):
            raise OutputError(
                f"{self.path}: holds files that are not a series made by mrisr; nothing is replaced"
            )
        return []

    def _write_map(self, values: Volume, path: Path, record: Record, source: Source | None) -> None:
        """Write a map as a Parametric Map."""
        from mrisr.dicom.parametric_map import write_parametric_map

        assert source is not None
        derivation = record.derivation(templated=self.templated)
        derivation = replace(derivation, series_offset=derivation.series_offset + _MAP_OFFSET)
        write_parametric_map(values, path, source, derivation, force=True)

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
        from mrisr.dicom.segmentation import write_segmentation
        from mrisr.dicom.segments import PROSTATE_ZONES

        assert source is not None
        derivation = record.derivation()
        write_segmentation(volume, self.path, source, derivation, PROSTATE_ZONES, force=self.force)


@dataclass(frozen=True)
class FileRun:
    """Places that a run on files reads and writes.

    Attributes:
        source: the study: a file, or the folder of a DICOM series.
        files: the options.
        labels: whether labels are written, which in DICOM are one file and not the folder of a series.
        others: further planes of the study.
    """

    source: Path
    files: Files = DEFAULTS
    labels: bool = False
    others: tuple[Path, ...] = ()

    @property
    def writes_dicom(self) -> bool:
        """True where the output is DICOM: asked for, or a folder (labels: a .dcm) by its name."""
        path, format = self.files.output, self.files.format
        if format is not None or path is None:
            return format == "dicom"
        if self.labels:
            return path.suffix.lower() == _DICOM_FILE
        return os.path.isdir(path) or not path.suffix  # noqa: PTH112 (long names)

    @property
    def _endings(self) -> tuple[str, ...]:
        """Endings that the output may have, the default first."""
        if self.labels and self.writes_dicom:
            return (_DICOM_FILE,)
        return _ENDINGS[self.files.format or "nifti"]

    def output(self, suffix: str) -> Output:
        """The output, checked before any work is done. Raises OutputError, UsageError."""
        self._check_dicom_options()
        files = self.files
        if self.labels and files.uncertainty is not None:
            raise UsageError("uncertainty: has no effect on labels; leave it out")
        path = files.output or Path.cwd() / f"{stem(self.source)}_{suffix}{self._endings[0]}"
        inputs = tuple(p for p in (self.source, *self.others, files.template) if p is not None)
        found: Output
        if self.writes_dicom and not self.labels:
            templated = files.template is not None
            found = SeriesOutput(
                path, inputs, files.force, files.qc, files.uncertainty, templated=templated
            )
        else:
            self._check_ending(path)
            kind = SegmentationOutput if self.writes_dicom else VolumeOutput
            found = kind(path, inputs, files.force, files.qc, files.uncertainty)
        found.check()
        return found

    def _check_ending(self, path: Path) -> None:
        """Refuse a name that no writer makes, or that is not of the format."""
        if self.labels and ending(path) is None and not self.writes_dicom:
            raise OutputError(
                f"{path}: expected a name ending in {SUPPORTED} or, for DICOM, {_DICOM_FILE}"
            )
        if not (self.labels and self.writes_dicom):
            output_format(path)
        format = self.files.format
        if format is not None and not path.name.lower().endswith(self._endings):
            raise UsageError(f"--format {format}: the output is called {path.name}")

    @stage("read")
    def read(self) -> VolumeFile:
        """The source volume. Raises InputError."""
        files = self.files
        own = files.template is None or input_format(self.source) == "dicom"
        return read_file(
            self.source,
            series=files.series if own else None,
            frame=files.frame if own else None,
            affine=files.affine,
            max_voxels=files.max_voxels,
        )

    def read_others(self) -> list[VolumeFile]:
        """The further planes. Raises InputError."""
        files = replace(self.files, series=None, frame=None)
        return [FileRun(path, files).read() for path in self.others]

    def dicom_source(self, file: VolumeFile, others: Sequence[VolumeFile] = ()) -> Source | None:
        """The DICOM series that gives an output patient and study; None for other outputs.

        Args:
            file: what was read; a DICOM series is its own source.
            others: further planes; those that are DICOM are named as sources too.

        Raises:
            InputError: the template cannot be used, or shows another place than the volume.
        """
        if not self.writes_dicom:
            return None
        from mrisr.dicom.source import check_same_place, deidentified, read_source, source_of
        from mrisr.io.dicom import DicomFile

        files = self.files
        if isinstance(file, DicomFile):
            source = source_of(file)
        else:
            template = files.template or self.source
            source = read_source(template, series=files.series, frame=files.frame)
            check_same_place(file.volume, source, template)
        more = tuple(source_of(other) for other in others if isinstance(other, DicomFile))
        source = replace(source, others=more)
        return deidentified(source) if files.deidentify else source

    def _check_dicom_options(self) -> None:
        files = self.files
        if not self.writes_dicom:
            for name, given in (("template", files.template), ("deidentify", files.deidentify)):
                if given:
                    raise UsageError(f"--{name} needs a DICOM output (--format dicom)")
            return
        dicom = input_format(self.source) == "dicom"
        if dicom and files.template is not None:
            raise UsageError("--template is for inputs that are no DICOM; this one is its own")
        if not dicom and files.template is None:
            needs = "a DICOM input, or --template SERIES for patient and study"
            if files.format == "dicom" or self.labels:
                raise UsageError(f"a DICOM output needs {needs}")
            raise OutputError(
                f"{files.output}: expected a name ending in {SUPPORTED}; a folder means a DICOM "
                f"series, which needs {needs}"
            )
