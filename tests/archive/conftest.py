"""A small series, an archive that holds it, and no waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from mrisr.archive import client, transfer
from tests.archive.archive_server import FakeArchive, serving
from tests.dicom.conftest import run
from tests.dicom.synthetic import hospital_series

__all__ = ["run"]

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
