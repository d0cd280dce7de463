"""DICOM archives over the web (DICOMweb): fetch studies, send results."""
