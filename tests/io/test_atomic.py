"""Files and folders that appear whole or not at all."""

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mrisr.core.errors import OutputError
from mrisr.io import atomic_path, files
from mrisr.io.atomic import atomic_folder
from tests.io.conftest import names


def refuse(code: int) -> Callable[..., None]:
    """A function of the system that fails."""

    def call(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@dataclass(frozen=True)
class Output:
    """A kind of output: how its name is taken, and how its content is written and read."""

    take: Callable[..., AbstractContextManager[Path]]
    folder: bool

    def fill(self, path: Path, text: str) -> None:
        if self.folder:
            path.mkdir(exist_ok=True)
            for name in ("a.dcm", "b.dcm"):
                (path / name).write_text(text)
        else:
            path.write_text(text)

    def write(self, path: Path, text: str, **options: Any) -> None:
        with self.take(path, **options) as made:
            assert made.parent == path.parent
            assert made.name.startswith(f".{path.name}.mrisr-tmp-")
            assert made.name.endswith(".nii.gz")
            self.fill(made, text)

    def fail(self, path: Path, error: Exception, **options: Any) -> None:
        with self.take(path, **options) as made:
            self.fill(made, "half")
            raise error

    def read(self, path: Path) -> set[str]:
        return {p.read_text() for p in (path.iterdir() if self.folder else [path])}


FILE, FOLDER = Output(atomic_path, folder=False), Output(atomic_folder, folder=True)


@pytest.fixture(params=["file", "folder", "folder in two steps"])
def output(request, monkeypatch) -> Output:
    """Folders also as on systems that cannot exchange two of them."""
    if request.param == "folder in two steps":
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    return FILE if request.param == "file" else FOLDER


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "v.nii.gz"


def of_a_dead_process(path: Path) -> Path:
    """A temporary name as a process chose it that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{child.pid}-"))


# --- files and folders ----------------------------------------------------------------------------


def test_whole_or_not_at_all(output, target):
    for text in ("new", "newer"):
        output.write(target, text)
        assert output.read(target) == {text}
    with pytest.raises(RuntimeError, match="stop"):
        output.fail(target, RuntimeError("stop"))
    assert output.read(target) == {"newer"}
    assert names(target.parent) == ["v.nii.gz"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_errors_of_the_system_name_path_cause_and_size(output, target, code):
    output.write(target, "old")
    with pytest.raises(OutputError) as caught:
        output.fail(target, OSError(code, os.strerror(code)), size=10)
    reason = f"{target}: cannot be written: {os.strerror(code)} (10 bytes needed)"
    assert str(caught.value) == reason
    assert output.read(target) == {"old"}
    assert names(target.parent) == ["v.nii.gz"]


def test_what_is_needed_at_least_is_told_where_the_size_is_not_known(output, target):
    needed = 8 if output.folder else 4
    with pytest.raises(OutputError, match=f"more than {needed} bytes needed"):
        output.fail(target, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def test_no_room_is_told_before_writing(output, target):
    with (
        pytest.raises(OutputError, match=r"No space left.*1000000000000000000 bytes needed"),
        output.take(target, size=10**18),
    ):
        pytest.fail("must not get here")
    assert names(target.parent) == []


def test_the_second_of_two_runs_says_so(output, target):
    def race() -> None:
        with output.take(target, overwrite=False) as made:
            output.fill(made, "second")
            output.write(target, "first", overwrite=False)

    with pytest.raises(OutputError, match=r"v.nii.gz: exists already.*--force"):
        race()
    assert output.read(target) == {"first"}
    assert names(target.parent) == ["v.nii.gz"]


def test_what_is_not_replaced(output, target):
    for path in (target.parent / "none" / "v.nii.gz", target):
        if path is target:
            (FILE if output.folder else FOLDER).fill(target, "kept")
        with pytest.raises(OutputError, match=r"No such file|something else"):
            output.write(path, "new")
    assert names(target.parent) == ["v.nii.gz"]


def test_all_is_flushed_before_it_is_renamed(output, target, monkeypatch):
    done: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd))[1])
    for owner, name in ((os, "replace"), (Path, "rename")):
        real = getattr(owner, name)
        note = lambda a, b, real=real: (done.append("rename"), real(a, b))[1]  # noqa: E731
        monkeypatch.setattr(owner, name, note)
    output.write(target, "x")
    assert done == ["fsync"] * (3 if output.folder else 1) + ["rename", "fsync"]


def test_a_disk_that_cannot_flush_a_folder_is_no_failure(output, target, monkeypatch):
    fsync = os.fsync

    def like_a_share(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", like_a_share)
    output.write(target, "x")
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OutputError, match="Input/output error"):
        output.write(target, "y")
    assert output.read(target) == {"x"}


# --- what killed runs leave -----------------------------------------------------------------------


def test_what_a_dead_process_left_is_removed(output, target):
    stale = of_a_dead_process(files.temporary_path(target))
    aside = of_a_dead_process(files.aside_path(target))
    for path in (stale, aside, target):
        output.fill(path, path.name)
    files.remove_stale(target.with_name("another"))
    assert len(names(target.parent)) == 3
    files.remove_stale(target)
    assert names(target.parent) == ["v.nii.gz"]
    assert output.read(target) == {"v.nii.gz"}


def test_a_kill_between_two_renames_loses_nothing(target):
    FOLDER.fill(of_a_dead_process(files.aside_path(target)), "old")
    with pytest.raises(OutputError, match="exists already"):
        FOLDER.write(target, "new", overwrite=False)
    assert FOLDER.read(target) == {"old"}


# --- files ----------------------------------------------------------------------------------------


def test_the_cause_is_what_the_system_said(tmp_path):
    """pydicom puts a page of its own on top of it."""
    on_top = OSError("With tag ... Traceback (most recent call last):\n many lines")
    on_top.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for error, words in ((on_top, "No space left on device"), (OSError("a\nb"), "a b")):
        with pytest.raises(OutputError, match=rf"a\.dcm: cannot be written: {words}"):
            FILE.fail(tmp_path / "a.dcm", error)


# --- folders --------------------------------------------------------------------------------------


def test_the_system_can_exchange_folders(tmp_path):
    """Else the tests above would test the same thing twice."""
    for name in "ab":
        FOLDER.fill(tmp_path / name, name)
    if not files._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("neither renameat2 nor renamex_np here")
    assert FOLDER.read(tmp_path / "a") == {"b"}
    with pytest.raises(FileNotFoundError):
        files._exchange(tmp_path / "a", tmp_path / "none")


def test_links_and_the_working_folder_are_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="link: expected a folder to write"):
        FOLDER.write(tmp_path / "link", "new")
    for path in (Path(), Path(".."), tmp_path / "here", tmp_path):
        with pytest.raises(OutputError, match="cannot be replaced in one step"):
            FOLDER.write(path, "new")
    assert names(tmp_path) == ["here", "link"]


def test_a_folder_replaces_an_empty_one_without_force(target):
    target.mkdir()
    FOLDER.write(target, "first", overwrite=False)
    assert FOLDER.read(target) == {"first"}


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(target, monkeypatch, exchange):
    FOLDER.write(target, "old")
    rename = Path.rename

    def failing(a: Path, b: Path) -> Path:
        if ".mrisr-tmp-" in a.name and (exchange or not target.exists()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(a, b)

    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="cannot be written: Input/output error"):
        FOLDER.write(target, "new")
    assert FOLDER.read(target) == {"old"}
    assert names(target.parent) == ["v.nii.gz"]


def test_a_folder_that_is_busy_is_given_up(target, monkeypatch):
    """Another run's folder is there whenever this one looks, and gone when it would replace it."""
    for name in ("_exchange", "_move_in_two_steps"):
        monkeypatch.setattr(files, name, lambda a, b: False)
    FOLDER.write(target, "old")
    with pytest.raises(OutputError, match="busy"):
        FOLDER.write(target, "new")
    assert FOLDER.read(target) == {"old"}
