"""A run on files: what is read, what is written, and that nothing else is touched."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mrisr.core.errors import OutputError, UsageError
from mrisr.runs.record import (
    describe_in_a_line,
    describe_in_dicom,
    make_record,
    record_path,
)
from mrisr.restore.volumes import Restored
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
from mrisr.io.atomic import as_output_error, json_bytes, staged
from mrisr.io.paths import ending
from mrisr.io.steps import locked
from mrisr.core.volume import Volume, VolumeFile

if TYPE_CHECKING:
    from mrisr.dicom.source import Source

Format = Literal["nifti", "mha", "nrrd", "dicom"]
#: Endings of each format, the default first.
_ENDINGS: dict[Format, tuple[str, ...]] = {
    "nifti": (".nii.gz", ".nii"),
    "mha": (".mha", ".mhd"),
    "nrrd": (".nrrd",),
    "dicom": ("",),
}
_SEGMENTATION = ".dcm"


@dataclass(frozen=True)
class Job:
    """Where a run on files reads and writes.

    Attributes:
        source: the study: a file, or the folder of a DICOM series.
        output: by default in the working folder, named after the source and the job. A folder means
            a derived DICOM series, or a name ending in .dcm the file of a ``segmentation``.
        format: of the output, where its name does not tell.
        template: DICOM series that gives patient and study to a DICOM output, where the input is
            none.
        deidentify: empty a DICOM output of the patient.
        force: replace existing outputs.
        qc: path of a picture to draw, if any.
        series: which series of a DICOM folder, input or template.
        frame: which volume (from 1) of a DICOM series that holds several.
        affine: which form of a NIfTI counts where sform and qform disagree.
        max_voxels: larger claims of a header are refused before memory is taken.
        segmentation: labels are written, in DICOM one file and not the folder of a series.
    """

    source: Path
    output: Path | None = None
    format: Format | None = None
    template: Path | None = None
    deidentify: bool = False
    force: bool = False
    qc: Path | None = None
    series: str | None = None
    frame: int | None = None
    affine: Literal["sform", "qform"] | None = None
    max_voxels: int = 2**31
    segmentation: bool = False

    @property
    def writes_dicom(self) -> bool:
        """Whether the output is DICOM: asked for, or a folder (a segmentation: a .dcm) by its name."""
        if self.format is not None or self.output is None:
            return self.format == "dicom"
        if self.segmentation:
            return self.output.suffix.lower() == _SEGMENTATION
        return os.path.isdir(self.output) or not self.output.suffix  # noqa: PTH112 (long names)

    def target(self, suffix: str) -> Path:
        """The output's path, checked before any work is done. Raises OutputError, UsageError."""
        self._check_dicom_options()
        name = f"{stem(self.source)}_{suffix}{self._endings[0]}"
        path = self.output or Path.cwd() / name
        inputs = [self.source, self.template]
        series = self.writes_dicom and not self.segmentation
        if series:  # first, because "." has no name that the record could take
            check_output_folder(path, inputs=inputs, force=self.force)
        files = [record_path(path, stem(path)), *([self.qc] if self.qc is not None else [])]
        if series:
            if any(path.resolve() in f.resolve().parents for f in files):
                raise OutputError(f"{path}: only slices go into the folder of a series")
            self._check_replaced(path)
        else:
            self._check_format(path)
            files.append(path)
        if len({f.resolve() for f in (*files, path)}) < 2 + (self.qc is not None):
            raise OutputError(
                f"{path}: the volume, its record and its picture need different names"
            )
        for file in files:
            check_output(file, inputs=inputs, force=self.force)
        if self.segmentation and self.writes_dicom:
            self._check_apart(path)
        return path

    def read(self) -> VolumeFile:
        """The source volume. Raises InputError."""
        dicom = input_format(self.source) == "dicom"
        return read_file(
            self.source,
            series=self.series if dicom or self.template is None else None,
            frame=self.frame if dicom or self.template is None else None,
            affine=self.affine,
            max_voxels=self.max_voxels,
        )

    def dicom_source(self, volume: Volume) -> Source | None:
        """What a DICOM output takes its patient and study from; None for other outputs.

        Raises:
            InputError: the template cannot be used, or shows another place than the volume.
        """
        if not self.writes_dicom:
            return None
        from mrisr.dicom.deidentify import deidentified
        from mrisr.dicom.source import check_same_place, read_source

        source = read_source(self.template or self.source, series=self.series, frame=self.frame)
        if self.template is not None:
            check_same_place(volume, source, self.template)
        return deidentified(source) if self.deidentify else source

    def _check_dicom_options(self) -> None:
        if not self.writes_dicom:
            for name, given in (("template", self.template), ("deidentify", self.deidentify)):
                if given:
                    raise UsageError(f"--{name} needs a DICOM output (--format dicom)")
            return
        dicom = input_format(self.source) == "dicom"
        if dicom and self.template is not None:
            raise UsageError("--template is for inputs that are no DICOM; this one is its own")
        if not dicom and self.template is None:
            needs = "a DICOM input, or --template SERIES for patient and study"
            if self.format == "dicom" or self.segmentation:
                raise UsageError(f"a DICOM output needs {needs}")
            raise OutputError(
                f"{self.output}: expected a name ending in {SUPPORTED}; a folder means a DICOM "
                f"series, which needs {needs}"
            )

    @property
    def _endings(self) -> tuple[str, ...]:
        if self.segmentation and self.format == "dicom":
            return (_SEGMENTATION,)
        return _ENDINGS[self.format or "nifti"]

    def _check_format(self, path: Path) -> None:
        if self.segmentation and ending(path) is None and not self.writes_dicom:
            expected = f"a name ending in {SUPPORTED} or, for DICOM, {_SEGMENTATION}"
            raise OutputError(f"{path}: expected {expected}")
        if not (self.segmentation and self.writes_dicom):
            output_format(path)
        if self.format is not None and not path.name.lower().endswith(self._endings):
            raise UsageError(f"--format {self.format}: the output is called {path.name}")

    def _check_apart(self, path: Path) -> None:
        """Refuse a DICOM file among those of an input: the next run would take it for one of them."""
        for source in (self.source, self.template):
            if source is not None and source.resolve() in path.resolve().parents:
                raise OutputError(
                    f"{path}: lies in the input folder {source}; choose another place"
                )

    def _check_replaced(self, folder: Path) -> None:
        from mrisr.dicom.series import is_ours

        if folder.is_dir() and not is_ours(folder):
            raise OutputError(
                f"{folder}: holds files that are not a series made by mrisr; nothing is replaced"
            )


def write_result(
    job: Job, path: Path, name: str, restored: Restored, read: VolumeFile, began: float, source: Source | None
) -> dict[str, Any]:
    """Write volume or series, picture and record, all of them or none; returns the record.

    Picture and record are whole on the disk before the volume takes its place, and runs on one
    output wait for each other, so that the three belong together. Raises OutputError.
    """
    if source is not None:
        from mrisr.dicom.pixels import storable

        restored = replace(restored, volume=storable(restored.volume))
    if job.deidentify:
        from mrisr.dicom.deidentify import WARNING

        restored = replace(restored, notes=(*restored.notes, WARNING))
    record = make_record(name, restored, read, time.perf_counter() - began)
    beside = {record_path(path, stem(path)): json_bytes(record)}
    if job.qc is not None:
        beside[job.qc] = _picture(restored, record)
    with as_output_error(path), locked(path.parent), staged(beside, overwrite=job.force):
        _write_image(job, path, restored.volume, record, source)
    return record


def _write_image(
    job: Job, path: Path, volume: Volume, record: dict[str, Any], source: Source | None
) -> None:
    if source is None:
        write_volume(volume, path, force=job.force, description=describe_in_a_line(record))
        return
    from mrisr.dicom.series import write_series

    derivation = describe_in_dicom(record, templated=job.template is not None)
    write_series(volume, path, source, derivation, force=job.force)


def _picture(restored: Restored, record: dict[str, Any]) -> bytes:
    from mrisr.view.qc import qc_png

    source = restored.measurement.volume
    title = f"{record['model']['name']}  {describe_in_a_line(record).split(';')[0]}"
    return qc_png(restored.volume, source, restored.measurement.interpolated(), title=title)
