"""State of a study: ``status.json`` in its folder, the one reading of it, and the digests that it rests on.

The file lists the parts of the plan that a process worked by. It is written before each part, so that a
process that dies leaves a trace of where, and once more when the study is through.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from mrisr.batch.names import STAGES, STATUS, Stage
from mrisr.io.atomic import as_output_error, json_bytes, make_folder, write_bytes, write_json
from mrisr.io.files import file_sha256, temporary_path
from mrisr.io.metaheader import data_file
from mrisr.io.paths import ending

#: ``check`` is a study, or a stage of one, that is done and that somebody should look at.
State = Literal["unfinished", "done", "failed", "skipped", "check"]
#: Files read at once: a network's disk answers several as fast as one.
READERS = 4


class Stamp(NamedTuple):
    """A file as it was when its digest was taken; ``name`` is within the input or output it is part of."""

    path: str
    name: str
    size: int
    changed_ns: int


class Digests:
    """SHA-256 of inputs and outputs. They are read again only where a size or a time has changed."""

    def __init__(self, known: dict[tuple[Stamp, ...], str] | None = None) -> None:
        self._known = known or {}
        self._used: dict[tuple[Stamp, ...], str] = {}

    @classmethod
    def load(cls, files: Iterable[Path]) -> Digests:
        """The digests that earlier runs have kept; a file that cannot be read is left out."""
        known: dict[tuple[Stamp, ...], str] = {}
        for file in files:
            with suppress(OSError, ValueError, TypeError):
                for stamps, sha in json.loads(file.read_bytes()):
                    known[tuple(Stamp(*stamp) for stamp in stamps)] = sha
        return cls(known)

    def save(self, file: Path) -> None:
        """Keep the digests that were asked for. Raises OutputError."""
        make_folder(file.parent)
        write_bytes(file, json.dumps(sorted(self._used.items()), indent=0).encode())

    def of(self, *paths: Path) -> str | None:
        """Digest of files and folders together; `None` where one of them cannot be read.

        That of a single file is the plain SHA-256 of its bytes. A ``.mhd`` includes its voxels, a folder all
        that it holds but hidden files.
        """
        try:
            stamps = tuple(_stamp(file, name) for path in paths for file, name in _files(path))
            digest = self._used.get(stamps) or self._known.get(stamps)
            if digest is None:
                digest = file_sha256(*(Path(stamp.path) for stamp in stamps))
                if len(stamps) > 1:
                    digest = digest_of([digest, *([stamp.name, stamp.size] for stamp in stamps)])
        except OSError:
            return None
        self._used[stamps] = digest
        return digest

    def look_at(self, paths: Iterable[Path]) -> None:
        """Take the digests of many inputs, several at once."""
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(self.of, dict.fromkeys(paths)))


def digest_of(content: Any) -> str:
    """Digest of what can be written as JSON, whatever the order of its keys.

    >>> digest_of({"a": 1, "b": None}) == digest_of({"b": None, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """The files of an input or output in a fixed order, with their names in it."""
    if not path.is_dir():
        voxels = data_file(path) if ending(path) == ".mhd" else None
        yield from ((file, file.name) for file in (path, voxels) if file is not None)
        return
    for place, folders, names in os.walk(path):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name), Path(place, name).relative_to(path).as_posix()


def _stamp(path: Path, name: str) -> Stamp:
    """A regular file as it is now. Raises OSError: there is none, or a pipe, which would be waited for."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path}: no regular file")
    absolute = os.path.abspath(path)  # noqa: PTH100
    return Stamp(absolute, name, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Part:
    """One thing that is made of a study, and how that ended. A rerun redoes parts.

    Attributes:
        name: within the stage: the stack, the volume or ``"page"``.
        key: SHA-256 of all that decides the result.
        outputs: files and folders that it writes, within the study's folder.
        needs: ids of the parts whose results it is made from.
        inputs: role -> digest of what the manifest names; `None` where it cannot be read.
        model: name and digest of the model, if there is one.
        state: skipped is what lacks the result of an earlier part.
        reason: why it failed or was skipped, on one line.
        peak_memory_gib: of the process (and on CUDA of the device) while it was made, where measurable.
        sha256: digest of the outputs together, see :meth:`mrisr.batch.status.Digests.of`.
        attempts: how often it was begun in this batch.
        notes: what the reader of a stack decided.
        check: reasons to look at the zones of a volume.
        scores: zone -> figure, of a scored volume.
    """

    stage: Stage
    name: str
    key: str = ""
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    inputs: dict[str, str | None] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    model: dict[str, str] | None = None
    state: State = "unfinished"
    reason: str = ""
    seconds: float = 0.0
    peak_memory_gib: dict[str, float] | None = None
    sha256: str | None = None
    attempts: int = 0
    notes: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Stage and name, which no other part of the study has both."""
        return f"{self.stage}/{self.name}"


@dataclass(frozen=True)
class Status:
    """The content of a study's ``status.json``, or what it says of one stage; ``batch`` is the run's id."""

    batch: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def stages(self) -> dict[Stage, Status]:
        """The stages that have parts, in their order."""
        named = {name: tuple(p for p in self.parts if p.stage == name) for name in STAGES}
        return {name: Status(self.batch, parts) for name, parts in named.items() if parts}

    @property
    def failures(self) -> dict[Stage, Status]:
        """The stages that failed."""
        return {name: stage for name, stage in self.stages.items() if stage.state == "failed"}

    @property
    def state(self) -> State:
        """``"failed"`` where any part failed, ``"unfinished"`` where one was not made, else ``"skipped"``
        where one was, else ``"check"`` where a part gives reason to look, else ``"done"``."""
        states = {"check" if p.check and p.state == "done" else p.state for p in self.parts}
        order: tuple[State, ...] = ("failed", "unfinished", "skipped", "check")
        states = states or {"unfinished"}
        return next((state for state in order if state in states), "done")

    @property
    def seconds(self) -> float:
        """Wall clock of all parts."""
        return round(sum(part.seconds for part in self.parts), 3)

    @property
    def peak_memory_gib(self) -> dict[str, float]:
        """The most of any part, of the process and on CUDA of the device; empty where not measured."""
        peaks = [part.peak_memory_gib or {} for part in self.parts]
        keys = dict.fromkeys(key for peak in peaks for key in peak)
        return {key: max(peak.get(key, 0.0) for peak in peaks) for key in keys}

    @property
    def reason(self) -> str:
        """Reasons of the parts of a stage that were not made, each said once."""
        said = []
        for part in self.parts:
            named = part.state == "skipped" or part.reason.startswith(f"{part.name}: ")
            if part.reason:
                said.append(part.reason if named else f"{part.name}: {part.reason}")
        return "; ".join(dict.fromkeys(said))

    @property
    def reasons(self) -> list[str]:
        """Reasons of the failures of all stages, a line for each part that failed."""
        failed = (part for part in self.parts if part.state == "failed")
        return [f"{p.stage} {p.name}: {p.reason.removeprefix(f'{p.name}: ')}" for p in failed]

    @property
    def check(self) -> list[str]:
        """Reasons to look at what is done, each with the volume that it is about."""
        done = (part for part in self.parts if part.state == "done")
        return [f"{part.name}: {reason}" for part in done for reason in part.check]

    @cached_property
    def scores(self) -> Mapping[str, dict[str, dict[str, float | None]]]:
        """Volume -> zone -> figure, where there are labels."""
        return {p.name: p.scores for p in self.parts if p.stage == "score" and p.state == "done"}

    def of_plan(self, planned: Iterable[Part]) -> Status:
        """The status as far as it is one of these parts; the others are unfinished."""
        found = {(part.id, part.key): part for part in self.parts}
        return Status(self.batch, tuple(found.get((part.id, part.key), part) for part in planned))


_ADAPTER = TypeAdapter(Status)
#: A study's folder within the output -> its status.
Outcome = Mapping[str, Status]


def settled(folder: Path, planned: Iterable[Part], digests: Digests) -> Iterator[Part]:
    """The parts that need no work: done by the same key, with their outputs as they were written.

    The page shows all the others, and needs work wherever one of them does.
    """
    whole = True
    for part in read_status(folder).of_plan(planned).parts:
        outputs = [folder / path for path in part.outputs]
        if part.state != "done" or (outputs and digests.of(*outputs) != part.sha256):
            whole = False
        elif whole or part.stage != "report":
            yield part


def read_status(folder: Path) -> Status:
    """The status of a study; an empty one where there is no file, or it holds none."""
    try:
        return _ADAPTER.validate_json((folder / STATUS).read_bytes())
    except (OSError, ValueError):
        return Status()


def write_status(folder: Path, status: Status, *, lasting: bool = True) -> None:
    """Write a status in one step. Raises OutputError.

    ``lasting``: wait for the disk; what a crash of the machine loses otherwise is made again.
    """
    content = json.loads(_ADAPTER.dump_json(status, exclude_defaults=True))
    told = {"format": 1, "state": status.state, **content}
    path = make_folder(folder) / STATUS
    if lasting:
        write_json(path, told)
        return
    temporary = temporary_path(path)
    with as_output_error(path):
        try:
            temporary.write_bytes(json_bytes(told))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
