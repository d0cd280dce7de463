"""One DICOMweb archive: address, credentials, retries, and what goes wrong on the way in one line.

Sources: DICOM PS3.18 (QIDO-RS, WADO-RS, STOW-RS), PS3.19 A (XML), RFC 2046 (multipart).
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, final
from urllib.parse import urlsplit
from xml.etree import ElementTree

from pydicom import Dataset

from mrisr.core.errors import MrisrError, UsageError
from mrisr.io.dicom_scan import printable, quiet

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

#: Seconds until a connection stands, and until the next byte arrives.
TIMEOUT = (10.0, 60.0)
#: Seconds to wait before each new attempt. Only what a busy or restarting server says is tried again.
WAITS = (0.5, 2.0)
_PASSING = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
_ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_BOUNDARY = "mrisr-0f1d3c5e7a9b"
_STORED = f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'

_USER, _PASSWORD, _TOKEN = (f"MRISR_DICOMWEB_{name}" for name in ("USER", "PASSWORD", "TOKEN"))
_VARIABLES = f"{_USER} and {_PASSWORD}, or {_TOKEN}"
_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: f"credentials are taken from {_VARIABLES}",
    HTTPStatus.FORBIDDEN: f"these credentials may not; they are taken from {_VARIABLES}",
    HTTPStatus.NOT_FOUND: "not there, or not the address of the DICOMweb service",
}
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


@final
@dataclass(frozen=True, eq=False)
class Archive:
    """A DICOMweb service."""

    where: str  #: host and port, to be named in messages; the rest of the address is not
    url: str  #: root of the service
    session: requests.Session  #: with the credentials of the environment
    #: Makes the error of a reason: an InputError for who reads, an OutputError for who writes.
    fail: Callable[[str], MrisrError]

    def series(self, study: str) -> list[Dataset]:
        """Attributes of each series of a study, by QIDO-RS."""
        fields = ["SeriesDescription", "NumberOfSeriesRelatedInstances"]
        return self._listing(f"studies/{study}/series", "SeriesInstanceUID", includefield=fields)

    def instances(self, study: str, series: str) -> list[Dataset]:
        """Attributes of each instance of a series, by QIDO-RS."""
        return self._listing(f"studies/{study}/series/{series}/instances", "SOPInstanceUID")

    def retrieve(self, study: str, series: str, instance: str) -> bytes:
        """The file of one instance, in the transfer syntax in which it is stored, by WADO-RS."""
        path = f"studies/{study}/series/{series}/instances/{instance}"
        return self._request(_one_part, "GET", path, headers={"Accept": _ANY_SYNTAX})

    def store(self, file: bytes) -> list[str]:
        """Store the file of one instance by STOW-RS; returns the archive's warnings."""
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + file + f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": _STORED}
        return self._request(_check_stored, "POST", "studies", data=body, headers=headers)

    def _listing(self, path: str, key: str, **query: Any) -> list[Dataset]:
        """All pages of a search. An archive that does not page answers each time with everything."""
        found: dict[str, Dataset] = {}
        while True:
            query["offset"] = len(found) or None
            items = self._request(_items, "GET", path, params=query)
            page = {str(item.get(key, "")): item for item in items}
            if "" in page:
                raise self.fail("a listing without UIDs")
            if page.keys() <= found.keys():
                return list(found.values())
            found |= page

    def _request(
        self, read: Callable[[requests.Response], T], method: str, path: str, **more: Any
    ) -> T:
        """Send a request and return what ``read`` makes of the answer. Redirects are not followed."""
        waits = iter(WAITS)
        more |= {"timeout": TIMEOUT, "allow_redirects": False}
        while True:
            try:
                response = self.session.request(method, f"{self.url}/{path}", **more)
                passing = response.status_code in _PASSING
                _check_status(response)
                return read(response)
            except BadAnswer as error:
                reason = str(error)
            except OSError as error:  # all of requests' errors are
                reason, passing = _no_answer(error)
            # Outside the except block: the chained errors would show the request, headers and all.
            wait = next(waits, None)
            if wait is None or not passing:
                raise self.fail(reason)
            time.sleep(wait)


@contextmanager
def connect(url: str, fail: Callable[[str, str], MrisrError]) -> Iterator[Archive]:
    """An archive to talk to, with credentials from the environment; nothing is sent yet.

    ``url`` is the root of the service, ``https://host/dicom-web``; ``fail`` makes an error of host and
    reason.

    Raises:
        UsageError: the URL is none, or holds credentials; or the environment holds half of them.
        ModuleNotFoundError: requests is not installed.
    """
    import requests

    where = _host(url)
    _authorization()
    with requests.Session() as session:
        session.auth = _authorize
        session.headers["Accept"] = "application/dicom+json"
        yield Archive(where, url.rstrip("/"), session, lambda reason: fail(where, reason))


def _host(url: str) -> str:
    """Host and port of a URL that is fit for use. Its text is never repeated: it may hold secrets."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        usable = False
    if usable and "@" in parts.netloc:
        raise UsageError(f"the URL holds credentials; they are taken from {_VARIABLES}")
    plain = url.isprintable() and not set(url) & set(" ?#\\")
    if not usable or not plain or parts.scheme not in ("http", "https"):
        raise UsageError("the URL: expected https://HOST[:PORT]/PATH of a DICOMweb service")
    return parts.netloc


def _authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Put credentials into a request. As ``auth`` of a session it keeps .netrc from being used."""
    if header := _authorization():
        request.headers["Authorization"] = header
    return request


def _authorization() -> str | None:
    """The header's value, from the environment each time, so that nothing keeps it."""
    user, password, token = (os.environ.get(name, "") for name in (_USER, _PASSWORD, _TOKEN))
    if (token and (user or password)) or bool(user) != bool(password):
        raise UsageError(f"credentials: expected {_VARIABLES}; found half of the first, or both")
    if token:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise UsageError(f"{_TOKEN}: expected printable ASCII characters without spaces")
        return f"Bearer {token}"
    if ":" in user:
        raise UsageError(f"{_USER}: expected a name without a colon")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return f"Basic {basic}" if user else None


class BadAnswer(Exception):
    """An answer that cannot be what was asked for; the message tells no more than what it is."""


def _check_status(response: requests.Response) -> None:
    """Refuse every status but success, redirects too, and a page for people, in the standard's words."""
    status = response.status_code
    if response.is_redirect:
        scheme, _, rest = response.headers["Location"].partition("://")
        host = rest.partition("/")[0].rpartition("@")[2]
        whither = printable(f"{scheme}://{host}") if host else "another address"
        raise BadAnswer(f"a redirect to {whither}, which is not followed; give that address")
    if not response.ok:
        detail = _HINTS.get(status)
        with suppress(Exception):  # not DICOM: the status has to do
            detail = _refusal(response) or detail
        known = status in HTTPStatus._value2member_map_
        text = f"HTTP {status} {HTTPStatus(status).phrase}" if known else f"HTTP {status}"
        raise BadAnswer(f"{text} ({detail})" if detail else text)
    if _kind(response) in ("text/html", "application/xhtml+xml"):
        raise BadAnswer("an HTML page (a login page, or not the address of the DICOMweb service)")


@quiet()
def _items(response: requests.Response) -> list[Dataset]:
    """Attributes of what a search found."""
    try:
        return [Dataset.from_json(item) for item in json.loads(response.content or b"[]")]
    except Exception:  # pydicom raises almost anything on what is no DICOM JSON
        raise BadAnswer("an answer that is not DICOM JSON") from None


def _one_part(response: requests.Response) -> bytes:
    """The bytes of the one DICOM object in a multipart answer."""
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


def _check_stored(response: requests.Response) -> list[str]:
    """Changes that an archive made to the instance it stored; refuses one that it did not store."""
    try:
        refusal = _refusal(response)
        warnings = _reasons(response, ["ReferencedSOPSequence"], "WarningReason")
    except Exception:  # whatever is no DICOM JSON, nor XML
        raise BadAnswer("an answer that is not DICOM JSON") from None
    if refusal:
        raise BadAnswer(refusal)
    return warnings


def _refusal(response: requests.Response) -> str:
    """Reasons why instances were not stored (PS3.18, 10.5.3); empty where all were."""
    sequences = ["FailedSOPSequence", "OtherFailuresSequence"]
    failures = _reasons(response, sequences, "FailureReason")
    return f"refused: {', '.join(failures)}" if failures else ""


@quiet()
def _reasons(response: requests.Response, sequences: Sequence[str], keyword: str) -> list[str]:
    """Codes in the items of sequences, in words, from DICOM JSON or XML."""
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
        codes = [
            int(i.get(keyword) or 0) for i in items if keyword != "WarningReason" or keyword in i
        ]
    return [_words(code) for code in codes]


def _words(code: int) -> str:
    words = _REASONS.get(code) or _FAMILIES.get(code >> 8)
    if words is None:
        words = "cannot understand" if code >> 12 == 0xC else "no known reason"
    return f"{words} ({code:04X})"


def _kind(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _no_answer(error: OSError) -> tuple[str, bool]:
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


def _root(error: BaseException) -> BaseException:
    """The error at the bottom, below requests' and urllib3's."""
    while True:
        inner = getattr(error, "reason", None)
        inner = inner if isinstance(inner, BaseException) else (*error.args, None)[0]
        inner = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
        if inner is None or inner is error:
            return error
        error = inner
