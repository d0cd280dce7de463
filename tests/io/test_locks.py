from __future__ import annotations

import fcntl
import os
import threading

import pytest

from mrisr.io.files import locked


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
