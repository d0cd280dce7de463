from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from mrisr.core.errors import OutputError
from mrisr.io import (
    atomic_path,
    leftovers,
    read_volume,
    verify,
    write_bytes,
    write_json,
    write_volume,
)
from mrisr.io.atomic import full_suffix, staged, write_together


def _half(target: Path, error: Exception) -> None:
    with atomic_path(target, size=10) as temporary:
        temporary.write_text("half")
        raise error


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_whole_or_not_at_all(tmp_path):
    target = tmp_path / "v.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".v.nii.gz.mrisr-tmp-")
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    with pytest.raises(RuntimeError, match="stop"):
        _half(target, RuntimeError("stop"))
    assert target.read_text() == "new"
    assert names(tmp_path) == ["v.nii.gz"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_errors_of_the_system_name_path_and_cause(tmp_path, code):
    target = tmp_path / "out.json"
    target.write_text("old")
    with pytest.raises(OutputError) as caught:
        _half(target, OSError(code, os.strerror(code)))
    assert str(target) in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    assert "10 bytes needed" in str(caught.value)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.json"]


def test_the_cause_is_what_the_system_said(tmp_path):
    """pydicom puts a page of its own on top of it."""
    on_top = OSError("With tag ... Traceback (most recent call last):\n many lines")
    on_top.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"a\.dcm: cannot be written: No space left on device"):
        _half(tmp_path / "a.dcm", on_top)
    with pytest.raises(OutputError, match=r"a\.dcm: cannot be written: nobody knows \(10 bytes"):
        _half(tmp_path / "a.dcm", OSError("nobody\nknows"))


def test_what_is_needed_at_least_is_told_where_the_size_is_not_known(tmp_path):
    def fill() -> None:
        with atomic_path(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(bytes(77))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="more than 77 bytes needed"):
        fill()


def test_files_that_belong_together_wait_for_each_other(tmp_path):
    files = {tmp_path / "a.csv": b"new a", tmp_path / "b.csv": b"new b"}
    for path in files:
        path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"b\.csv"):
        write_together({**files, tmp_path / "none" / "b.csv": b""})
    assert {p.read_bytes() for p in files} == {b"old"}
    write_together(files)
    assert {p: p.read_bytes() for p in files} == files
    assert names(tmp_path) == ["a.csv", "b.csv"]


def test_what_is_staged_takes_its_place_after_the_block(tmp_path):
    record = tmp_path / "a.json"
    record.write_bytes(b"old")

    def fail() -> None:
        with staged({record: b"new"}):
            raise RuntimeError("no volume")

    with pytest.raises(RuntimeError, match="no volume"):
        fail()
    assert record.read_bytes() == b"old"
    with pytest.raises(OutputError, match="exists already"), staged({record: b""}, overwrite=False):
        pass
    with staged({record: b"new"}):
        assert record.read_bytes() == b"old"
    assert record.read_bytes() == b"new"
    assert names(tmp_path) == ["a.json"]


def test_no_room_is_told_before_writing(tmp_path):
    with (
        pytest.raises(OutputError, match=r"No space left.*bytes needed"),
        atomic_path(tmp_path / "v.nii", size=10**18),
    ):
        pytest.fail("must not get here")
    assert names(tmp_path) == []


def test_missing_folder_and_other_things_in_the_way(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        write_bytes(tmp_path / "no" / "a.bin", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="something else"):
        write_bytes(tmp_path / "folder", b"x")
    with pytest.raises(OutputError, match="something else"):
        write_bytes(os.devnull, b"x")


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out.bin").symlink_to(tmp_path / "precious")
    write_bytes(tmp_path / "out.bin", b"new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "out.bin").read_bytes() == b"new"


def test_the_second_of_two_runs_says_so(tmp_path):
    target = tmp_path / "out.json"
    with (
        pytest.raises(OutputError, match="exists already"),
        atomic_path(target, overwrite=False),
    ):
        write_bytes(target, b"first", overwrite=False)
    assert target.read_text() == "first"
    assert names(tmp_path) == ["out.json"]


def test_umask_decides_the_mode(tmp_path):
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_json(tmp_path):
    path = write_json(tmp_path / "a.json", {"é": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"é": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", float("nan"))
    assert names(tmp_path) == ["a.json"]


def _write_for_ever(target: str) -> None:
    with atomic_path(Path(target)) as temporary:
        temporary.write_text("half")
        time.sleep(60)


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    child = multiprocessing.get_context("spawn").Process(
        target=_write_for_ever, args=(str(target),)
    )
    child.start()
    deadline = time.monotonic() + 30
    while len(names(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    write_bytes(tmp_path / "other.bin", b"x")
    write_bytes(target, b"while it runs")
    assert len(names(tmp_path)) == 3, "a running process keeps its file"
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert target.read_bytes() == b"while it runs"
    write_bytes(target, b"new")
    assert names(tmp_path) == ["other.bin", "out.bin"]


def test_leftovers_of_other_machines_stay_for_a_week(tmp_path):
    old = tmp_path / ".out.bin.mrisr-tmp-1-00000000-ab.bin"
    old.touch()
    write_bytes(tmp_path / "out.bin", b"x")
    assert old.exists()
    os.utime(old, (0, 0))
    write_bytes(tmp_path / "out.bin", b"x")
    assert not old.exists()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_a_stump_is_noticed_before_it_replaces_anything(tmp_path, make_volume, monkeypatch, ending):
    """What a full disk does to SimpleITK: the file is short and nobody says so."""
    path = write_volume(make_volume(), tmp_path / f"v{ending}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    real = verify.verify

    def with_stump(written, volume, target):
        data = written.read_bytes()
        written.write_bytes(data[: len(data) * 2 // 3])
        real(written, volume, target)

    monkeypatch.setattr("mrisr.io.verify.verify", with_stump)
    with pytest.raises(OutputError, match="did not read back"):
        write_volume(make_volume(np.float32), path, force=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("what", ["voxel", "affine", "dtype"])
def test_verification_compares(tmp_path, make_volume, what):
    from mrisr.io.nifti import write_nifti

    volume = make_volume(np.int16)
    other = volume
    if what == "voxel":
        changed = volume.array.copy()
        changed[1, 2, 3] += 1
        other = volume.with_array(changed)
    elif what == "affine":
        moved = volume.affine.copy()
        moved[0, 3] += 0.01
        other = volume.with_array(volume.array, moved)
    else:
        other = make_volume(np.int32)
    write_nifti(other, tmp_path / "v.nii")
    with pytest.raises(OutputError, match=r"target.nii.*(voxels|affine|int32)"):
        verify.verify(tmp_path / "v.nii", volume, tmp_path / "target.nii")


def test_nan_is_not_written(tmp_path, make_volume):
    volume = make_volume(np.float32)
    bad = volume.array.copy()
    bad[0, 0, 0] = np.nan
    with pytest.raises(OutputError, match="1 voxels are NaN"):
        write_volume(volume.with_array(bad), tmp_path / "v.nii")
    assert names(tmp_path) == []


def test_every_writer_flushes_before_it_renames(tmp_path, make_volume, monkeypatch):
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b))[1])
    path = write_volume(make_volume(), tmp_path / "v.nii.gz", force=True)
    assert steps == ["fsync", "replace", "fsync"]
    assert read_volume(path).shape == (9, 7, 5)
    assert full_suffix("a.b.NII.GZ") == ".NII.GZ"


def test_a_restarted_container_has_the_same_process_number(tmp_path, monkeypatch):
    """Number 1 every time: what is older than this process is a leftover all the same."""
    target = tmp_path / "out.bin"
    mine = leftovers.temporary_path(target)
    mine.touch()
    write_bytes(target, b"x")
    assert mine.exists()
    monkeypatch.setattr(leftovers, "_STARTED", time.time() + 10)
    write_bytes(target, b"x")
    assert names(tmp_path) == ["out.bin"]
