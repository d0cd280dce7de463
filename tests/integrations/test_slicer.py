"""What the module of 3D Slicer does, without Slicer: its file alone, and the command in the background."""

import importlib.util
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import mrisr
from mrisr.data.phantom import phantom
from mrisr.io import read_volume, write_volume

FILE = Path(mrisr.__file__).parent / "integrations" / "slicer" / "mrisr_command.py"


@pytest.fixture
def slicer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The logic, imported from its folder as Slicer does it; Slicer's variables are set."""
    monkeypatch.setenv("PYTHONHOME", "/opt/slicer")
    spec = importlib.util.spec_from_file_location("mrisr_command", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mrisr_command", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """The installed command, in a folder of its own."""
    path = tmp_path / "bin" / "mrisr"
    path.parent.mkdir()
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={os.pathsep.join(sys.path)} exec {sys.executable} -m mrisr "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def ended(run):
    while run.running:
        time.sleep(0.02)
    return run.result()


def test_command_lines(slicer: ModuleType, tmp_path: Path) -> None:
    """Only options that the job has."""
    inplane = slicer.Run("mrisr", tmp_path, "inplane", 2.5).command
    assert inplane[1:8] == [
        "inplane",
        "--input",
        "input.nrrd",
        "--output",
        "result.nrrd",
        "--scale",
        "2.5",
    ]
    for job in ("throughplane", "segment"):
        assert "--scale" not in slicer.Run("mrisr", tmp_path, job, 2.5).command
    with pytest.raises(FileNotFoundError, match="no-such: expected the mrisr command"):
        slicer.find_program("no-such")


@pytest.mark.slow
def test_a_run(slicer: ModuleType, tmp_path: Path, program: Path, models: Path) -> None:
    """Result, picture and words; then the one line of a refusal; then a run that is stopped."""
    write_volume(phantom((16, 16, 4), spacing=(1.5, 1.5, 4.5)), tmp_path / slicer.VOLUME)
    run = slicer.Run(slicer.find_program(str(program)), tmp_path, "inplane", 2)
    run.start()
    made = ended(run)
    assert read_volume(made.path).shape == (32, 32, 4)
    assert made.picture.read_bytes().startswith(b"\x89PNG")
    assert made.summary.startswith("model partdiff-inplane")
    assert "residual" in made.summary
    (tmp_path / slicer.VOLUME).write_bytes(b"NRRD0004\n")
    run.start()
    with pytest.raises(RuntimeError, match=r"^mrisr: input.nrrd: expected"):
        ended(run)
    run.start()
    run.stop()
    assert not run.running
