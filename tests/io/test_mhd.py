"""A header and its voxels: two files that are one at every moment."""

import errno
import os
import subprocess

import numpy as np
import pytest

from mrisr.core.errors import OutputError
from mrisr.io import files, itk, read_volume, verify, write_volume
from tests.io.conftest import names


@pytest.fixture
def pair(tmp_path, make_volume):
    """An old pair, and another volume of the same size to replace it."""
    path = write_volume(make_volume(), tmp_path / "v.mhd")
    other = make_volume()
    return path, other.with_array(other.array // 2)


def killed_before_settling(path, volume, monkeypatch):
    """What a process that is no more leaves: a header that names its temporary voxels."""
    child = subprocess.Popen(["true"])
    child.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: child.pid)
        patch.setattr(itk, "_settle", lambda *paths: None)
        itk.save_mhd(volume, path, force=True)


def test_the_next_writing_tidies_up(pair, monkeypatch, make_volume):
    path, volume = pair
    killed_before_settling(path, volume, monkeypatch)
    with pytest.raises(OutputError, match="exists already"):
        write_volume(make_volume(), path)
    write_volume(make_volume(), path, force=True)
    assert names(path.parent) == ["v.mhd", "v.raw"]
    np.testing.assert_array_equal(read_volume(path).array, make_volume().array)


def test_the_new_pair_counts_before_and_after_tidying(pair, monkeypatch):
    path, volume = pair
    killed_before_settling(path, volume, monkeypatch)
    np.testing.assert_array_equal(read_volume(path).array, volume.array)
    assert len(names(path.parent)) == 3
    itk._tidy(path, path.with_suffix(".raw"))
    files.remove_stale(path)
    files.remove_stale(path.with_suffix(".raw"))
    assert names(path.parent) == ["v.mhd", "v.raw"]
    np.testing.assert_array_equal(read_volume(path).array, volume.array)
    assert "= v.raw\n" in path.read_text()


def test_a_disk_without_hard_links(pair, monkeypatch):
    path, volume = pair

    def refuse(*paths: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    write_volume(volume, path, force=True)
    assert names(path.parent) == ["v.mhd", "v.raw"]
    np.testing.assert_array_equal(read_volume(path).array, volume.array)
    write_volume(volume, path.parent / "w.mhd")
    assert names(path.parent) == ["v.mhd", "v.raw", "w.mhd", "w.raw"]


def test_a_failure_to_take_the_final_name_is_no_failure(pair, monkeypatch):
    """The new pair counts already; the next writing tries again."""
    path, volume = pair
    monkeypatch.setattr(itk, "_settle", lambda *paths: (_ for _ in ()).throw(OSError("disk")))
    write_volume(volume, path, force=True)
    np.testing.assert_array_equal(read_volume(path).array, volume.array)
    monkeypatch.undo()
    write_volume(volume, path, force=True)
    assert names(path.parent) == ["v.mhd", "v.raw"]


@pytest.mark.parametrize("name", ["v.mhd", "v.raw"])
def test_what_appears_meanwhile_is_kept_without_force(tmp_path, make_volume, monkeypatch, name):
    real = verify

    def meanwhile(written, volume, target):
        real(written, volume, target)
        (tmp_path / name).write_text("another run's")

    monkeypatch.setattr("mrisr.io.verify", meanwhile)
    with pytest.raises(OutputError, match=f"{name}: exists already"):
        write_volume(make_volume(), tmp_path / "v.mhd")
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "another run's"
