"""One DICOMweb archive: address, credentials, retries, and what goes wrong on the way in one line."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, final
from urllib.parse import urlsplit

from mrisr.archive.answers import (
    BadAnswer,
    check_status,
    check_stored,
    listing,
    no_answer,
    one_part,
)
from mrisr.core.errors import MrisrError, UsageError

if TYPE_CHECKING:
    import requests
    from pydicom import Dataset

T = TypeVar("T")

#: Seconds until a connection stands, and until the next byte arrives.
TIMEOUT = (10.0, 60.0)
#: Seconds to wait before each new attempt. Only what a busy or restarting server says is tried again.
WAITS = (0.5, 2.0)
_PASSING = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
_JSON = "application/dicom+json"
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


@final
@dataclass(frozen=True, eq=False)
class Archive:
    """A DICOMweb service.

    Attributes:
        where: host and port, to be named in messages; the rest of the address is not.
        url: root of the service.
        session: with the credentials of the environment.
        fail: makes the error of a reason: an InputError for who reads, an OutputError for who writes.
    """

    where: str
    url: str
    session: requests.Session
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
        return self._request(one_part, "GET", path, headers={"Accept": _ANY_SYNTAX})

    def store(self, file: bytes) -> list[str]:
        """Store the file of one instance by STOW-RS; returns the archive's warnings."""
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + file + f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": _STORED}
        return self._request(check_stored, "POST", "studies", data=body, headers=headers)

    def _listing(self, path: str, key: str, **query: Any) -> list[Dataset]:
        """All pages of a search. An archive that does not page answers each time with everything."""
        found: dict[str, Dataset] = {}
        while True:
            query["offset"] = len(found) or None
            page = {
                str(i.get(key, "")): i for i in self._request(listing, "GET", path, params=query)
            }
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
                check_status(response, _HINTS)
                return read(response)
            except BadAnswer as error:
                reason = str(error)
            except OSError as error:  # all of requests' errors are
                reason, passing = no_answer(error)
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
        ModuleNotFoundError: requests is not installed.
    """
    import requests

    where = _host(url)
    _authorization()
    with requests.Session() as session:
        session.auth = _authorize
        session.headers["Accept"] = _JSON
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
