"""The derivation of an image, in the words of DICOM."""

from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from mrisr.dicom.attributes import code_item, derived_uid
from mrisr.dicom.source import Slice, Source

RESAMPLING = Code("113085", "DCM", "Spatial resampling")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
EQUIPMENT = Code("109102", "DCM", "Processing Equipment")

#: Manufacturer and model name of our equipment; files with it are ours.
MANUFACTURER, PRODUCT = "The mrisr authors", "mrisr"


@dataclass(frozen=True)
class Derivation:
    """The processing of a source, and the program and model that did it."""

    label: str  #: for SeriesDescription, after the source's own: ``"super-resolved in-plane x4"``
    description: str  #: for DerivationDescription: method, factor, version, "research use only"
    details: str  #: provenance, at most 1024 characters: model, digest, seed, steps, residual
    version: str  #: of mrisr
    model_sha256: str  #: digest of the weights
    seed: int  #: of the noise
    key: str  #: everything that decides the voxels, as text; UIDs follow from it
    series_offset: int  #: 1 to 99; the new SeriesNumber is 100 times the source's plus this
    created: datetime  #: aware time


def describe(
    d: Dataset, source: Source, derivation: Derivation, code: Code, content: str = ""
) -> None:
    """Set what names a new series and tells how it came about: UID, number, description, times,
    derivation (``code``) and equipment, after what a library has told of the scanner and itself.

    ``content`` says what the series holds, if that is not an image.
    """
    first = source.slices[0]
    told = (content,) if content else ()
    origin = (source.series_uid, first.sop_uid, first.frame)
    d.SeriesInstanceUID = derived_uid(*origin, derivation.key, *told)
    number = source.number * 100 + derivation.series_offset
    d.SeriesNumber = number if number < 2**31 else derivation.series_offset
    label = " ".join((derivation.label, *told))[:64]
    own = source.description[: max(64 - len(label) - 1, 0)]
    d.SeriesDescription = f"{own} {label}".strip()
    d.DerivationDescription = derivation.description[:1024]
    d.DerivationCodeSequence = [code_item(code)]
    when = _set_times(d, first.carried, derivation)
    earlier = deepcopy(first.carried.get("ContributingEquipmentSequence", []))
    library = list(d.get("ContributingEquipmentSequence", []))
    for item in library[-1:]:
        item.ContributionDateTime = when
    d.ContributingEquipmentSequence = [*earlier, *library, _equipment(derivation, when)]


def _set_times(d: Dataset, carried: Dataset, derivation: Derivation) -> str:
    """Set when the new object was made, in the source's time zone, and return it. A source whose times were
    removed gets none, and the time is empty: a study that is processed at once would be dated by it."""
    removed = carried.get("LongitudinalTemporalInformationModified") == "REMOVED"
    try:
        zone = datetime.strptime(str(carried.get("TimezoneOffsetFromUTC", "")), "%z").tzinfo
    except ValueError:
        zone = None  # this machine's
    when = derivation.created.astimezone(zone)
    parts = (("Date", "%Y%m%d", "19000101"), ("Time", "%H%M%S.%f", "000000"))
    for moment in ("Series", "Content", "InstanceCreation"):
        for part, form, nothing in parts:
            keyword = f"{moment}{part}"
            if not removed:
                setattr(d, keyword, when.strftime(form))
            elif keyword in d and moment == "Content":  # multi-frame objects must have one
                setattr(d, keyword, nothing)
            elif keyword in d:
                delattr(d, keyword)
    return "" if removed else when.strftime("%Y%m%d%H%M%S.%f%z")


def _equipment(derivation: Derivation, when: str) -> Dataset:
    """An item of ContributingEquipmentSequence (PS3.3, C.12.1.1.5) for this program."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(EQUIPMENT)]
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, PRODUCT
    weights = derivation.model_sha256 or "no model"
    item.SoftwareVersions = [f"mrisr {derivation.version}", weights, f"seed {derivation.seed}"]
    if when:
        item.ContributionDateTime = when
    item.ContributionDescription = derivation.details[:1024]
    return item


def reference(origin: Slice) -> Dataset:
    """An item of SourceImageSequence (PS3.3, C.12.4) for one slice of the source."""
    item = Dataset()
    item.ReferencedSOPClassUID = origin.sop_class
    item.ReferencedSOPInstanceUID = origin.sop_uid
    if origin.frame is not None:
        item.ReferencedFrameNumber = origin.frame
    item.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    return item


def sign(d: Any, number: int, derivation: Derivation) -> None:
    """Set the UID of a series' object ``number`` and, in its file meta information, that of the program."""
    d.SOPInstanceUID = derived_uid(d.SeriesInstanceUID, number)
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    d.file_meta.ImplementationClassUID = UID(derived_uid("implementation"))
    d.file_meta.ImplementationVersionName = f"MRISR_{derivation.version}"[:16]
