"""Derived objects without the patient: the Basic Application Level Confidentiality Profile.

Source: DICOM PS3.15, Annex E, table E.1-1. The profile is applied to the *source's* attributes, so
that everything derived from them (series, segmentations, maps) agrees. Removing header attributes is
not complete de-identification: text burned into the pixels and the anatomy itself stay.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import uuid
from copy import deepcopy
from dataclasses import replace

from pydicom import Dataset
from pydicom.sr.coding import Code

from mrisr.dicom.attributes import ACQUISITION
from mrisr.dicom.derivation import code_item
from mrisr.dicom.source import Slice, Source

BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")

WARNING = (
    "de-identified by the DICOM Basic Profile: attributes only. This is not complete "
    "de-identification: text in the pixels and the anatomy itself are still there"
)

#: Environment variable with a secret; with it pseudonyms can neither be guessed nor reproduced by others.
KEY = "MRISR_DEIDENTIFY_KEY"

#: Attributes that the profile does not touch, beside those of the acquisition.
_KEPT = (
    "PatientPosition",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "Laterality",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SpecificCharacterSet",
)
#: Attributes of the acquisition that the profile removes or that hold free text.
_REMOVED = (
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusIngredient",
    "SequenceName",
    "ReceiveCoilName",
    "TransmitCoilName",
)


def deidentified(source: Source) -> Source:
    """The source with every patient attribute emptied or removed and every UID replaced.

    The same UID always becomes the same other UID, in all runs with the same key, so that the series
    of a study stay together. PatientID becomes a pseudonym: with a key one for the patient, without
    one for the study, because a hash of a short number is guessed quickly.
    """
    slices = tuple(
        Slice(s.sop_class, mapped_uid(s.sop_uid), s.frame, _clean(s.carried)) for s in source.slices
    )
    return replace(source, slices=slices, series_uid=mapped_uid(source.series_uid), description="")


def mapped_uid(uid: str) -> str:
    """The UID that takes this one's place: a keyed digest below 2.25."""
    digest = hmac.new(_key(), f"uid\0{uid}".encode(), hashlib.sha256).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def _clean(carried: Dataset) -> Dataset:
    d = Dataset()
    for keyword in (*_KEPT, *ACQUISITION):
        if keyword in carried and keyword not in _REMOVED:
            d[keyword] = deepcopy(carried[keyword])
    d.StudyInstanceUID = mapped_uid(str(carried.StudyInstanceUID))
    d.FrameOfReferenceUID = mapped_uid(str(carried.FrameOfReferenceUID))
    pseudonym = _pseudonym(carried)
    d.PatientID, d.PatientName = pseudonym, pseudonym.replace("-", "^")
    d.PatientIdentityRemoved = "YES"
    d.LongitudinalTemporalInformationModified = "REMOVED"
    d.DeidentificationMethod = ["mrisr --deidentify", "DICOM PS3.15 Annex E, attributes only"]
    d.DeidentificationMethodCodeSequence = [code_item(BASIC_PROFILE)]
    return d


def _pseudonym(carried: Dataset) -> str:
    who = f"{carried.get('IssuerOfPatientID', '')}\0{carried.get('PatientID', '')}"
    secret = bool(os.environ.get(KEY)) and bool(carried.get("PatientID"))
    text = f"patient\0{who}" if secret else f"study\0{carried.StudyInstanceUID}"
    return f"ANON-{hmac.new(_key(), text.encode(), hashlib.sha256).hexdigest()[:12].upper()}"


def _key() -> bytes:
    return (os.environ.get(KEY) or "mrisr").encode()
