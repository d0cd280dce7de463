"""The derivation of an image, in the words of DICOM."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from mrisr.dicom.source import Slice, Source
from mrisr.dicom.text import local_time
from mrisr.dicom.uids import IMPLEMENTATION, derived_uid

RESAMPLING = Code("113085", "DCM", "Spatial resampling")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
EQUIPMENT = Code("109102", "DCM", "Processing Equipment")

_MAX_IS = 2**31 - 1

#: Manufacturer and model name of our equipment; files with it are ours.
MANUFACTURER, PRODUCT = "The mrisr authors", "mrisr"


@dataclass(frozen=True)
class Derivation:
    """The processing of a source, and the program and model that did it.

    Attributes:
        label: for SeriesDescription, after the source's own: ``"super-resolved in-plane x4"``.
        description: method, factor, version and "research use only", for DerivationDescription.
        details: provenance in at most 1024 characters: model, digest, seed, steps, residual.
        version: of mrisr.
        model_sha256: digest of the weights.
        seed: of the noise.
        key: everything that decides the voxels, as text; UIDs follow from it.
        series_offset: 1 to 99; the new SeriesNumber is 100 times the source's plus this.
        created: aware time.
    """

    label: str
    description: str
    details: str
    version: str
    model_sha256: str
    seed: int
    key: str
    series_offset: int
    created: datetime


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3, section 8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def equipment(derivation: Derivation, offset: str | None = "") -> Dataset:
    """An item of ContributingEquipmentSequence (PS3.3, C.12.1.1.5) for this program.

    ``offset`` is the source's TimezoneOffsetFromUTC; None leaves the time out.
    """
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(EQUIPMENT)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = PRODUCT
    item.SoftwareVersions = [
        f"mrisr {derivation.version}",
        derivation.model_sha256 or "no model",
        f"seed {derivation.seed}",
    ]
    if offset is not None:
        when = local_time(derivation.created, offset)
        item.ContributionDateTime = when.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = derivation.details[:1024]
    return item


def describe_series(d: Dataset, source: Source, derivation: Derivation, content: str = "") -> None:
    """Set what names a new series and tells how it came about: UID, number, description, times,
    derivation and equipment. ``content`` says what it holds, if that is not an image.
    """
    first = source.slices[0]
    told = (content,) if content else ()
    d.SeriesInstanceUID = derived_uid(
        source.series_uid, first.sop_uid, first.frame, derivation.key, *told
    )
    number = source.number * 100 + derivation.series_offset
    d.SeriesNumber = number if number <= _MAX_IS else derivation.series_offset
    label = " ".join((derivation.label, *told))[:64]
    own = source.description[: max(64 - len(label) - 1, 0)]
    d.SeriesDescription = f"{own} {label}".strip()
    zone = _set_times(d, first.carried, derivation)
    d.DerivationDescription = derivation.description[:1024]
    previous = list(first.carried.get("ContributingEquipmentSequence", []))
    d.ContributingEquipmentSequence = [*deepcopy(previous), equipment(derivation, zone)]


def _set_times(d: Dataset, carried: Dataset, derivation: Derivation) -> str | None:
    """Set when the new object was made, in the source's time zone, which is returned.

    A source whose times were removed gets none back, and None is returned: a study that is processed
    at once would be dated by it.
    """
    removed = carried.get("LongitudinalTemporalInformationModified") == "REMOVED"
    zone = str(carried.get("TimezoneOffsetFromUTC", ""))
    when = local_time(derivation.created, zone)
    for moment in ("Series", "Content", "InstanceCreation"):
        if not removed:
            setattr(d, f"{moment}Date", when.strftime("%Y%m%d"))
            setattr(d, f"{moment}Time", when.strftime("%H%M%S.%f"))
            continue
        needed = moment == "Content" and "ContentDate" in d  # multi-frame objects must have one
        for part, nothing in (("Date", "19000101"), ("Time", "000000")):
            if needed:
                setattr(d, f"{moment}{part}", nothing)
            elif f"{moment}{part}" in d:
                delattr(d, f"{moment}{part}")
    return None if removed else zone


def reference(origin: Slice) -> Dataset:
    """An item of SourceImageSequence (PS3.3, C.12.4) for one slice of the source."""
    item = Dataset()
    item.ReferencedSOPClassUID = origin.sop_class
    item.ReferencedSOPInstanceUID = origin.sop_uid
    if origin.frame is not None:
        item.ReferencedFrameNumber = origin.frame
    item.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    return item


def sign(d: Any, derivation: Derivation) -> None:
    """Set the identifiers of a new object, and of the program, in its file meta information."""
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    d.file_meta.ImplementationClassUID = UID(IMPLEMENTATION)
    d.file_meta.ImplementationVersionName = f"MRISR_{derivation.version}"[:16]
