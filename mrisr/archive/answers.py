"""Answers of a DICOMweb archive: whether they are whole, and what they say of stored instances."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pydicom import Dataset

from mrisr.io.dicom_scan import printable, quiet

if TYPE_CHECKING:
    import requests

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
#: Sequences in an answer to STOW-RS that tell of instances that were not stored.
_FAILED = ("FailedSOPSequence", "OtherFailuresSequence")


class BadAnswer(Exception):
    """An answer that cannot be what was asked for; the message tells no more than what it is."""


def check_status(response: requests.Response, hints: dict[int, str]) -> None:
    """Refuse every status but success, redirects too, and a page for people.

    Statuses are told in the standard's words: the server's own could hold anything.

    Raises:
        BadAnswer: with the reasons in the body, if it holds any, or the hint of the status.
    """
    status = response.status_code
    if response.is_redirect:
        scheme, _, rest = response.headers["Location"].partition("://")
        host = rest.partition("/")[0].rpartition("@")[2]
        whither = printable(f"{scheme}://{host}") if host else "another address"
        raise BadAnswer(f"a redirect to {whither}, which is not followed; give that address")
    if not response.ok:
        known = status in HTTPStatus._value2member_map_
        text = f"HTTP {status} {HTTPStatus(status).phrase}" if known else f"HTTP {status}"
        detail = _refusal_in(response) or hints.get(status)
        raise BadAnswer(f"{text} ({detail})" if detail else text)
    if _kind(response) in ("text/html", "application/xhtml+xml"):
        raise BadAnswer("an HTML page (a login page, or not the address of the DICOMweb service)")


@quiet()
def listing(response: requests.Response) -> list[Dataset]:
    """Attributes of what a search found. Raises BadAnswer."""
    try:
        return [Dataset.from_json(item) for item in json.loads(response.content or b"[]")]
    except Exception:  # pydicom raises almost anything on what is no DICOM JSON
        raise BadAnswer("an answer that is not DICOM JSON") from None


def one_part(response: requests.Response) -> bytes:
    """The bytes of the one DICOM object in a multipart answer (RFC 2046). Raises BadAnswer."""
    parameters = response.headers.get("Content-Type", "").split(";")[1:]
    named = {n.strip().lower(): v.strip(' "') for n, _, v in (p.partition("=") for p in parameters)}
    delimiter = b"\r\n--" + named.get("boundary", "").encode()
    content = b"\r\n" + response.content.rstrip(b"\r\n")
    multipart = _kind(response) == "multipart/related"
    if multipart and not content.endswith(delimiter + b"--"):
        raise BadAnswer("a truncated answer (its closing delimiter is missing)")
    parts = content.split(delimiter)[1:-1]
    if not multipart or len(parts) != 1:
        raise BadAnswer("an answer that is not one whole DICOM object")
    return parts[0].partition(b"\r\n\r\n")[2]


def check_stored(response: requests.Response) -> list[str]:
    """Changes that an archive made to the instance it stored (PS3.18, 10.5.3).

    Raises:
        BadAnswer: it did not store the instance, or does not say.
    """
    try:
        failures = _reasons(response, _FAILED, "FailureReason")
        warnings = _reasons(response, ("ReferencedSOPSequence",), "WarningReason")
    except Exception:  # whatever is no DICOM JSON, nor XML
        raise BadAnswer("an answer that is not DICOM JSON") from None
    if failures:
        raise BadAnswer(f"refused: {', '.join(failures)}")
    return warnings


def no_answer(error: OSError) -> tuple[str, bool]:
    """Why no answer came, in words that hold nothing of the request, and whether to try again."""
    import requests

    cause = _root(error)
    if isinstance(cause, ssl.SSLError):
        verdict = getattr(cause, "verify_message", None) or cause.reason or "no TLS"
        return f"TLS failed: {verdict}", False
    if isinstance(error, requests.Timeout) or "timed out" in str(cause):
        return "no answer in time", False
    broken = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
    if isinstance(error, broken):
        return f"no answer: {getattr(cause, 'strerror', None) or 'the connection broke'}", True
    if isinstance(error, requests.RequestException):
        return f"no answer ({type(error).__name__})", False
    return f"nothing sent: {error}", False


def _kind(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _refusal_in(response: requests.Response) -> str:
    """The reasons in the body of an error status; empty where there are none."""
    try:
        reasons = _reasons(response, _FAILED, "FailureReason")
    except Exception:  # not DICOM: the status has to do
        return ""
    return f"refused: {', '.join(reasons)}" if reasons else ""


@quiet()
def _reasons(response: requests.Response, sequences: Sequence[str], keyword: str) -> list[str]:
    """Codes in the items of sequences, in words, from DICOM JSON or XML (PS3.18 F, PS3.19 A)."""
    codes: list[int] = []
    if _kind(response).endswith("xml"):
        tree = ElementTree.fromstring(response.content)
        attribute = "{*}DicomAttribute[@keyword='%s']"
        for name in sequences:
            path = f"{attribute % name}/{{*}}Item/{attribute % keyword}/{{*}}Value"
            codes += [int(value.text or 0) for value in tree.iterfind(path)]
    else:
        answer = Dataset.from_json(response.json())
        items = [item for name in sequences for item in answer.get(name) or []]
        if keyword == "WarningReason":
            items = [item for item in items if keyword in item]
        codes += [int(item.get(keyword) or 0) for item in items]
    return [_words(code) for code in codes]


def _words(code: int) -> str:
    words = _REASONS.get(code) or _FAMILIES.get(code >> 8)
    if words is None:
        words = "cannot understand" if code >> 12 == 0xC else "no known reason"
    return f"{words} ({code:04X})"


def _root(error: BaseException) -> BaseException:
    """The error at the bottom, below requests' and urllib3's."""
    while True:
        inner = getattr(error, "reason", None)
        inner = inner if isinstance(inner, BaseException) else (*error.args, None)[0]
        inner = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
        if inner is None or inner is error:
            return error
        error = inner
