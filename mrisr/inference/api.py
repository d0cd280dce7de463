"""The two upsamplers as functions of a path or an image in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar

from typing_extensions import Unpack

from mrisr.errors import OutputError
from mrisr.inference.engine import Progress
from mrisr.inference.options import OptionFields, Options
from mrisr.inference.record import describe_in_a_line, make_record, record_path
from mrisr.inference.volumes import Restored, upsample_in_plane, upsample_through_plane
from mrisr.io import (
    as_volume,
    check_output,
    like,
    output_format,
    read_volume,
    stem,
    write_json,
    write_volume,
)
from mrisr.volume import Volume

Image = TypeVar("Image")


@dataclass(frozen=True)
class Job:
    """Where a run on files reads and writes.

    Attributes:
        source: the study: a file, or the folder of a DICOM series.
        output: by default in the working folder, named after the source and the job.
        force: replace existing outputs.
        qc: path of a picture to draw, if any.
        series: which series of a DICOM folder.
        frame: which volume (from 1) of a DICOM series that holds several.
        affine: which form of a NIfTI counts where sform and qform disagree.
        max_voxels: larger claims of a header are refused before memory is taken.
    """

    source: Path
    output: Path | None = None
    force: bool = False
    qc: Path | None = None
    series: str | None = None
    frame: int | None = None
    affine: Literal["sform", "qform"] | None = None
    max_voxels: int = 2**31

    def target(self, suffix: str) -> Path:
        """The output's path, checked before any work is done. Raises OutputError."""
        path = self.output or Path.cwd() / f"{stem(self.source)}_{suffix}.nii.gz"
        output_format(path)
        extra = [self.qc] if self.qc is not None else []
        targets = [path, record_path(path, stem(path)), *extra]
        if len({t.resolve() for t in targets}) < len(targets):
            raise OutputError(
                f"{path}: the volume, its record and its picture need different names"
            )
        for target in targets:
            check_output(target, inputs=[self.source], force=self.force)
        return path

    def read(self) -> Volume:
        """The source volume. Raises InputError."""
        return read_volume(
            self.source,
            series=self.series,
            frame=self.frame,
            affine=self.affine,
            max_voxels=self.max_voxels,
        )


def run_in_plane(
    job: Job, scale: float, options: Options, progress: Progress | None = None
) -> tuple[Path, dict[str, Any]]:
    """Upsample a study in-plane and write volume, record and picture; returns the path and the record."""
    began = time.perf_counter()
    path = job.target(f"inplane-x{scale:g}")
    restored = upsample_in_plane(job.read(), scale, options, progress)
    return path, _write(job, path, "inplane", restored, began)


def run_through_plane(
    job: Job,
    options: Options,
    *,
    factor: float | None = None,
    spacing: float | None = None,
    slice_thickness: float | None = None,
    progress: Progress | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Upsample a study through-plane and write volume, record and picture; returns path and record."""
    began = time.perf_counter()
    chosen = f"x{factor:g}" if factor else f"{spacing:g}mm" if spacing else "isotropic"
    path = job.target(f"throughplane-{chosen}")
    restored = upsample_through_plane(
        job.read(),
        options,
        factor=factor,
        spacing=spacing,
        slice_thickness=slice_thickness,
        progress=progress,
    )
    return path, _write(job, path, "throughplane", restored, began)


def _write(job: Job, path: Path, name: str, restored: Restored, began: float) -> dict[str, Any]:
    record = make_record(name, restored, time.perf_counter() - began)
    write_volume(restored.volume, path, force=job.force, description=describe_in_a_line(record))
    record["seconds"] = round(time.perf_counter() - began, 2)
    if job.qc is not None:
        from mrisr.qc import qc_picture

        source = restored.measurement.volume
        title = f"{record['model']['name']}  {describe_in_a_line(record).split(';')[0]}"
        qc_picture(
            restored.volume, source, restored.measurement.interpolated(), job.qc, title=title
        )
    write_json(record_path(path, stem(path)), record, overwrite=job.force)
    return record


def inplane(
    image: Image,
    *,
    scale: float = 4.0,
    output: str | PathLike[str] | None = None,
    force: bool = False,
    qc: str | PathLike[str] | None = None,
    **options: Unpack[OptionFields],
) -> Image | Path:
    """Super-resolve a volume in the plane of its slices.

    Args:
        image: a path (NIfTI, MHA/MHD, NRRD or a DICOM series folder), a nibabel image, a SimpleITK
            image, a MONAI MetaTensor or a :class:`mrisr.volume.Volume`.
        scale: 1.5 to 8, fractions allowed.
        output, force, qc: for a path only: where to write, whether to replace, a picture to draw.
        **options: see :class:`mrisr.inference.options.Options`.

    Returns:
        The same kind of image; for a path, the path of the volume that was written (its
        provenance record lies beside it).

    Raises:
        UsageError, InputError, OutputError: one line that says what to do.

    Source: Zhao et al. 2023, "Image Super-resolution with Partial Diffusion Models", Sec. 4.
    """
    settings = Options(**options)
    if isinstance(image, (str, PathLike)):
        job = Job(Path(image), _path(output), force, _path(qc))
        return run_in_plane(job, scale, settings)[0]
    _in_memory(output, qc)
    return like(upsample_in_plane(as_volume(image), scale, settings).volume, image)


def throughplane(
    axial: Image,
    *,
    factor: float | None = None,
    spacing: float | None = None,
    slice_thickness: float | None = None,
    output: str | PathLike[str] | None = None,
    force: bool = False,
    qc: str | PathLike[str] | None = None,
    **options: Unpack[OptionFields],
) -> Image | Path:
    """Super-resolve a stack along its slice axis.

    Args:
        axial: the stack, as for :func:`inplane`; coronal and sagittal stacks do as well.
        factor: slices made of one; or ``spacing``, mm between the new slices. With neither the
            result is isotropic with the in-plane pixels.
        slice_thickness: mm; by default what the source states, else the slice spacing.

    Returns, raises and the other arguments: as :func:`inplane`.
    """
    settings = Options(**options)
    if isinstance(axial, (str, PathLike)):
        job = Job(Path(axial), _path(output), force, _path(qc))
        return run_through_plane(
            job, settings, factor=factor, spacing=spacing, slice_thickness=slice_thickness
        )[0]
    _in_memory(output, qc)
    restored = upsample_through_plane(
        as_volume(axial), settings, factor=factor, spacing=spacing, slice_thickness=slice_thickness
    )
    return like(restored.volume, axial)


def _path(path: str | PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _in_memory(*paths: object) -> None:
    if any(p is not None for p in paths):
        raise TypeError(
            "output and qc need an input path; an image in memory is returned, not written"
        )
