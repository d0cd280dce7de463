"""Numbers and times in the spelling of DICOM."""

from __future__ import annotations

from datetime import datetime

from pydicom.valuerep import format_number_as_ds


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
    return decimal(round(value, 10) + 0.0)


def local_time(when: datetime, offset: str) -> datetime:
    """A time in the zone that TimezoneOffsetFromUTC names (``"+0100"``), else in this machine's."""
    try:
        zone = datetime.strptime(offset, "%z").tzinfo
    except ValueError:
        zone = None
    return when.astimezone(zone)
