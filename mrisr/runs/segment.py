"""Zones of the prostate, of a study on files or of an image in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from typing_extensions import Unpack

from mrisr.config.base import given
from mrisr.config.segmenting import Segmenting
from mrisr.core.volume import VolumeFile
from mrisr.io import as_volume, like, stem, write_volume
from mrisr.io.atomic import as_output_error, json_bytes, staged
from mrisr.io.steps import locked
from mrisr.runs.job import Job
from mrisr.runs.record import record_path
from mrisr.runs.zones_record import (
    Segmented,
    make_zones_record,
    segment_volume,
    zones_in_a_line,
    zones_in_dicom,
)
from mrisr.zones.labels import LabelTable

if TYPE_CHECKING:
    from mrisr.dicom.source import Source
    from mrisr.zones.segmenter import Segmenter

Image = TypeVar("Image")
#: A table itself, its entries, or what the command line takes: ``1=TZ,2=PZ`` or the path of a file.
Table = LabelTable | Mapping[int, str] | str | PathLike[str]


class ZoneFields(TypedDict, total=False):
    """Keyword arguments of :func:`mrisr.segment`; see :class:`ZoneOptions`."""

    model: str | None
    bundle: str | PathLike[str] | None
    nnunet: str | PathLike[str] | None
    table: Table | None
    margin: float
    device: str


@dataclass(frozen=True)
class ZoneOptions:
    """What segments.

    Attributes:
        model: name or path of a model of ``mrisr train``; with none of the three the bundled one.
        bundle: folder of a MONAI bundle. It is a program: only give one that you trust.
        nnunet: result folder of an nnU-Net v2, whose checkpoints are programs likewise.
        table: what the labels of a bundle or an nnU-Net stand for, where they do not say it themselves.
        margin: share of the width that is left out at each edge of axial slices before the model sees
            them, for models that were trained so.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    model: str | None = None
    bundle: str | PathLike[str] | None = None
    nnunet: str | PathLike[str] | None = None
    table: Table | None = None
    margin: float = 0.0
    device: str = "auto"

    def load(self) -> Segmenter:
        """The segmenter, which may serve many volumes.

        Raises:
            UsageError: more than one is named, there is none of that name, or an option is out of range.
            InputError: it cannot be loaded.
        """
        from mrisr.zones.segmenter import load_segmenter

        return load_segmenter(given(Segmenting, vars(self)))


def run_segment(job: Job, options: ZoneOptions) -> tuple[Path, dict[str, Any]]:
    """Segment a study and write labels, record and picture; returns the labels' path and the record.

    ``job`` is one of a ``segmentation``.
    """
    began = time.perf_counter()
    path = job.target("zones")
    read = job.read()
    source = job.dicom_source(read.volume)
    segmented = segment_volume(read.volume, options.load())
    return path, write_zones(job, path, segmented, read, began, source)


def write_zones(
    job: Job,
    path: Path,
    segmented: Segmented,
    read: VolumeFile,
    began: float,
    source: Source | None,
) -> dict[str, Any]:
    """Write labels, record and picture, all of them or none; returns the record.

    A batch calls this with a segmenter that serves all of its studies::

        segmented = segment_volume(volume, segmenter)
        write_zones(Job(source, path, force=True, segmentation=True), path, segmented, read, began, None)

    Args:
        job: says whether to replace, where a picture goes and whether the patient is left out; built with
            ``segmentation=True``. What the path may replace has been checked by ``job.target``, or by the
            caller.
        path: of the labels: NIfTI, MetaImage or NRRD, or with a ``source`` DICOM Segmentation.
        segmented: from ``segment_volume``.
        began: ``time.perf_counter()`` when the work on this study began, for the record.
        source: from ``job.dicom_source``; None for what is no DICOM.

    Raises:
        OutputError: a file exists, cannot be written or does not read back as it should.
    """
    if job.deidentify:
        from mrisr.dicom.deidentify import WARNING

        segmented = replace(segmented, notes=(*segmented.notes, WARNING))
    record = make_zones_record(segmented, read, time.perf_counter() - began)
    beside = {record_path(path, stem(path)): json_bytes(record)}
    if job.qc is not None:
        from mrisr.zones.picture import zones_png

        title = zones_in_a_line(record).split(";")[0]
        beside[job.qc] = zones_png(segmented.image, segmented.labels, title=title)
    with as_output_error(path), locked(path.parent), staged(beside, overwrite=job.force):
        _write_labels(job, path, segmented, record, source)
    return record


def _write_labels(
    job: Job, path: Path, segmented: Segmented, record: dict[str, Any], source: Source | None
) -> None:
    labels = segmented.labels
    if source is None:
        write_volume(labels, path, force=job.force, description=zones_in_a_line(record))
        return
    from mrisr.dicom.segmentation import PROSTATE_ZONES, write_segmentation

    derivation = zones_in_dicom(record)
    write_segmentation(labels, path, source, derivation, PROSTATE_ZONES, force=job.force)


def segment(
    image: Image,
    *,
    output: str | PathLike[str] | None = None,
    force: bool = False,
    qc: str | PathLike[str] | None = None,
    template: str | PathLike[str] | None = None,
    deidentify: bool = False,
    **options: Unpack[ZoneFields],
) -> Image | Path:
    """Label the peripheral zone (1) and the transition zone (2) of the prostate on a T2-weighted image.

    Args:
        image: axial slices, or voxels of about the same size along all axes: a path (NIfTI, MHA/MHD,
            NRRD or a DICOM series folder), a nibabel image, a SimpleITK image, a MONAI MetaTensor or a
            :class:`mrisr.core.volume.Volume`.
        output, force, qc: for a path only: where to write (``.dcm`` means DICOM Segmentation), whether to
            replace, a picture to draw.
        template, deidentify: for a DICOM output: the series that gives patient and study where the
            input is no DICOM; whether to empty it of the patient.
        **options: see :class:`ZoneOptions`.

    Returns:
        The labels as the same kind of image, on its voxels; for a path, the path of the labels that were
        written (their provenance record lies beside them).

    Raises:
        UsageError, InputError, OutputError: one line that says what to do.
    """
    from mrisr.runs.upsample import in_memory, job_of

    settings = ZoneOptions(**options)
    if isinstance(image, (str, PathLike)):
        job = job_of(image, output, template, qc, deidentify=deidentify, force=force)
        return run_segment(replace(job, segmentation=True), settings)[0]
    in_memory(output, qc, template)
    return like(segment_volume(as_volume(image), settings.load()).labels, image)
