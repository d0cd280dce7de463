"""A digital T2-weighted prostate MRI study, to test and to teach with no patient's data."""

from mrisr.data.phantom.anatomy import RANGE
from mrisr.data.phantom.scanner import (
    PZ,
    TZ,
    label_volume,
    labels,
    lesion,
    phantom,
    phantom_affine,
    phantom_study,
    tissue,
)

__all__ = [
    "PZ",
    "RANGE",
    "TZ",
    "label_volume",
    "labels",
    "lesion",
    "phantom",
    "phantom_affine",
    "phantom_study",
    "tissue",
]
