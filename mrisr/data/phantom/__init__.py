"""A digital T2-weighted prostate MRI study, to test and to teach with no patient's data."""

from mrisr.data.phantom.anatomy import RANGE
from mrisr.data.phantom.scanner import (
    PZ,
    TZ,
    label_volume,
    labels,
    phantom,
    phantom_affine,
    tissue,
)

__all__ = [
    "PZ",
    "RANGE",
    "TZ",
    "label_volume",
    "labels",
    "phantom",
    "phantom_affine",
    "tissue",
]
