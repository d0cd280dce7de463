"""A synthetic prostate series with all that a hospital's scanner and archive would put in its files."""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from tests.reliability.dicom_files import add_overlay, blank, set_pixels

#: Words that stand in attributes which must never reach a message, a record or a file name.
SECRETS = ("SECRET", "SYNTH-4711", "19500102", "ACC-0815", "J\xf6rg")

SIZE, SLICES = 64, 6
_PRIVATE_GROUP = 0x0029
_CREATOR = "SIEMENS CSA HEADER"


@cache
def hospital_phantom(
    size: int = SIZE, slices: int = SLICES, plane: str = "axial", obliquity: float = 7.0
) -> Volume:
    """The volume behind the series: 1 x 1 x 3.5 mm, oblique, 12 bits."""
    spacing = (1.0, 1.0, 3.5)
    return phantom(
        (size, size, slices), plane=plane, spacing=spacing, obliquity=obliquity, noise=0.02
    )


def hospital_series(
    folder: Path,
    *,
    size: int = SIZE,
    slices: int = SLICES,
    plane: str = "axial",
    obliquity: float = 7.0,
    number: int = 5,
    patient: str = "SYNTH-4711",
    syntax: str = ExplicitVRLittleEndian,
    **edits: Any,
) -> Path:
    """Write a classic MR series, every module of the IOD filled, and return ``folder``.

    UIDs follow from ``patient``, ``number`` and the slice: two series of one patient with different
    numbers are one study in one frame of reference, and a second call gives the same files.

    Args:
        folder: made if missing; gets ``IM0001`` (no ending, as archives export them) and so on.
        size: rows and columns. ``slices``, ``plane``, ``obliquity``: as ``hospital_phantom``.
        number: SeriesNumber.
        patient: PatientID.
        syntax: transfer syntax; a compressed one compresses without loss.
        edits: attributes by keyword. A value stands in every slice, a function of the slice's
            index (from 0) gives one for each, None takes the attribute away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    how = ((size, slices, plane, obliquity), number, patient, syntax)
    for k in range(slices):
        data = _file(k, *how, **edits) if edits else _usual_file(k, *how)
        (folder / f"IM{k + 1:04d}").write_bytes(data)
    return folder


def _file(k: int, grid: Any, number: int, patient: str, syntax: str, **edits: Any) -> bytes:
    d = _identity(k, patient, number)
    _acquisition(d, k)
    _pixels(d, hospital_phantom(*grid), k)
    _clutter(d)
    for keyword, value in edits.items():
        value = value(k) if callable(value) else value
        if value is not None:
            setattr(d, keyword, value)
        elif keyword in d:
            del d[keyword]
    plain = syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    d.file_meta.TransferSyntaxUID = syntax if plain else ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    if not plain:
        d.compress(syntax, generate_instance_uid=False)
    file = BytesIO()
    d.save_as(file, enforce_file_format=True)
    return file.getvalue()


_usual_file = cache(_file)


def _identity(k: int, patient: str, number: int) -> FileDataset:
    """Patient, study, series, frame of reference and instance."""

    def uid(*parts: object) -> str:
        return generate_uid(entropy_srcs=[patient, *map(str, parts)])

    d = blank(MRImageStorage, UID(uid("instance", number, k)))
    d.SpecificCharacterSet = "ISO_IR 100"
    d.PatientName, d.PatientID = "Secret^J\xf6rg", patient
    d.IssuerOfPatientID = "SECRET HOSPITAL"
    d.PatientBirthDate, d.PatientSex, d.PatientAge, d.PatientWeight = "19500102", "M", "074Y", 81
    d.StudyInstanceUID, d.StudyID, d.AccessionNumber = uid("study"), "77", "ACC-0815"
    d.StudyDate, d.StudyTime, d.StudyDescription = "20240305", "101500.000000", "MRI prostate"
    d.ReferringPhysicianName = "Secret^Referrer"
    d.SeriesInstanceUID, d.SeriesNumber = uid("series", number), number
    d.SeriesDate, d.SeriesTime = "20240305", "102000.120000"
    d.SeriesDescription, d.ProtocolName = f"t2_tse_tra_{number}", "t2_tse_tra"
    d.Modality, d.BodyPartExamined = "MR", "PROSTATE"
    d.PatientPosition = "HFS"
    d.PerformedProcedureStepID = "SECRET-STEP"
    d.PerformedProcedureStepStartDate, d.PerformedProcedureStepStartTime = "20240305", "101500"
    d.RequestAttributesSequence = [Dataset()]
    d.RequestAttributesSequence[0].ScheduledProcedureStepID = "SPS-1"
    d.RequestAttributesSequence[0].RequestedProcedureID = "RP-1"
    d.OperatorsName = "Secret^Operator"
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = uid("frame"), None
    d.InstanceNumber, d.AcquisitionNumber = k + 1, 1
    d.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"]
    d.ContentDate, d.ContentTime = "20240305", f"1025{k:02d}.500000"
    d.AcquisitionDate, d.AcquisitionTime = "20240305", f"1021{k:02d}.250000"
    d.InstanceCreationDate, d.InstanceCreationTime = "20240305", "102600.000000"
    d.Manufacturer, d.ManufacturerModelName = "SIEMENS", "Synthetic"
    d.InstitutionName, d.InstitutionAddress = "Secret Hospital", "Secret Street 1"
    d.InstitutionalDepartmentName = "Radiology"
    d.StationName, d.DeviceSerialNumber = "MR1", "12345"
    d.SoftwareVersions = "syngo MR E11"
    return d


def _acquisition(d: Dataset, k: int) -> None:
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions = "SE", ["SK", "SP"], "PFP"
    d.MRAcquisitionType, d.SequenceName, d.AngioFlag = "2D", "*tse2d1_25", "N"
    d.RepetitionTime, d.EchoTime, d.EchoTrainLength, d.EchoNumbers = "5660", "104", 25, 1
    d.FlipAngle, d.NumberOfAverages, d.MagneticFieldStrength = "160", "3", "3"
    d.ImagingFrequency, d.ImagedNucleus, d.PixelBandwidth = "123.25", "1H", "200"
    d.NumberOfPhaseEncodingSteps, d.PercentSampling = 400, "80"
    d.PercentPhaseFieldOfView, d.AcquisitionMatrix = "100", [0, 64, 64, 0]
    d.InPlanePhaseEncodingDirection, d.VariableFlipAngleFlag = "ROW", "N"
    d.SAR, d.dBdt, d.TransmitCoilName, d.ReceiveCoilName = "0.7", "0", "Body", "Body18"
    d.BurnedInAnnotation, d.LossyImageCompression = "NO", "00"
    d.ImageComments = "secret comment"
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = MRImageStorage
    referenced.ReferencedSOPInstanceUID = generate_uid(entropy_srcs=["localizer", str(k)])
    d.ReferencedImageSequence = [referenced]


def _pixels(d: Dataset, volume: Volume, k: int) -> None:
    """The plane, its geometry and what describes its numbers."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    position, normal = lps[:3, 3] + k * lps[:3, 2], lps[:3, 2] / spacing[2]
    d.ImagePositionPatient = [format_number_as_ds(float(v)) for v in position]
    directions = (lps[:3, :2] / spacing[:2]).T.ravel()
    d.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in directions]
    d.PixelSpacing = [format_number_as_ds(float(v)) for v in (spacing[1], spacing[0])]
    d.SliceThickness, d.SpacingBetweenSlices = "3", format_number_as_ds(float(spacing[2]))
    d.SliceLocation = format_number_as_ds(float(position @ normal))
    plane = np.ascontiguousarray(volume.array[:, :, k].T.round().clip(0, 4095).astype("<u2"))
    set_pixels(d, plane, stored=12)
    d.SmallestImagePixelValue, d.LargestImagePixelValue = int(plane.min()), int(plane.max())
    d.WindowCenter, d.WindowWidth = "400", "900"
    d.WindowCenterWidthExplanation = "Algo1"


def _clutter(d: Dataset) -> None:
    """What a derived object must not carry: private groups, an overlay, an icon, a padding value."""
    block = d.private_block(_PRIVATE_GROUP, _CREATOR, create=True)
    block.add_new(0x08, "CS", "IMAGE NUM 4")
    block.add_new(0x10, "OB", b"secret protocol of the vendor\0")
    add_overlay(d, d.Rows, d.Columns)
    icon = Dataset()
    set_pixels(icon, np.zeros((8, 8), np.uint8))
    d.IconImageSequence = [icon]
    d.PixelPaddingValue = 0
