"""The series that an object is derived from: what it passes on, as it is or without the patient.

Removing the patient is the Basic Application Level Confidentiality Profile (DICOM PS3.15, Annex E, table
E.1-1), applied to the *source's* attributes, so that everything derived from them (series, segmentations,
maps) agrees. It is not complete de-identification: text burned into the pixels and the anatomy itself stay.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import uuid
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.charset import STAND_ALONE_ENCODINGS, python_encoding
from pydicom.sr.coding import Code
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.dicom.attributes import (
    CARRIED,
    DEIDENTIFIED,
    FROM_ENHANCED,
    code_item,
    decimal,
    derived_uid,
    millimetres,
)
from mrisr.io.dicom import DicomFile, read_stack
from mrisr.io.dicom_frames import Frame, frame_attributes
from mrisr.io.dicom_scan import printable, quiet
from mrisr.io.dicom_stack import Stack

_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
_BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")

DEIDENTIFY_WARNING = (
    "de-identified by the DICOM Basic Profile: attributes only. This is not complete "
    "de-identification: text in the pixels and the anatomy itself are still there"
)

#: Environment variable with a secret; with it pseudonyms can neither be guessed nor reproduced by others.
DEIDENTIFY_KEY = "MRISR_DEIDENTIFY_KEY"


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of the source: its file, its frame (from 1) in a multi-frame one, and what it passes on.

    ``carried`` holds the attributes of ``attributes.CARRIED`` that it has, all of them at the top level,
    also those that an enhanced file keeps in functional groups.
    """

    sop_class: str
    sop_uid: str
    frame: int | None
    carried: Dataset


@dataclass(frozen=True, eq=False)
class Source:
    """A series as the source of derived objects."""

    slices: tuple[Slice, ...]  #: in the order of the array that ``read_dicom`` returns
    shape: tuple[int, int, int]  #: ``(columns, rows, slices)``
    affine: geometry.Affine  #: voxel indices to mm, RAS
    orientation: tuple[str, ...]  #: ImageOrientationPatient as the file spells it
    series_uid: str
    number: int  #: SeriesNumber, 0 where there is none
    description: str  #: SeriesDescription, on one line
    rescale_type: str | None  #: RescaleType, if there is a rescale at all
    others: tuple[Source, ...] = ()  #: further series that the object is derived from

    @property
    def frame_of_reference_uid(self) -> str:
        return str(self.slices[0].carried.FrameOfReferenceUID)


def read_source(path: Path, *, series: str | None = None, frame: int | None = None) -> Source:
    """The series at ``path`` as a source; pixels are not read.

    Arguments and errors are those of ``mrisr.io.dicom.read_dicom``, and the errors of ``source_of``.
    """
    return _source(read_stack(path, series=series, frame=frame), path)


def source_of(file: DicomFile) -> Source:
    """The series that a volume was read from as a source; nothing is read again.

    Raises:
        InputError: another modality than MR; no StudyInstanceUID or SOPInstanceUID.
    """
    return _source(file.stack, file.path or Path(file.volume.name))


@quiet()
def _source(stack: Stack, path: Path) -> Source:
    first = stack.frames[0]
    header = first.header
    modality = printable(header.get("Modality"))
    if modality not in ("", "MR"):
        raise InputError(path, expected="an MR series (Modality MR)", found=modality)
    rows, columns = first.size
    number = printable(header.get("SeriesNumber"))
    return Source(
        slices=tuple(_slice(f) for f in stack.frames),
        shape=(columns, rows, len(stack.frames)),
        affine=stack.affine,
        orientation=_orientation(first),
        series_uid=str(header.SeriesInstanceUID),
        number=int(number) if number.isdecimal() else 0,
        description=printable(header.get("SeriesDescription")),
        rescale_type=_rescale_type(first),
    )


def check_same_place(volume: Volume, source: Source, template: Path) -> None:
    """Refuse a template whose images do not show the place that the volume shows.

    Coordinates of both count as those of one scanner: the centre of one must lie inside the other.

    Raises:
        InputError: neither centre does.
    """
    grids = [(volume.affine, volume.shape), (source.affine, source.shape)]
    centres = [affine @ [*(np.array(shape) - 1) / 2, 1.0] for affine, shape in grids]
    for centre, (affine, shape) in zip(centres, grids[::-1], strict=True):
        index = (np.linalg.inv(affine) @ centre)[:3]
        if np.all((index > -0.5) & (index < np.array(shape) - 0.5)):
            return
    apart = float(np.linalg.norm(centres[0] - centres[1]))
    raise InputError(
        template,
        expected="a template that shows the same place as the input",
        found=f"one whose centre is {apart:.0f} mm away",
    )


def _slice(f: Frame) -> Slice:
    header = f.header
    for keyword in ("StudyInstanceUID", "SOPInstanceUID"):
        value = header.get(keyword, "")
        if not UID(str(value)).is_valid:
            found = repr(printable(value)) if printable(value) else "none"
            raise InputError(f.path, expected=f"a valid {keyword}", found=found)
    carried = copied(header, CARRIED)
    for element in carried:
        for item in element.value if element.VR == "SQ" else ():
            item.remove_private_tags()
    multiframe = "PerFrameFunctionalGroupsSequence" in header
    if multiframe:
        _flatten(carried, header, frame_attributes(header, f.number))
    named = carried.get("SpecificCharacterSet") or ()
    sets = {named} if isinstance(named, str) else {*named}
    if sets - python_encoding.keys() or (len(sets) > 1 and sets & {*STAND_ALONE_ENCODINGS}):
        carried.SpecificCharacterSet = "ISO_IR 192"  # the texts are decoded; UTF-8 holds them all
    for element in carried.iterall():
        values = element.value if element.VM > 1 else [element.value]
        if element.VR == "DS" and any(len(str(v)) > 16 for v in values):
            element.value = [decimal(float(v)) for v in values]
    if not carried.get("FrameOfReferenceUID"):
        carried.FrameOfReferenceUID = derived_uid("frame of reference", header.SeriesInstanceUID)
    if header.file_meta.get("TransferSyntaxUID") in _LOSSY:
        carried.LossyImageCompression = "01"
    number = f.number + 1 if multiframe else None
    return Slice(str(header.SOPClassUID), str(header.SOPInstanceUID), number, carried)


def copied(d: Dataset, keywords: Iterable[str]) -> Dataset:
    """Copies of those attributes of ``keywords`` that ``d`` has."""
    copy = Dataset()
    for keyword in keywords:
        if keyword in d:
            copy[keyword] = deepcopy(d[keyword])
    return copy


def _flatten(carried: Dataset, header: Dataset, attributes: dict[str, Any]) -> None:
    """Set attributes of an enhanced file's functional groups as those of a classic one."""
    top = {key: header[key].value for key in FROM_ENHANCED if key in header}
    found = {**top, **attributes}
    renamed = {classic: found[key] for key, classic in FROM_ENHANCED.items() if key in found}
    if found.get("InPlanePhaseEncodingDirection") == "COLUMN":
        renamed["InPlanePhaseEncodingDirection"] = "COL"
    for keyword, value in {**found, **renamed}.items():
        if keyword in CARRIED and value not in (None, "", []):
            if keyword == "InversionTime" and not isinstance(value, (int, float, str)):
                value = value[0]
            setattr(carried, keyword, decimal(value) if isinstance(value, float) else value)

    def get(keyword: str) -> str:
        return str(found.get(keyword, header.get(keyword, "")))

    pulse = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(get("EchoPulseSequence"))
    inversion = ["IR"] if get("InversionRecovery") == "YES" else []
    carried.ScanningSequence = [*(pulse or ["RM"]), *inversion]
    variants = {
        "SK": get("SegmentedKSpaceTraversal") in ("PARTIAL", "FULL"),
        "SS": get("SteadyStatePulseSequence") not in ("", "NONE"),
        "SP": get("Spoiling") not in ("", "NONE"),
        "MTC": get("MagnetizationTransfer") not in ("", "NONE"),
        "OSP": get("OversamplingPhase") not in ("", "NONE"),
    }
    carried.SequenceVariant = [name for name, true in variants.items() if true] or "NONE"


def _orientation(f: Frame) -> tuple[str, ...]:
    stated = tuple(str(v).strip() for v in f.header.get("ImageOrientationPatient") or [""])
    if all(0 < len(text) <= 16 for text in stated):
        return stated
    return tuple(millimetres(v) for v in (*f.along_row, *f.along_column))


def _rescale_type(f: Frame) -> str | None:
    names = {"RescaleSlope", "RescaleType"}
    found = {name: f.header[name].value for name in names if name in f.header}
    if "PerFrameFunctionalGroupsSequence" in f.header:
        found |= frame_attributes(f.header, f.number)
    return printable(found.get("RescaleType")) or "US" if "RescaleSlope" in found else None


def deidentified(source: Source) -> Source:
    """The source with every patient attribute emptied or removed and every UID replaced.

    The same UID always becomes the same other UID, in all runs with the same key, so that the series
    of a study stay together. PatientID becomes a pseudonym: with a key one for the patient, without
    one for the study, because a hash of a short number is guessed quickly.
    """
    slices = tuple(
        Slice(s.sop_class, mapped_uid(s.sop_uid), s.frame, _clean(s.carried)) for s in source.slices
    )
    others = tuple(deidentified(other) for other in source.others)
    uid = mapped_uid(source.series_uid)
    return replace(source, slices=slices, series_uid=uid, description="", others=others)


_CODE = ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning")


def mapped_uid(uid: str) -> str:
    """The UID that takes this one's place: a keyed digest below 2.25."""
    return f"2.25.{uuid.UUID(bytes=_digest('uid', uid)[:16], version=5).int}"


def _clean(carried: Dataset) -> Dataset:
    d = copied(carried, DEIDENTIFIED)
    for element in d:
        if element.VR == "SQ":  # codes, of which nothing else is kept
            element.value = [copied(item, _CODE) for item in element.value]
    d.StudyInstanceUID = mapped_uid(carried.StudyInstanceUID)
    d.FrameOfReferenceUID = mapped_uid(carried.FrameOfReferenceUID)
    patient = carried.get("PatientID", "")
    if os.environ.get(DEIDENTIFY_KEY) and patient:
        digest = _digest("patient", f"{carried.get('IssuerOfPatientID', '')}\0{patient}")
    else:
        digest = _digest("study", carried.StudyInstanceUID)
    pseudonym = f"ANON-{digest.hex()[:12].upper()}"
    d.PatientID, d.PatientName = pseudonym, pseudonym.replace("-", "^")
    d.PatientIdentityRemoved = "YES"
    d.LongitudinalTemporalInformationModified = "REMOVED"
    d.DeidentificationMethod = ["mrisr --deidentify", "DICOM PS3.15 Annex E, attributes only"]
    d.DeidentificationMethodCodeSequence = [code_item(_BASIC_PROFILE)]
    return d


def _digest(kind: str, text: str) -> bytes:
    key = os.environ.get(DEIDENTIFY_KEY) or "mrisr"
    return hmac.new(key.encode(), f"{kind}\0{text}".encode(), hashlib.sha256).digest()
