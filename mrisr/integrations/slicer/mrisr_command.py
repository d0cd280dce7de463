"""A run of the installed ``mrisr`` command for 3D Slicer, without Slicer and without Qt.

Slicer's own Python has neither PyTorch nor mrisr, so this file needs the standard library alone.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Job -> the option of its input, and the one of its size: name, default, smallest, largest.
JOBS: Mapping[str, tuple[str, tuple[str, float, float, float] | None]] = {
    "inplane": ("--input", ("--scale", 2.0, 1.5, 8.0)),
    "throughplane": ("--axial", None),
    "segment": ("--input", None),
}
#: Variables by which Slicer points its own Python to its own libraries.
_SLICERS = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "LD_PRELOAD")
VOLUME, RESULT, PICTURE = "input.nrrd", "result.nrrd", "result.png"


def find_program(given: str = "") -> str:
    """The path of the command: the one given, or that of the search path. Raises FileNotFoundError."""
    found = shutil.which(given or "mrisr")
    if found is None:
        raise FileNotFoundError(f"{given or 'mrisr'}: expected the mrisr command, found none")
    return found


@dataclass
class Run:
    """One run in a folder of its own, in the background; the volume lies there as ``VOLUME``.

    Attributes:
        program: path of the command.
        folder: of input and results.
        job: one of ``JOBS``.
        size: the scale, where the job has one.
    """

    program: str
    folder: Path
    job: str
    size: float | None = None
    _process: "subprocess.Popen[str] | None" = field(default=None, init=False)

    @property
    def command(self) -> list[str]:
        """The command line."""
        source, size = JOBS[self.job]
        asked = [self.program, self.job, source, VOLUME, "--output", RESULT]
        if size is not None and self.size is not None:
            asked += [size[0], f"{self.size:g}"]
        return [*asked, "--qc", PICTURE, "--force", "--json", "--quiet"]

    def start(self) -> None:
        """Start it. Raises OSError."""
        environment = {k: v for k, v in os.environ.items() if k not in _SLICERS}
        with (
            (self.folder / "out.json").open("w") as out,
            (self.folder / "err.txt").open("w") as err,
        ):
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdout=out, stderr=err, text=True
            )

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it; nothing half-written is left, as after Ctrl-C."""
        if self._process is not None and self.running:
            self._process.terminate()
            self._process.wait()

    def result(self) -> "Result":
        """What it made. Raises RuntimeError, with the one line of the command, where it failed."""
        if self._process is None or self.running:
            raise RuntimeError("the run has not ended")
        if self._process.returncode:
            said = (self.folder / "err.txt").read_text(errors="replace").strip().splitlines()
            raise RuntimeError(said[-1] if said else f"exit code {self._process.returncode}")
        record = json.loads((self.folder / "out.json").read_text())
        return Result(self.folder / RESULT, self.folder / PICTURE, record)


@dataclass(frozen=True)
class Result:
    """Volume or labels, picture and record of a run."""

    path: Path
    picture: Path
    record: dict[str, Any]

    @property
    def summary(self) -> str:
        """Model, agreement with the measurement or volumes, and notes, a line each."""
        lines = [f"model {self.record['model']['name']}, {self.record['seconds']:.0f} s"]
        residual = self.record.get("residual")
        if residual:
            of_noise = residual.get("rms_of_noise")
            told = f"{residual['rms_of_range']:.1e} of the range"
            lines.append(f"residual {told if of_noise is None else f'{of_noise:.2f} of the noise'}")
        lines += [f"{zone} {ml:.1f} ml" for zone, ml in self.record.get("volumes_ml", {}).items()]
        return "\n".join([*lines, *self.record.get("notes", ()), "For research use only."])
