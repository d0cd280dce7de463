"""How an image came about, in the words of DICOM."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.sr.coding import Code

from mrisr.dicom.text import local_time

RESAMPLING = Code("113085", "DCM", "Spatial resampling")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
EQUIPMENT = Code("109102", "DCM", "Processing Equipment")

#: What the model name of our equipment is called; files with it are ours.
PRODUCT = "mrisr"


@dataclass(frozen=True)
class Derivation:
    """What was done to a source, by what.

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


def equipment(derivation: Derivation, offset: str = "") -> Dataset:
    """An item of ContributingEquipmentSequence (PS3.3, C.12.1.1.5) for this program.

    ``offset`` is the source's TimezoneOffsetFromUTC.
    """
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(EQUIPMENT)]
    item.Manufacturer = "The mrisr authors"
    item.ManufacturerModelName = PRODUCT
    item.SoftwareVersions = [
        f"mrisr {derivation.version}",
        derivation.model_sha256 or "no model",
        f"seed {derivation.seed}",
    ]
    item.ContributionDateTime = local_time(derivation.created, offset).strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = derivation.details[:1024]
    return item
