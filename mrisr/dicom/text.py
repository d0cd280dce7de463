"""Numbers and times in the spelling of DICOM."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pydicom.valuerep import format_number_as_ds


def decimal(value: float) -> str:
    """A number as a Decimal String: at most 16 characters, 12 significant digits where they fit.

    >>> decimal(0.1 + 0.2), decimal(-1e-17), decimal(-123.4567890123456)
    ('0.3', '0', '-123.456789012')
    """
    value = round(value, 10) + 0.0 if abs(value) >= 1e-6 or abs(value) < 1e-10 else value
    text = f"{value:.12g}"
    return text if len(text) <= 16 else format_number_as_ds(value)


def local_time(when: datetime, offset: str) -> datetime:
    """A time in the zone that TimezoneOffsetFromUTC names (``"+0100"``), else in this machine's."""
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        return when.astimezone(
            timezone(timedelta(minutes=minutes if offset[0] == "+" else -minutes))
        )
    return when.astimezone()
