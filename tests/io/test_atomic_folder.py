"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from mrisr.core.errors import OutputError
from mrisr.io import leftovers, steps, write_bytes
from mrisr.io.atomic import atomic_folder, remove_leftovers


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def make_files(folder: Path, text: str, files: tuple[str, ...] = ("a.dcm", "b.dcm")) -> None:
    for name in files:
        (folder / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(folder.iterdir())}


def write_folder(path: Path, text: str, **options: bool) -> None:
    with atomic_folder(path, **options) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.startswith(f".{path.name}.mrisr-tmp-")
        make_files(temporary, text)


def _half(target: Path) -> None:
    with atomic_folder(target) as temporary:
        make_files(temporary, "half", ("a.dcm",))
        raise RuntimeError("stop")


@pytest.fixture(params=["exchange", "two steps"])
def way(request, monkeypatch):
    """As the system does it, and as where it cannot exchange two folders."""
    if request.param == "two steps":
        monkeypatch.setattr("mrisr.io.steps._exchange", lambda a, b: False)
    return request.param


def test_the_system_can_exchange_folders(tmp_path):
    """Else the tests below would test the same thing twice."""
    for name in "ab":
        (tmp_path / name).mkdir()
        make_files(tmp_path / name, name)
    if not steps._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("neither renameat2 nor renamex_np here")
    assert contents(tmp_path / "a")["a.dcm"] == "b"
    with pytest.raises(FileNotFoundError):
        steps._exchange(tmp_path / "a", tmp_path / "none")


def test_a_folder_appears_whole_or_not_at_all(tmp_path, way):
    target = tmp_path / "series.v1"
    write_folder(target, "new")
    assert contents(target) == {"a.dcm": "new", "b.dcm": "new"}
    make_files(target, "of old", ("c.dcm",))
    write_folder(target, "newer")
    assert contents(target) == {"a.dcm": "newer", "b.dcm": "newer"}
    with pytest.raises(RuntimeError, match="stop"):
        _half(target)
    assert contents(target) == {"a.dcm": "newer", "b.dcm": "newer"}
    assert names(tmp_path) == ["series.v1"]


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path, way):
    target = tmp_path / "out"
    target.mkdir()
    write_folder(target, "first", overwrite=False)
    with pytest.raises(OutputError, match=r"out: exists already \(--force replaces\)"):
        write_folder(target, "second", overwrite=False)
    other = tmp_path / "other"
    with (
        pytest.raises(OutputError, match="exists already"),
        atomic_folder(other, overwrite=False),
    ):
        write_folder(other, "winner", overwrite=False)
    assert contents(target)["a.dcm"] == "first"
    assert contents(other)["a.dcm"] == "winner"
    assert names(tmp_path) == ["other", "out"]


def test_what_a_folder_does_not_replace(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "link"):
        with pytest.raises(OutputError, match=f"{name}: expected a folder to write"):
            write_folder(tmp_path / name, "new")
    with pytest.raises(OutputError, match="No such file"):
        write_folder(tmp_path / "none" / "out", "new")
    with (
        pytest.raises(OutputError, match=r"out: .*No space left.*1000000000000000000 bytes needed"),
        atomic_folder(tmp_path / "out", size=10**18),
    ):
        pytest.fail("must not get here")
    assert names(tmp_path) == ["file", "link", "real"]


def test_the_working_folder_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (Path(), Path(".."), tmp_path / "here", tmp_path):
        with pytest.raises(OutputError, match="cannot be replaced in one step"):
            write_folder(path, "new")
    assert names(tmp_path) == ["here"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, way, monkeypatch):
    target = tmp_path / "out"
    write_folder(target, "old")
    rename = Path.rename

    def failing(a, b):
        if ".mrisr-tmp-" in a.name and (way == "exchange" or not target.exists()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(a, b)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="out: cannot be written: Input/output error"):
        write_folder(target, "new")
    assert contents(target) == {"a.dcm": "old", "b.dcm": "old"}
    assert names(tmp_path) == ["out"]


def test_a_folder_that_is_busy_is_given_up(tmp_path, monkeypatch):
    """Another run's folder is there whenever this one looks, and gone when it would replace it."""
    monkeypatch.setattr("mrisr.io.steps._exchange", lambda a, b: False)
    monkeypatch.setattr("mrisr.io.steps._move_in_two_steps", lambda a, b: False)
    write_folder(tmp_path / "out", "old")
    with pytest.raises(OutputError, match="busy"):
        write_folder(tmp_path / "out", "new")
    assert contents(tmp_path / "out")["a.dcm"] == "old"


def test_everything_in_a_folder_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(Path, "rename", lambda a, b: (steps.append("rename"), rename(a, b))[1])
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "sub").mkdir()
        make_files(temporary / "sub", "x")
    assert steps == ["fsync"] * 4 + ["rename", "fsync"]


def test_a_disk_that_cannot_flush_a_folder_is_no_failure(tmp_path, monkeypatch):
    fsync = os.fsync

    def like_a_share(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", like_a_share)
    write_bytes(tmp_path / "a.bin", b"x")
    write_folder(tmp_path / "out", "x")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "I/O")))
    with pytest.raises(OutputError, match="I/O"):
        write_bytes(tmp_path / "b.bin", b"x")


def dead_process() -> int:
    """The number of a process that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_leftover_folders_of_a_killed_run_are_removed(tmp_path, monkeypatch):
    target = tmp_path / "out"
    pid = dead_process()
    monkeypatch.setattr(os, "getpid", lambda: pid)
    killed, aside = leftovers.temporary_path(target), leftovers.aside_path(target)
    monkeypatch.undo()
    for folder in (killed, aside, target):
        folder.mkdir()
        make_files(folder, folder.name)
    remove_leftovers(tmp_path / "another")
    assert len(names(tmp_path)) == 3
    remove_leftovers(target)
    assert names(tmp_path) == ["out"]
    assert contents(target)["a.dcm"] == "out"


def test_a_kill_between_two_renames_loses_nothing(tmp_path, monkeypatch):
    target = tmp_path / "out"
    pid = dead_process()
    monkeypatch.setattr(os, "getpid", lambda: pid)
    aside = leftovers.aside_path(target)
    monkeypatch.undo()
    aside.mkdir()
    make_files(aside, "old")
    with (
        pytest.raises(OutputError, match="exists already"),
        atomic_folder(target, overwrite=False),
    ):
        pytest.fail("must not get here")
    assert contents(target) == {"a.dcm": "old", "b.dcm": "old"}
