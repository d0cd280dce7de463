"""Everything that mrisr writes, in several versions, as writers that can be hit while they work.

A writer gets the target, a version (each differs from the others in every part), whether it may be small,
and a folder for inputs that it keeps.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.reliability import outputs

_EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class Writer:
    """One kind of output.

    Attributes:
        name: as in the table.
        target: what the output is called.
        write: replaces what is there by a version.
        parts: what an output that is there holds, to be digested. Raises for one that cannot be read.
        names: files of the output that take their places one after the other, each whole; by default
            the output is one.
        there: a file without which there is no output; by default the target.
    """

    name: str
    target: str
    write: Callable[[Path, int, bool, Path], object]
    parts: Callable[[Path], Iterable[Any]]
    names: tuple[str, ...] = ()
    there: str = ""

    def read(self, target: Path) -> dict[str, str]:
        """Digests of the parts of an output that are there."""
        if self.names:
            files = (target / name for name in self.names)
            return {f.name: digest(*self.parts(f)) for f in files if f.exists()}
        if not (target / self.there).exists():
            return {}
        return {target.name: digest(*self.parts(target))}


def digest(*parts: Any) -> str:
    """The SHA-256 of arrays, tensors and plain values."""
    known = hashlib.sha256()
    for part in parts:
        if hasattr(part, "detach"):
            part = part.detach().cpu().numpy()
        data = part.tobytes() if isinstance(part, np.ndarray) else part
        known.update(data if isinstance(data, bytes) else repr(data).encode())
    return known.hexdigest()


def write_as_asked(
    name: str,
    target: Path,
    version: int,
    small: bool,
    befalls: Callable[[], object] | None = None,
    fatal: int = 0,
    begun: Path | None = None,
    count: Path | None = None,
) -> None:
    """Write a version, in a process of its own, and end as the command line would.

    Args:
        name: of the writer.
        befalls: what befalls the process: a function of ``hooks.py``.
        fatal: the operation on files before which the process is killed.
        begun: a file that appears when the work begins.
        count: gets the number of operations on files.
    """
    from mrisr.cli import explain

    inputs = target.parent.parent / "inputs"
    inputs.mkdir(exist_ok=True)
    if begun:
        begun.touch()
    writer = next(w for w in (*WRITERS, *CARELESS) if w.name == name)
    steps = Steps(str(target.parent), fatal)
    if fatal or count:
        sys.addaudithook(steps.count)
    if befalls:
        befalls()
    try:
        writer.write(target, version, small, inputs)
    except Exception as error:
        message, code = explain(error)
        print(f"mrisr: {message}", file=sys.stderr, flush=True)
        os._exit(code)
    if count:
        count.write_text(str(steps.done))
    os._exit(0)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass
class Steps:
    """Counts the operations on files in a folder, and ends this process as kill -9 does before one."""

    folder: str
    fatal: int
    done: int = 0

    def count(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook (sys.addaudithook)."""
        if event in _EVENTS:
            # What removes a folder names its files from inside, without the folder.
            inside = any(isinstance(a, int) and a > 2 for a in arguments[-2:])
            counts = inside or any(_lies_in(a, self.folder) for a in arguments[:2])
        else:
            counts = event == "ctypes.dlsym"  # the exchange of two folders
        if counts:
            self.done += 1
            if self.done == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)


def _lies_in(path: object, folder: str) -> bool:
    return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(folder)


@dataclass(frozen=True)
class Untidied(Writer):
    """Read as the next writing finds it."""

    def read(self, target: Path) -> dict[str, str]:
        from mrisr.io.files import remove_stale

        remove_stale(target)
        return super().read(target)


WRITERS = (
    *(
        Writer(ending, f"out{ending}", outputs.write_a_volume, outputs.parts_of_a_volume)
        for ending in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
    ),
    Writer("a derived DICOM series", "series", outputs.write_a_series, outputs.parts_of_a_series),
    Writer("a folder", "folder", outputs.write_a_folder, outputs.parts_of_a_folder),
    Untidied(
        "a folder, where two cannot be exchanged",
        "folder",
        outputs.write_a_folder_in_two_steps,
        outputs.parts_of_a_folder,
    ),
    Writer(
        "a JSON record", "out.json", outputs.write_a_record, lambda t: [json.loads(t.read_text())]
    ),
    Writer("a QC picture", "out.png", outputs.write_a_picture, outputs.parts_of_a_picture),
    Writer(
        "evaluation tables",
        "tables",
        outputs.write_some_tables,
        lambda file: [file.read_bytes()],
        names=outputs.TABLES,
    ),
    Writer("a prepared cache", "cache", outputs.write_a_cache, outputs.parts_of_a_cache),
    Writer(
        "a training checkpoint",
        "checkpoint.safetensors",
        outputs.write_a_checkpoint,
        outputs.parts_of_a_checkpoint,
    ),
    Writer(
        "a saved model", "run", outputs.write_a_model, outputs.parts_of_a_model, there="model.json"
    ),
)

#: Writers as they must not be, by which the experiments are tested.
CARELESS = (
    Writer("in place", "out.nii", outputs.write_in_place, outputs.parts_of_a_volume),
    Writer("old one first", "out.nii", outputs.write_after_removing, outputs.parts_of_a_volume),
    Writer("untidy", "out.nii", outputs.write_and_leave_things_behind, outputs.parts_of_a_volume),
)
