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
from dataclasses import replace

from pydicom import Dataset
from pydicom.sr.coding import Code

from mrisr.dicom.attributes import DEIDENTIFIED
from mrisr.dicom.derivation import code_item
from mrisr.dicom.source import Slice, Source, copied

BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")

WARNING = (
    "de-identified by the DICOM Basic Profile: attributes only. This is not complete "
    "de-identification: text in the pixels and the anatomy itself are still there"
)

#: Environment variable with a secret; with it pseudonyms can neither be guessed nor reproduced by others.
KEY = "MRISR_DEIDENTIFY_KEY"


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
    return f"2.25.{uuid.UUID(bytes=_digest('uid', uid)[:16], version=5).int}"


def _clean(carried: Dataset) -> Dataset:
    d = copied(carried, DEIDENTIFIED)
    d.StudyInstanceUID = mapped_uid(carried.StudyInstanceUID)
    d.FrameOfReferenceUID = mapped_uid(carried.FrameOfReferenceUID)
    patient = carried.get("PatientID", "")
    if os.environ.get(KEY) and patient:
        digest = _digest("patient", f"{carried.get('IssuerOfPatientID', '')}\0{patient}")
    else:
        digest = _digest("study", carried.StudyInstanceUID)
    pseudonym = f"ANON-{digest.hex()[:12].upper()}"
    d.PatientID, d.PatientName = pseudonym, pseudonym.replace("-", "^")
    d.PatientIdentityRemoved = "YES"
    d.LongitudinalTemporalInformationModified = "REMOVED"
    d.DeidentificationMethod = ["mrisr --deidentify", "DICOM PS3.15 Annex E, attributes only"]
    d.DeidentificationMethodCodeSequence = [code_item(BASIC_PROFILE)]
    return d


def _digest(kind: str, text: str) -> bytes:
    key = os.environ.get(KEY) or "mrisr"
    return hmac.new(key.encode(), f"{kind}\0{text}".encode(), hashlib.sha256).digest()
