"""Bytes and JSON as files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mrisr.core.errors import OutputError
from mrisr.io import write_bytes, write_json
from mrisr.io.atomic import staged, write_together


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


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


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out.bin").symlink_to(tmp_path / "precious")
    write_bytes(tmp_path / "out.bin", b"new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "out.bin").read_bytes() == b"new"
    with pytest.raises(OutputError, match="something else"):
        write_bytes(os.devnull, b"x")


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
