"""Names of files, bytes and JSON as files, what other processes left of them, and locks."""

import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mrisr.core.errors import InputError, OutputError
from mrisr.io import (
    atomic_path,
    check_output,
    files,
    output_format,
    read_volume,
    stem,
    write_bytes,
    write_json,
    write_volume,
)
from mrisr.io.atomic import staged, write_together
from mrisr.io.files import locked
from tests.io.conftest import names


def test_files_that_belong_together_wait_for_each_other(tmp_path):
    wanted = {tmp_path / "a.csv": b"new a", tmp_path / "b.csv": b"new b"}
    for path in wanted:
        path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"b\.csv"):
        write_together({**wanted, tmp_path / "none" / "b.csv": b""})
    assert {p.read_bytes() for p in wanted} == {b"old"}
    write_together(wanted)
    assert {p: p.read_bytes() for p in wanted} == wanted
    with pytest.raises(OutputError, match="exists already"), staged(wanted, overwrite=False):
        pass
    with staged(dict.fromkeys(wanted, b"staged")):
        assert {p: p.read_bytes() for p in wanted} == wanted
    assert {p.read_bytes() for p in wanted} == {b"staged"}
    assert names(tmp_path) == ["a.csv", "b.csv"]


def test_umask_decides_the_mode(tmp_path):
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_json(tmp_path):
    told = {"é": [1, 2.5, None], "affine": [[1.0, 0.0], [0.0, 2.0]], "text": ["[\n 1\n]", "[ 2 ]"]}
    path = write_json(tmp_path / "a.json", told | {"empty": [], "one": {"size": [3]}})
    assert json.loads(path.read_text()) == told | {"empty": [], "one": {"size": [3]}}
    assert "    [1.0, 0.0],\n    [0.0, 2.0]\n" in path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", float("nan"))
    assert names(tmp_path) == ["a.json"]


# --- what other processes left --------------------------------------------------------------------


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "v.nii.gz"


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
    mine = files.temporary_path(target)
    mine.touch()
    write_bytes(target, b"x")
    assert mine.exists()
    monkeypatch.setattr(files, "_STARTED", time.time() + 10)
    write_bytes(target, b"x")
    assert names(target.parent) == ["v.nii.gz"]


# --- locks ----------------------------------------------------------------------------------------


def is_locked(folder) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def test_a_folder_is_locked_until_the_last_exit(tmp_path):
    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name):
            assert is_locked(tmp_path)
        assert is_locked(tmp_path)
        (tmp_path / "other").mkdir()
        with locked(tmp_path / "other"):
            assert is_locked(tmp_path / "other")
    assert not is_locked(tmp_path)


def test_a_failure_unlocks(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    assert not is_locked(tmp_path)
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none" / "lock"):
        pytest.fail("must not get here")


def test_another_thread_waits(tmp_path):
    order = []

    def wait() -> None:
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_nobody_waits_who_does_not_want_to(tmp_path):
    (tmp_path / "lock").touch()
    found = []

    def try_it() -> None:
        try:
            with locked(tmp_path / "lock", wait=False):
                found.append("entered")
        except BlockingIOError:
            found.append("refused")

    with locked(tmp_path / "lock"):
        for _ in range(2):
            thread = threading.Thread(target=try_it)
            thread.start()
            thread.join(10)
    try_it()
    assert found == ["refused", "refused", "entered"]


def test_a_disk_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *a: (_ for _ in ()).throw(OSError("no locks")))
    with locked(tmp_path):
        pass


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/t2w.nii.gz", "t2w"),
        ("T2.v1.NII.GZ", "T2.v1"),
        ("a.mha", "a"),
        ("study/series", "series"),
        ("im.0001.dcm", "im.0001"),
        ("IM_0001", "IM_0001"),
    ],
)
def test_stem(path, name):
    assert stem(path) == name


def test_output_format():
    assert output_format("a.nii.gz") == output_format("a.nii") == "nifti"
    assert output_format("a.mha") == output_format("a.mhd") == output_format("a.NRRD") == "itk"
    for wrong in ("a.gz", "a.txt", "folder", ".nii", "a.dcm"):
        with pytest.raises(OutputError, match=r"\.nii\.gz"):
            output_format(wrong)


def test_series_of_a_file_that_has_none(tmp_path):
    (tmp_path / "v.nii").write_bytes(b"")
    with pytest.raises(InputError, match="series"):
        read_volume(tmp_path / "v.nii", series="3")


def test_voxels_of_an_mhd_input_are_inputs(tmp_path, make_volume):
    volume = read_volume(write_volume(make_volume(), tmp_path / "a.mhd"))
    (tmp_path / "a.mhd").rename(tmp_path / "b.mhd")
    with pytest.raises(OutputError, match="never overwritten"):
        check_output(tmp_path / "a.mhd", inputs=[tmp_path / "b.mhd"], force=True)
    assert volume.shape == (9, 7, 5)
