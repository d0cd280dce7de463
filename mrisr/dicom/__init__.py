"""Derived DICOM objects: MR series, segmentations and parametric maps, and the way to an archive."""
