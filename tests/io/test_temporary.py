"""Temporary files of other processes: of living ones they stay, of others they are removed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from mrisr.io import atomic_path, temporary, write_bytes


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "v.nii.gz"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def _write_for_ever(path: str) -> None:
    with atomic_path(Path(path)) as made:
        made.write_text("half")
        time.sleep(60)


def test_a_running_process_keeps_its_file(target):
    child = multiprocessing.get_context("spawn").Process(
        target=_write_for_ever, args=(str(target),)
    )
    child.start()
    deadline = time.monotonic() + 30
    while not names(target.parent) and time.monotonic() < deadline:
        time.sleep(0.01)
    write_bytes(target, b"while it runs")
    assert len(names(target.parent)) == 2
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    write_bytes(target, b"new")
    assert names(target.parent) == ["v.nii.gz"]


def test_files_of_other_machines_stay_for_a_week(target):
    old = target.with_name(".v.nii.gz.mrisr-tmp-1-00000000-ab.nii.gz")
    old.touch()
    write_bytes(target, b"x")
    assert old.exists()
    os.utime(old, (0, 0))
    write_bytes(target, b"x")
    assert not old.exists()


def test_a_restarted_container_has_the_same_process_number(target, monkeypatch):
    """Number 1 every time: what is older than this process is stale all the same."""
    mine = temporary.temporary_path(target)
    mine.touch()
    write_bytes(target, b"x")
    assert mine.exists()
    monkeypatch.setattr(temporary, "_STARTED", time.time() + 10)
    write_bytes(target, b"x")
    assert names(target.parent) == ["v.nii.gz"]
