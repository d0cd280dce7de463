"""A real archive on loopback: Debian's Orthanc with its DICOMweb plugin."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

USER, PASSWORD = "reader-7", "w\xf6rd:with/colon"
_PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc/plugins"))


@dataclass(frozen=True)
class Orthanc:
    """A running archive: its REST interface, DICOMweb root, and port for classic DICOM."""

    rest: str
    dicom_port: int

    @property
    def web(self) -> str:
        return f"{self.rest}/dicom-web"

    def _request(self, method: str, path: str, data: object = None) -> requests.Response:
        auth = (USER.encode(), PASSWORD.encode())
        return requests.request(method, self.rest + path, auth=auth, data=data, timeout=20)

    def get(self, path: str) -> Any:
        answer = self._request("GET", path)
        answer.raise_for_status()
        kind = answer.headers["Content-Type"].partition(";")[0]
        return answer.json() if kind.endswith("json") else answer.content

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Expanded resources of a level (Patient, Study, Series, Instance) that match."""
        request = {"Level": level, "Query": query, "Expand": True}
        answer = self._request("POST", "/tools/find", json.dumps(request))
        answer.raise_for_status()
        return answer.json()

    def upload(self, path: Path) -> str:
        """Store a file by the plain REST interface; returns ``Success`` or ``AlreadyStored``."""
        answer = self._request("POST", "/instances", path.read_bytes())
        answer.raise_for_status()
        return answer.json()["Status"]

    def clear(self) -> None:
        for patient in self.get("/patients"):
            self._request("DELETE", f"/patients/{patient}").raise_for_status()


@pytest.fixture(scope="session")
def running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    plugin = next((p for f in _PLUGINS for p in sorted(f.glob("libOrthancDicomWeb*.so"))), None)
    if program is None or plugin is None:
        pytest.skip("needs Orthanc with DICOMweb (Debian: orthanc orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("orthanc")
    archive = Orthanc(f"http://127.0.0.1:{_free_port()}", _free_port())
    (folder / "orthanc.json").write_text(json.dumps(_configuration(archive, plugin, folder)))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        _wait_until_it_answers(archive, process, folder / "log")
        yield archive
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def orthanc(running_orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """An empty archive, its credentials in the environment."""
    running_orthanc.clear()
    monkeypatch.setenv("MRISR_DICOMWEB_USER", USER)
    monkeypatch.setenv("MRISR_DICOMWEB_PASSWORD", PASSWORD)
    return running_orthanc


def _configuration(archive: Orthanc, plugin: Path, folder: Path) -> dict[str, Any]:
    return {
        "Name": "mrisr tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": int(archive.rest.rpartition(":")[2]),
        "DicomPort": archive.dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "OverwriteInstances": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_it_answers(archive: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(150):
        if process.poll() is not None:
            break
        try:
            archive.get("/system")
            return
        except requests.ConnectionError:
            time.sleep(0.2)
    pytest.fail(f"Orthanc does not answer: {log.read_text()[-2000:]}")
