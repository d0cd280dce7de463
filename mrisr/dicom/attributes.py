"""Attributes of a source series that a derived object carries.

A list of what is kept, not of what is removed: private groups, overlays, icons, padding values and
whatever a vendor invents next never get through. Keywords are those of PS3.6, grouped by the
modules of PS3.3.
"""

from __future__ import annotations

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

ACQUISITION_TIMES = "AcquisitionDate AcquisitionTime AcquisitionDateTime".split()

CARRIED = (*PATIENT, *STUDY, *SERIES, *EQUIPMENT, *ACQUISITION, *ACQUISITION_TIMES)

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
