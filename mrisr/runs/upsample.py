"""The two upsamplers as functions of a path or an image in memory."""

from __future__ import annotations

import time
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import Unpack

from mrisr.restore.engine import Progress
from mrisr.runs.job import Job, write_result
from mrisr.restore.sampling import OptionFields, Options
from mrisr.restore.volumes import upsample_in_plane, upsample_through_plane
from mrisr.io import as_volume, like

Image = TypeVar("Image")


def run_in_plane(
    job: Job, scale: float, options: Options, progress: Progress | None = None
) -> tuple[Path, dict[str, Any]]:
    """Upsample a study in-plane and write volume, record and picture; returns the path and the record."""
    began = time.perf_counter()
    path = job.target(f"inplane-x{scale:g}")
    read = job.read()
    source = job.dicom_source(read.volume)
    restored = upsample_in_plane(read.volume, scale, options, progress)
    return path, write_result(job, path, "inplane", restored, read, began, source)


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
    read = job.read()
    source = job.dicom_source(read.volume)
    restored = upsample_through_plane(
        read.volume,
        options,
        factor=factor,
        spacing=spacing,
        slice_thickness=slice_thickness,
        progress=progress,
    )
    return path, write_result(job, path, "throughplane", restored, read, began, source)


def inplane(
    image: Image,
    *,
    scale: float = 4.0,
    output: str | PathLike[str] | None = None,
    force: bool = False,
    qc: str | PathLike[str] | None = None,
    template: str | PathLike[str] | None = None,
    deidentify: bool = False,
    **options: Unpack[OptionFields],
) -> Image | Path:
    """Super-resolve a volume in the plane of its slices.

    Args:
        image: a path (NIfTI, MHA/MHD, NRRD or a DICOM series folder), a nibabel image, a SimpleITK
            image, a MONAI MetaTensor or a :class:`mrisr.core.volume.Volume`.
        scale: 1.5 to 8, fractions allowed.
        output, force, qc: for a path only: where to write (a folder means a derived DICOM series),
            whether to replace, a picture to draw.
        template, deidentify: for a DICOM output: the series that gives patient and study where the
            input is no DICOM; whether to empty it of the patient.
        **options: see :class:`mrisr.restore.sampling.Options`.

    Returns:
        The same kind of image; for a path, the path of the volume that was written (its
        provenance record lies beside it).

    Raises:
        UsageError, InputError, OutputError: one line that says what to do.

    Source: Zhao et al. 2023, "Image Super-resolution with Partial Diffusion Models", Sec. 4.
    """
    settings = Options(**options)
    if isinstance(image, (str, PathLike)):
        job = job_of(image, output, template, qc, deidentify=deidentify, force=force)
        return run_in_plane(job, scale, settings)[0]
    in_memory(output, qc, template)
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
    template: str | PathLike[str] | None = None,
    deidentify: bool = False,
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
        job = job_of(axial, output, template, qc, deidentify=deidentify, force=force)
        return run_through_plane(
            job, settings, factor=factor, spacing=spacing, slice_thickness=slice_thickness
        )[0]
    in_memory(output, qc, template)
    restored = upsample_through_plane(
        as_volume(axial), settings, factor=factor, spacing=spacing, slice_thickness=slice_thickness
    )
    return like(restored.volume, axial)


def job_of(
    source: str | PathLike[str], *paths: str | PathLike[str] | None, deidentify: bool, force: bool
) -> Job:
    """A run on files, of the paths of its input, output, template and picture."""
    output, template, qc = (None if path is None else Path(path) for path in paths)
    return Job(Path(source), output, template=template, qc=qc, deidentify=deidentify, force=force)


def in_memory(*paths: object) -> None:
    """Refuse paths that go with an input path only. Raises TypeError."""
    if any(p is not None for p in paths):
        raise TypeError(
            "output, qc and template need an input path; an image in memory is returned, not written"
        )
