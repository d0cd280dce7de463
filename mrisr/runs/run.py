"""A run from image to image: read, restore or segment, write; on files or in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mrisr.core.errors import OutputError, UsageError
from mrisr.core.options import Files, InPlane, Segmenting, ThroughPlane, split_options
from mrisr.core.volume import VolumeFile
from mrisr.io import SUPPORTED, as_file, input_format, like, read_file, stem
from mrisr.io.atomic import as_output_error, json_bytes, staged
from mrisr.io.files import locked
from mrisr.runs import results
from mrisr.runs.outputs import (
    Output,
    SegmentationOutput,
    SeriesOutput,
    VolumeOutput,
    check_ending,
    default_ending,
    is_dicom,
)
from mrisr.runs.results import Result

if TYPE_CHECKING:
    from mrisr.dicom.source import Source
    from mrisr.restore import Progress

Image = TypeVar("Image")
Settings = InPlane | ThroughPlane | Segmenting
DEFAULTS = Files()


@dataclass(frozen=True)
class FileRun:
    """Where a run on files reads and writes.

    Attributes:
        source: the study: a file, or the folder of a DICOM series.
        files: the options.
        labels: whether labels are written, which in DICOM are one file and not the folder of a series.
    """

    source: Path
    files: Files = DEFAULTS
    labels: bool = False

    @property
    def writes_dicom(self) -> bool:
        """True where the output is DICOM."""
        return is_dicom(self.files.output, self.files.format, labels=self.labels)

    def output(self, suffix: str) -> Output:
        """The output, checked before any work is done. Raises OutputError, UsageError."""
        self._check_dicom_options()
        files = self.files
        name = f"{stem(self.source)}_{suffix}{default_ending(files.format, labels=self.labels)}"
        path = files.output or Path.cwd() / name
        inputs = tuple(p for p in (self.source, files.template) if p is not None)
        found: Output
        if self.writes_dicom and not self.labels:
            templated = files.template is not None
            found = SeriesOutput(path, inputs, files.force, files.qc, templated=templated)
        else:
            check_ending(path, files.format, labels=self.labels)
            kind = SegmentationOutput if self.writes_dicom else VolumeOutput
            found = kind(path, inputs, files.force, files.qc)
        found.check()
        return found

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

    def dicom_source(self, file: VolumeFile) -> Source | None:
        """The DICOM series that gives an output patient and study; None for other outputs.

        Args:
            file: what was read; a DICOM series is its own source.

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


def run(
    image: Any, settings: Settings, *, progress: Progress | None = None, **options: Any
) -> Result:
    """Super-resolve or segment an image, and return what was made with its record and notes.

    Args:
        image: a path (NIfTI, MHA/MHD, NRRD or a DICOM series folder), a nibabel image, a SimpleITK
            image, a MONAI MetaTensor or a :class:`mrisr.core.volume.Volume`.
        settings: :class:`~mrisr.core.options.InPlane`, :class:`~mrisr.core.options.ThroughPlane` or
            :class:`~mrisr.core.options.Segmenting`.
        progress: told how many images are done, and of how many.
        **options: for a path only: the fields of :class:`~mrisr.core.options.Files` (output, qc, series ...).

    Returns:
        A result: ``image`` (the kind that was given; for a path a Volume), ``record``, ``notes`` and ``path``
        (what was written, with its record beside it; None for an image in memory).

    Raises:
        UsageError, InputError, OutputError: one line that says what to do.
    """
    (files,) = split_options(options, Files)
    if isinstance(image, (str, PathLike)):
        return run_files(
            FileRun(Path(image), files, isinstance(settings, Segmenting)), settings, progress
        )
    if files != DEFAULTS:
        raise TypeError(
            "output, qc and other options on files need an input path; an image in memory is returned, "
            "not written"
        )
    made = _made(as_file(image), settings, progress)
    return replace(made, image=like(made.volume, image))


def run_files(on: FileRun, settings: Settings, progress: Progress | None = None) -> Result:
    """Restore or segment a study on files and write image, record and picture."""
    began = time.perf_counter()
    output = on.output(_suffix(settings))
    file = on.read()
    source = on.dicom_source(file)
    made = _made(file, settings, progress, began)
    return write(made, output, source, deidentify=on.files.deidentify)


def write(
    made: Result, output: Output, source: Source | None = None, *, deidentify: bool = False
) -> Result:
    """Write image, record and picture, all of them or none; returns the result as it was written.

    Picture and record are whole on the disk before the image takes its place, and runs on one
    output wait for each other, so that the three belong together.

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
    beside = {output.record: json_bytes(made.record.as_dict())}
    if output.qc is not None:
        beside[output.qc] = made.picture()
    with (
        as_output_error(output.path),
        locked(output.path.parent),
        staged(beside, overwrite=output.force),
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
        **options: the fields of :class:`~mrisr.core.options.ThroughPlane` (by default the result is
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
    settings, files = split_options(options, kind, Files)
    given = {name: value for name, value in vars(files).items() if value != getattr(DEFAULTS, name)}
    made = run(image, settings, progress=progress, **given)
    return made.image if made.path is None else made.path


def _made(
    file: VolumeFile, settings: Settings, progress: Progress | None, began: float | None = None
) -> Result:
    if isinstance(settings, Segmenting):
        return results.segment(file, settings, began=began)
    return results.upsample(file, settings, progress=progress, began=began)


def _suffix(settings: Settings) -> str:
    """Part of an output's name that tells the job."""
    if isinstance(settings, Segmenting):
        return "zones"
    if isinstance(settings, InPlane):
        return f"inplane-x{settings.scale:g}"
    factor, spacing = settings.factor, settings.spacing
    chosen = f"x{factor:g}" if factor else f"{spacing:g}mm" if spacing else "isotropic"
    return f"throughplane-{chosen}"
