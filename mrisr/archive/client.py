"""One DICOMweb archive: address, credentials, retries, and what goes wrong on the way in one line.

Guards against what was found in dicomweb-client 0.61: it retries a chunked upload with a body that
is used up already, takes a multipart answer without its closing delimiter for whole, overlooks
failures reported as ``application/dicom+json; charset=utf-8``, and sends a Host without its port.
"""

from __future__ import annotations

import base64
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, final
from urllib.parse import urlsplit

from mrisr.archive.answers import BadAnswer, check_answer, refusal, refusal_in, store_warnings
from mrisr.core.errors import MrisrError, UsageError
from mrisr.io.dicom_scan import printable, quiet

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom import Dataset

T = TypeVar("T")

#: Seconds until a connection stands, and until the next byte arrives.
TIMEOUT = (10.0, 60.0)
#: Seconds to wait before each new attempt. Only what a busy or restarting server says is tried again.
WAITS = (0.5, 2.0)
_PASSING = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)

_USER, _PASSWORD, _TOKEN = (f"MRISR_DICOMWEB_{name}" for name in ("USER", "PASSWORD", "TOKEN"))
_VARIABLES = f"{_USER} and {_PASSWORD}, or {_TOKEN}"
_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: f"credentials are taken from {_VARIABLES}",
    HTTPStatus.FORBIDDEN: f"these credentials may not; they are taken from {_VARIABLES}",
    HTTPStatus.NOT_FOUND: "not there, or not the address of the DICOMweb service",
}


@final
@dataclass(frozen=True, eq=False)
class Archive:
    """A DICOMweb service.

    Attributes:
        where: host and port, to be named in messages; the rest of the address is not.
        client: of dicomweb-client, its own retries switched off.
        fail: makes the error of a reason: an InputError for who reads, an OutputError for who writes.
    """

    where: str
    client: DICOMwebClient
    fail: Callable[[str], MrisrError]

    def series(self, study: str) -> list[dict[str, Any]]:
        """DICOM JSON of each series of a study, by QIDO-RS."""
        fields = ("SeriesDescription", "NumberOfSeriesRelatedInstances")
        return self._listing(
            "0020000E",
            lambda offset: self.client.search_for_series(study, fields=fields, offset=offset),
        )

    def instances(self, study: str, series: str) -> list[dict[str, Any]]:
        """DICOM JSON of each instance of a series, by QIDO-RS."""
        return self._listing(
            "00080018",
            lambda offset: self.client.search_for_instances(study, series, offset=offset),
        )

    def retrieve(self, study: str, series: str, instance: str) -> Dataset:
        """One instance in the transfer syntax in which it is stored, by WADO-RS."""
        with quiet():  # what is odd but readable in a file is judged by who uses it
            return self._call(lambda: self.client.retrieve_instance(study, series, instance))

    def store(self, dataset: Dataset) -> list[str]:
        """Store one instance by STOW-RS; returns the archive's warnings."""

        def request() -> tuple[str | None, list[str]]:
            answer = self.client.store_instances([dataset])
            return refusal(answer), store_warnings(answer)

        reason, warnings = self._call(request, refusal_in)
        if reason is not None:
            raise self.fail(reason)
        return warnings

    def _listing(
        self, key: str, search: Callable[[int | None], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """All pages of a search. An archive that does not page answers each time with everything."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            page = self._call(partial(search, len(found) or None))
            if not isinstance(page, list) or not all(text(item, key) for item in page):
                raise self.fail("a listing without UIDs")
            new = {text(item, key): item for item in page if text(item, key) not in found}
            if not new:
                return list(found.values())
            found.update(new)

    def _call(
        self, request: Callable[[], T], explain: Callable[[Any], str | None] | None = None
    ) -> T:
        """The answer to a request. ``explain`` finds the reason in the body of a refusal."""
        waits = iter(WAITS)
        while True:
            try:
                return request()
            except MrisrError:
                raise
            except Exception as error:  # pydicom raises almost anything on damaged data
                reason, passing = _reason(error, explain)
            # Outside the except block: the chained errors would show the request, headers and all.
            wait = next(waits, None)
            if wait is None or not passing:
                raise self.fail(reason)
            time.sleep(wait)


@contextmanager
def connect(url: str, fail: Callable[[str, str], MrisrError]) -> Iterator[Archive]:
    """An archive to talk to, with credentials from the environment; nothing is sent yet.

    Args:
        url: root of the DICOMweb service, ``https://host/dicom-web``.
        fail: makes an error of host and reason.

    Raises:
        UsageError: the URL is none, or holds credentials; or the environment holds half of them.
        ModuleNotFoundError: dicomweb-client is not installed.
    """
    import requests
    from dicomweb_client import DICOMwebClient

    where = _host(url)
    _authorization()
    with requests.Session() as session:
        session.auth = _authorize
        session.max_redirects = 0  # neither credentials nor patients follow a redirect
        session.headers["Accept"] = "application/dicom+json"
        session.hooks["response"] = [check_answer]
        client = DICOMwebClient(
            url.rstrip("/"),
            session=session,
            timeout=TIMEOUT,
            permissive_uid=True,
            chunk_size=2**40,  # never chunked: many archives want a Content-Length
        )
        client.set_http_retry_params(retry=False)
        yield Archive(where, client, lambda reason: fail(where, reason))


def text(item: object, tag: str) -> str:
    """First value of an attribute in DICOM JSON, empty where there is none."""
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    value = values[0] if isinstance(values, list) and values else None
    return str(int(value)) if isinstance(value, float) else str(value if value is not None else "")


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


def _authorize(request: Any) -> Any:
    """Put credentials into a request. As ``auth`` of a session it keeps .netrc from being used."""
    request.headers.pop("Host", None)  # dicomweb-client's, which lacks the port
    header = _authorization()
    if header is not None:
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
    if user:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return None


def _reason(error: Exception, explain: Callable[[Any], str | None] | None) -> tuple[str, bool]:
    """Why a request failed, in words that hold nothing of it, and whether to try it again."""
    import requests

    if isinstance(error, BadAnswer):
        return str(error), False
    if isinstance(error, requests.TooManyRedirects) and error.response is not None:
        target = error.response.headers.get("Location", "").partition("://")
        host = target[2].partition("/")[0].rpartition("@")[2]
        whither = printable(f"{target[0]}://{host}") if host else "another address"
        return f"a redirect to {whither}, which is not followed; give that address", False
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        detail = (explain(error.response) if explain else None) or _HINTS.get(status)
        return _status(status) + (f" ({detail})" if detail else ""), status in _PASSING
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "an answer that is not DICOM JSON", False
    if isinstance(error, OSError):
        return _no_answer(error)
    return f"an answer that is not one whole DICOM object ({type(error).__name__})", False


def _no_answer(error: OSError) -> tuple[str, bool]:
    """As ``_reason``, for what happens below HTTP."""
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


def _status(code: int) -> str:
    """A status in the standard's words: the server's own could hold anything."""
    known = code in HTTPStatus._value2member_map_
    return f"HTTP {code} {HTTPStatus(code).phrase}" if known else f"HTTP {code}"


def _root(error: BaseException) -> BaseException:
    """The error at the bottom, below requests' and urllib3's."""
    while True:
        inner = getattr(error, "reason", None)
        inner = inner if isinstance(inner, BaseException) else (*error.args, None)[0]
        inner = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
        if inner is None or inner is error:
            return error
        error = inner
