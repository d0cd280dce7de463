"""What a DICOMweb archive answers: whether it is whole, and what it says of stored instances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset

#: PS3.18, table I.2-2, and the status codes of C-STORE (PS3.4, table B.2-1) by their first digits.
_REASONS = {
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
    0xC122: "transfer syntax not supported",
    0xB000: "attributes were coerced",
    0xB006: "elements were discarded",
    0xB007: "does not match its SOP class",
}
_FAMILIES = {0xA7: "out of resources", 0xA9: "does not match its SOP class"}


class BadAnswer(Exception):
    """An answer that cannot be what was asked for; the message tells no more than what it is."""


def check_answer(response: Any, *args: object, **kwargs: object) -> Any:
    """Hook of a requests session: refuse an answer that dicomweb-client would take, or misread.

    Raises:
        BadAnswer: an HTML page, or a multipart answer without its end.
    """
    kind, _, rest = response.headers.get("Content-Type", "").partition(";")
    kind = kind.strip().lower()
    response.headers.pop("Warning", None)  # the server's words, which dicomweb-client would log
    if not response.ok or response.is_redirect:
        return response
    if kind in ("text/html", "application/xhtml+xml"):
        response.close()
        raise BadAnswer("an HTML page (a login page, or not the address of the DICOMweb service)")
    if kind == "multipart/related":
        parameters = (p.strip().partition("=") for p in rest.split(";"))
        boundary = next((v.strip('"') for n, _, v in parameters if n.lower() == "boundary"), "")
        if not response.content.rstrip(b"\r\n").endswith(f"--{boundary}--".encode()):
            raise BadAnswer("a truncated answer (its closing delimiter is missing)")
    elif kind.endswith(("json", "xml")):
        response.headers["Content-Type"] = kind  # without parameters, as dicomweb-client wants it
    return response


def refusal(answer: Dataset) -> str | None:
    """Why an archive did not store an instance, by its answer (PS3.18, 10.5.3); None if it did."""
    reasons = [
        *_codes(answer, "FailedSOPSequence", "FailureReason"),
        *_codes(answer, "OtherFailuresSequence", "FailureReason"),
    ]
    return f"refused: {', '.join(reasons)}" if reasons else None


def refusal_in(response: Any) -> str | None:
    """The reason in the body of an error status, where there is one."""
    try:
        return refusal(Dataset.from_json(response.json()))
    except Exception:  # not DICOM JSON: the status has to do
        return None


def store_warnings(answer: Dataset) -> list[str]:
    """What an archive changed in the instance it stored."""
    return list(_codes(answer, "ReferencedSOPSequence", "WarningReason"))


def _codes(answer: Dataset, sequence: str, keyword: str) -> Iterator[str]:
    for item in answer.get(sequence) or []:
        code = item.get(keyword)
        if code is None and keyword == "WarningReason":
            continue
        number = int(code or 0)
        words = _REASONS.get(number) or _FAMILIES.get(number >> 8)
        if words is None:
            words = "cannot understand" if number >> 12 == 0xC else "no known reason"
        yield f"{words} ({number:04X})"
