"""A run from image to image: read, restore or segment, write; on files or in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mrisr.core.errors import OutputError, UsageError
from mrisr.core.options import Files, InPlane, Segmenting, ThroughPlane, split_options
from mrisr.core.stages import stage
from mrisr.core.volume import VolumeFile
from mrisr.io import as_file, like
from mrisr.io.atomic import as_output_error, json_bytes, staged
from mrisr.io.files import locked
from mrisr.runs import joined, results
from mrisr.runs.outputs import DEFAULTS, FileRun, Output
from mrisr.runs.results import Result

if TYPE_CHECKING:
    from mrisr.dicom.source import Source
    from mrisr.models.store import Model
    from mrisr.restore import Progress

Image = TypeVar("Image")
Settings = InPlane | ThroughPlane | Segmenting


def run(
    image: Any,
    settings: Settings,
    *,
    coronal: Any = None,
    sagittal: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Super-resolve or segment an image, and return what was made with its record and notes.

    Args:
        image: a path (NIfTI, MHA/MHD, NRRD or a DICOM series folder), a nibabel image, a SimpleITK
            image, a MONAI MetaTensor or a :class:`mrisr.core.volume.Volume`.
        settings: :class:`~mrisr.core.options.InPlane`, :class:`~mrisr.core.options.ThroughPlane` or
            :class:`~mrisr.core.options.Segmenting`.
        coronal, sagittal: further stacks of the same exam, for ``ThroughPlane``: one isotropic volume is made
            of all, in the frame of the first.
        progress: told how many images are done, and of how many.
        **options: for a path only: the fields of :class:`~mrisr.core.options.Files` (output, qc, series ...).

    Returns:
        A result: ``image`` and, with ``samples``, its ``uncertainty`` (the kind that was given; for a path a
        Volume), ``record``, ``notes`` and ``path`` (what was written, with its record beside it; None for an
        image in memory).

    Raises:
        UsageError, InputError, OutputError: one line that says what to do.
    """
    (files,) = split_options(options, Files)
    return _run(image, settings, files, progress, (coronal, sagittal))


def _run(
    image: Any,
    settings: Settings,
    files: Files,
    progress: Progress | None,
    further: Sequence[Any] = (),
) -> Result:
    others = [other for other in further if other is not None]
    if isinstance(image, (str, PathLike)):
        if not all(isinstance(other, (str, PathLike)) for other in others):
            raise UsageError("coronal, sagittal: expected paths, as the first stack is one")
        paths = tuple(Path(other) for other in others)
        on = FileRun(Path(image), files, isinstance(settings, Segmenting), paths)
        return run_files(on, settings, progress)
    if files != DEFAULTS:
        raise TypeError(
            "output, qc and other options on files need an input path; an image in memory is returned, "
            "not written"
        )
    made = _made(as_file(image), settings, progress, [as_file(other) for other in others])
    told = made.uncertainty and like(made.uncertainty, image)
    return replace(made, image=like(made.volume, image), uncertainty=told)


def run_files(
    on: FileRun,
    settings: Settings,
    progress: Progress | None = None,
    adapting: Progress | None = None,
) -> Result:
    """Restore or segment a study on files and write image, record and picture, and the adapted model."""
    began = time.perf_counter()
    output = on.output(_suffix(settings))
    _check_adapted(on.files, settings)
    file = on.read()
    others = on.read_others()
    source = on.dicom_source(file, others)
    uncertain = output.uncertainty is not None
    made = _made(file, settings, progress, others, began, uncertain, adapting)
    folder = on.files.save_adapted
    if folder is not None and made.adapted is not None:
        save_model(made.adapted, folder)
    return write(made, output, source, deidentify=on.files.deidentify)


def _check_adapted(files: Files, settings: Settings) -> None:
    """Make sure that an adapted model can be kept. Raises UsageError, OutputError."""
    folder = files.save_adapted
    if folder is None:
        return
    if isinstance(settings, Segmenting) or not settings.adapts:
        raise UsageError("save-adapted: has no effect without --adapt; leave it out")
    if (folder / "model.json").exists() and not files.force:
        raise OutputError(f"{folder}: holds a model; --force replaces it")


def save_model(model: Model, folder: Path) -> None:
    """Write a model that ``--model FOLDER`` takes. Raises OutputError."""
    from mrisr.models import store

    store.save_model(model.card, model.restorer.network.state_dict(), folder, "model")


@stage("write")
def write(
    made: Result, output: Output, source: Source | None = None, *, deidentify: bool = False
) -> Result:
    """Write image, record, picture and uncertainty, all or none; returns the result as it was written.

    What lies beside it is whole on the disk before the image takes its place, and runs on one
    output wait for each other, so that all belong together.

    Args:
        made: from :func:`~mrisr.runs.results.upsample` or :func:`~mrisr.runs.results.segment`.
        output: checked.
        source: gives a DICOM output its patient and study.
        deidentify: the source has been emptied of the patient, which the record notes.

    Raises:
        OutputError: a file exists, cannot be written or does not read back as it should.
    """
    volume, remarks = made.volume, []
    if source is not None and made.measurement is not None:
        from mrisr.dicom.series import storable

        volume = storable(volume)
    if deidentify:
        from mrisr.dicom.source import DEIDENTIFY_WARNING

        remarks.append(DEIDENTIFY_WARNING)
    made = made.written(volume, output.path, *remarks)
    deviation = made.uncertainty if output.uncertainty is not None else None
    beside = {output.record: json_bytes(made.record.as_dict())}
    if output.qc is not None:
        beside[output.qc] = made.picture()
    with (
        as_output_error(output.path),
        locked(output.path.parent),
        staged(beside, overwrite=output.force),
        output.with_uncertainty(deviation, made.record, source),
    ):
        output.write(volume, made.record, source)
    return made


def inplane(image: Image, **options: Any) -> Image | Path:
    """Super-resolve a volume in the plane of its slices.

    Args:
        image: as for :func:`run`.
        **options: the fields of :class:`~mrisr.core.options.InPlane` (``scale`` 1.5 to 8, by default 4) and,
            for a path, of :class:`~mrisr.core.options.Files`.

    Returns:
        The same kind of image; for a path, the path of the volume that was written (its
        provenance record lies beside it). :func:`run` returns record and notes as well.

    Raises:
        UsageError, InputError, OutputError: one line that says what to do.

    Source: Zhao et al. 2023, "Image Super-resolution with Partial Diffusion Models", Sec. 4.
    """
    return cast(Image, _image_of(image, InPlane, options))


def throughplane(axial: Image, **options: Any) -> Image | Path:
    """Super-resolve a stack along its slice axis; coronal and sagittal stacks do as well.

    Args:
        axial: as for :func:`run`.
        **options: ``coronal`` and ``sagittal`` as for :func:`run`;
            the fields of :class:`~mrisr.core.options.ThroughPlane` (by default the result is
            isotropic with the in-plane pixels) and, for a path, of :class:`~mrisr.core.options.Files`.

    Returns and raises: as :func:`inplane`.
    """
    return cast(Image, _image_of(axial, ThroughPlane, options))


def segment(image: Image, **options: Any) -> Image | Path:
    """Label the peripheral zone (1) and the transition zone (2) of the prostate on a T2-weighted image.

    Args:
        image: axial slices, or voxels of about the same size along all axes; as for :func:`run`.
        **options: the fields of :class:`~mrisr.core.options.Segmenting` and, for a path, of
            :class:`~mrisr.core.options.Files` (an output ending in ``.dcm`` means DICOM Segmentation).

    Returns:
        The labels as the same kind of image, on its voxels; for a path, the path of the labels that were
        written (their provenance record lies beside them).

    Raises: as :func:`inplane`.
    """
    return cast(Image, _image_of(image, Segmenting, options))


def _image_of(image: Any, kind: type[Settings], options: dict[str, Any]) -> Any:
    """The image of a run, or the path that it wrote."""
    progress = options.pop("progress", None)
    further = [options.pop(plane, None) for plane in ("coronal", "sagittal")]
    settings, files = split_options(options, kind, Files)
    made = _run(image, settings, files, progress, further)
    return made.image if made.path is None else made.path


def _made(
    file: VolumeFile,
    settings: Settings,
    progress: Progress | None,
    others: Sequence[VolumeFile] = (),
    began: float | None = None,
    uncertain: bool = False,
    adapting: Progress | None = None,
) -> Result:
    if others:
        if not isinstance(settings, ThroughPlane):
            raise UsageError("further planes are for through-plane super-resolution")
        if uncertain:
            settings = replace(settings, samples=1)  # which is refused
        return joined.join_planes(
            file, others, settings, progress=progress, began=began, adapting=adapting
        )
    if isinstance(settings, Segmenting):
        return results.segment(file, settings, began=began)
    return results.upsample(
        file, settings, progress=progress, began=began, uncertain=uncertain, adapting=adapting
    )


def _suffix(settings: Settings) -> str:
    """Part of an output's name that tells the job."""
    if isinstance(settings, Segmenting):
        return "zones"
    if isinstance(settings, InPlane):
        return f"inplane-x{settings.scale:g}"
    factor, spacing = settings.factor, settings.spacing
    chosen = f"x{factor:g}" if factor else f"{spacing:g}mm" if spacing else "isotropic"
    return f"throughplane-{chosen}"
