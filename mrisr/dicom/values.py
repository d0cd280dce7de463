"""Numbers and unique identifiers in the spelling of DICOM."""

from __future__ import annotations

import uuid

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

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
