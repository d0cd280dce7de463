"""A DICOMweb archive in this process that can be told to misbehave, a small series in it, and no waiting."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest

from mrisr.archive import client, transfer
from mrisr.core.errors import MrisrError
from tests.dicom.synthetic import SECRETS, hospital_series

USER, PASSWORD = "SECRET-user", "SECRET-p\xe4ss:word"

BOUNDARY = "b0undary"
MULTIPART = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
JSON = "application/dicom+json"


@dataclass
class Answer:
    """What the archive sends. ``length`` False leaves Content-Length out and closes the connection, a
    number lies about it; ``status`` 0 hangs up without a word."""

    status: int = 200
    body: bytes = b"[]"
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    length: bool | int = True
    wait: float = 0.0


@dataclass
class FakeArchive:
    """Instances by SOPInstanceUID, in the order of their arrival.

    Attributes:
        url: root of the service.
        requests: headers of all requests that came.
        scripted: pairs of a pattern for ``"GET /path"`` and an answer. The first that matches is sent
            instead of the right one and taken off the list.
        retrieved: changes the bytes of an instance on its way out.
        forgets: SOPInstanceUIDs that are accepted and not kept.
        page: instances in one page of a listing.
        counts: whether the listing of series counts their instances.
    """

    url: str
    requests: list[Message] = field(default_factory=list)
    scripted: list[tuple[str, Answer]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    retrieved: Callable[[str, bytes], bytes] = lambda uid, data: data
    forgets: set[str] = field(default_factory=set)
    page: int | None = None
    counts: bool = True

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def add(self, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            self.keep(path.read_bytes())

    def keep(self, data: bytes) -> str:
        uid = str(_header(data).SOPInstanceUID)
        if uid not in self.forgets:
            self.stored[uid] = data
        return uid

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        for entry in self.scripted:
            if re.search(entry[0], f"{method} {path}"):
                self.scripted.remove(entry)
                return entry[1]
        if method == "POST":
            return self._store(body)
        found = re.fullmatch(r"/dicom-web/studies/([^/]+)/series(?:/([^/]+)/instances)?", path)
        if found:
            return self._listing(found[1], found[2], int(query.get("offset", ["0"])[0]))
        uid = path.rpartition("/")[2]
        if uid not in self.stored:
            return Answer(404, b"")
        return Answer(body=multipart(self.retrieved(uid, self.stored[uid])), kind=MULTIPART)

    def _store(self, body: bytes) -> Answer:
        boundary = body[: body.index(b"\r\n", 2)].strip()
        parts = body.split(boundary)[1:-1]
        uids = [self.keep(p.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")) for p in parts]
        items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
        return Answer(body=json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode())

    def _listing(self, study: str, series: str | None, offset: int) -> Answer:
        headers = [h for h in map(_header, self.stored.values()) if h.StudyInstanceUID == study]
        if series is None:
            counts = Counter(h.SeriesInstanceUID for h in headers)
            items = []
            for header in {h.SeriesInstanceUID: h for h in headers}.values():
                names = ["SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"]
                count = [counts[header.SeriesInstanceUID]] if self.counts else []
                items.append(_json(header, names) | {"00201209": {"vr": "IS", "Value": count}})
        else:
            chosen = [h for h in headers if h.SeriesInstanceUID == series]
            items = [_json(h, ["SOPInstanceUID", "InstanceNumber"]) for h in chosen]
        if self.page is not None:
            items = items[offset : offset + self.page]
        return Answer(body=json.dumps(items).encode())


def multipart(*parts: bytes) -> bytes:
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part for part in parts) + f"\r\n--{BOUNDARY}--\r\n".encode()


def failure(uid: str, reason: int) -> bytes:
    """DICOM JSON that tells why an instance was not stored."""
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@contextmanager
def serving(
    wrap: Callable[[ThreadingHTTPServer], None] | None = None, scheme: str = "http"
) -> Iterator[FakeArchive]:
    """A running archive on loopback. ``wrap`` may put TLS around its socket."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    archive = FakeArchive(f"{scheme}://127.0.0.1:{server.server_port}/dicom-web")
    server.RequestHandlerClass = _handler(archive)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that hung up
    if wrap is not None:
        wrap(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(archive: FakeArchive) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            archive.requests.append(self.headers)
            self._send(archive.answer(self.command, self.path, body))

        do_POST = do_GET

        def _send(self, answer: Answer) -> None:
            time.sleep(answer.wait)
            self.close_connection = answer.length is not True or not answer.status
            if not answer.status:
                return
            self.send_response(answer.status)
            for name, value in {"Content-Type": answer.kind, **answer.headers}.items():
                self.send_header(name, value)
            if answer.length is not False:
                length = len(answer.body) if answer.length is True else answer.length
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _json(header: pydicom.Dataset, names: list[str]) -> dict[str, object]:
    whole = header.to_json_dict()
    return {f"{header[name].tag:08X}": whole[f"{header[name].tag:08X}"] for name in names}


def _header(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(data), stop_before_pixels=True)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> None:
    monkeypatch.setattr(client, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(transfer, "LISTING_WAITS", (0.0, 0.0))
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MRISR_DICOMWEB_{name}", raising=False)


@pytest.fixture
def source(tmp_path) -> Path:
    return hospital_series(tmp_path / "source", size=16, slices=3)


@pytest.fixture
def study(source) -> str:
    return str(pydicom.dcmread(source / "IM0001").StudyInstanceUID)


@pytest.fixture
def empty_archive(monkeypatch) -> Iterator[FakeArchive]:
    monkeypatch.setenv("MRISR_DICOMWEB_USER", USER)
    monkeypatch.setenv("MRISR_DICOMWEB_PASSWORD", PASSWORD)
    with serving() as archive:
        yield archive


@pytest.fixture
def archive(empty_archive, source) -> FakeArchive:
    empty_archive.add(source)
    return empty_archive


@pytest.fixture
def told(empty_archive, tmp_path):
    """Expect an error of one line that names the host and tells no secret; nothing is written."""

    @contextmanager
    def check(kind: type[MrisrError], *words: str) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        message = str(caught.value)
        assert message.startswith(empty_archive.host)
        assert "\n" not in message
        assert len(message) < 400
        assert not any(secret.lower() in message.lower() for secret in SECRETS), message
        for word in words:
            assert word in message
        assert [p.name for p in tmp_path.iterdir()] == ["source"]

    return check
