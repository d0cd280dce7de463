"""A small series, an archive that holds it, and no waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from mrisr.archive import client, transfer
from mrisr.core.errors import MrisrError
from tests.archive.archive_server import FakeArchive, serving
from tests.dicom.synthetic import SECRETS, hospital_series

USER, PASSWORD = "SECRET-user", "SECRET-p\xe4ss:word"


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
