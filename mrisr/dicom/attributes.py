"""Attributes of a source series that a derived object carries, and values in the spelling of DICOM.

A list of what is kept, not of what is removed: private groups, overlays, icons, padding values and
whatever a vendor invents next never get through. Keywords are those of PS3.6, grouped by the
modules of PS3.3.
"""

import uuid

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

PATIENT = """
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID
    PatientBirthDate PatientBirthTime PatientSex OtherPatientIDsSequence OtherPatientNames EthnicGroup
    PatientComments PatientSpeciesDescription QualityControlSubject PatientIdentityRemoved
    DeidentificationMethod DeidentificationMethodCodeSequence
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID
    ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
""".split()

STUDY = """
    StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber
    IssuerOfAccessionNumberSequence ReferringPhysicianName ReferringPhysicianIdentificationSequence
    ConsultingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy RequestingService
    ReferencedStudySequence ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence
    AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight
    PatientBodyMassIndex Occupation AdditionalPatientHistory PatientSexNeutered MedicalAlerts Allergies
    SmokingStatus PregnancyStatus LastMenstrualDate PatientState AdmissionID IssuerOfAdmissionIDSequence
    ReasonForVisit ServiceEpisodeID ServiceEpisodeDescription IssuerOfServiceEpisodeIDSequence
    ClinicalTrialTimePointID ClinicalTrialTimePointDescription ConsentForClinicalTrialUseSequence
    LongitudinalTemporalInformationModified
""".split()

SERIES = """
    Laterality PerformingPhysicianName OperatorsName ProtocolName BodyPartExamined PatientPosition
    AnatomicRegionSequence ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID
    ClinicalTrialSeriesDescription FrameOfReferenceUID PositionReferenceIndicator
    SpecificCharacterSet TimezoneOffsetFromUTC
""".split()

EQUIPMENT = """
    Manufacturer ManufacturerModelName SoftwareVersions InstitutionName InstitutionAddress
    InstitutionalDepartmentName StationName DeviceSerialNumber DeviceUID GantryID
    DateOfLastCalibration TimeOfLastCalibration ContributingEquipmentSequence
""".split()

#: Attributes that tell how the image was acquired and nothing about whom.
ACQUISITION = """
    ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SequenceName AngioFlag
    RepetitionTime EchoTime EchoTrainLength InversionTime TriggerTime FlipAngle VariableFlipAngleFlag
    NumberOfAverages ImagingFrequency ImagedNucleus EchoNumbers MagneticFieldStrength
    NumberOfPhaseEncodingSteps PercentSampling PercentPhaseFieldOfView PixelBandwidth
    ReconstructionDiameter ReceiveCoilName TransmitCoilName AcquisitionMatrix
    InPlanePhaseEncodingDirection SAR dBdt AcquisitionNumber
    LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod
    BurnedInAnnotation RecognizableVisualFeatures
    ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusRoute
    ContrastBolusAdministrationRouteSequence ContrastBolusVolume ContrastBolusTotalDose
    ContrastBolusIngredient ContrastBolusIngredientConcentration ContrastFlowRate ContrastFlowDuration
""".split()

_TIMES = ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime")
CARRIED = (*PATIENT, *STUDY, *SERIES, *EQUIPMENT, *ACQUISITION, *_TIMES)

#: What a de-identified object carries of it (PS3.15, table E.1-1): not what identifies, nor free text.
DEIDENTIFIED = {
    *"""
        PatientPosition PositionReferenceIndicator BodyPartExamined AnatomicRegionSequence Laterality
        Manufacturer ManufacturerModelName SoftwareVersions SpecificCharacterSet
    """.split(),
    *ACQUISITION,
}.difference(
    """
        ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusIngredient SequenceName
        ReceiveCoilName TransmitCoilName
    """.split()
)

#: Attributes that must be present in a derived image, empty if the source lacks them (type 2, 2C).
TYPE_2 = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName PatientPosition PositionReferenceIndicator Manufacturer ScanOptions
    MRAcquisitionType RepetitionTime EchoTime EchoTrainLength
""".split()

#: Attributes that all files of a derived series share, besides those of patient and study.
PER_SERIES = """
    SeriesInstanceUID SeriesNumber SeriesDescription PixelSpacing SliceThickness SpacingBetweenSlices
    ImageOrientationPatient Rows Columns BitsStored PixelRepresentation WindowCenter WindowWidth
""".split()

#: Attributes of enhanced MR and the classic attribute of the same value.
FROM_ENHANCED = {
    "EffectiveEchoTime": "EchoTime",
    "TransmitterFrequency": "ImagingFrequency",
    "ResonantNucleus": "ImagedNucleus",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "InversionTimes": "InversionTime",
    "PulseSequenceName": "SequenceName",
}

_NAMESPACE = uuid.UUID("5f6ac5a0-9a0a-5a0b-8f59-7d1c3f3f2b6e")


def decimal(value: float) -> str:
    """A number as a Decimal String: at most 16 characters, 12 significant digits where they fit.

    >>> decimal(0.1 + 0.2), decimal(-123.4567890123456), decimal(2.2903934e-05)
    ('0.3', '-123.456789012', '2.2903934e-05')
    """
    text = f"{value:.12g}"
    return text if len(text) <= 16 else format_number_as_ds(value)


def millimetres(value: float) -> str:
    """A coordinate or direction as a Decimal String, without the dust below 1e-10.

    >>> millimetres(-1e-17), millimetres(0.25000000000000006)
    ('0', '0.25')
    """
    return decimal(round(float(value), 10) + 0.0)


def window(values: NDArray[np.generic], least: float) -> tuple[float, float]:
    """Centre and width of a display window from the 0.5th to the 99.5th percentile, six digits each."""
    low, high = (float(v) for v in np.percentile(values.astype(np.float64), (0.5, 99.5)))
    return float(f"{(low + high) / 2:.6g}"), float(f"{max(high - low, least):.6g}")


def derived_uid(*parts: object) -> str:
    """A UID below 2.25 (PS3.5 B.2) from the SHA-1 of ``parts`` (RFC 9562, version 5): a rerun gives the same.

    >>> derived_uid("a", 1) == derived_uid("a", 1) != derived_uid("a", 2)
    True
    """
    name = "\0".join(str(part) for part in parts)
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3, section 8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code[:3]
    return item
