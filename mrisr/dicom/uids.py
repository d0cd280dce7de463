"""Unique identifiers that follow from what they identify: a rerun gives the same ones."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("5f6ac5a0-9a0a-5a0b-8f59-7d1c3f3f2b6e")

#: ImplementationClassUID of files that mrisr writes.
IMPLEMENTATION = f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}"


def derived_uid(*parts: object) -> str:
    """A UID below 2.25 (PS3.5 B.2) from the SHA-1 of ``parts`` (RFC 9562, version 5).

    >>> derived_uid("a", 1) == derived_uid("a", 1) != derived_uid("a", 2)
    True
    """
    name = "\0".join(str(part) for part in parts)
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"
