"""What has been done of a study: the status of each stage, and the journal while it is at work.

A status (``status/<stage>.json`` in the study's folder) is written once a stage has ended for a study. Until
then the journal, in the hidden folder, keeps what is done, and the part that is being worked on: a journal
that a process finds is the trace of one that died.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from mrisr.batch.chunk import Part, StudyPlan
from mrisr.batch.digest import Digests, digest_of
from mrisr.batch.names import STAGES, Stage, read_json, status_file
from mrisr.io.atomic import as_output_error, make_folder
from mrisr.io.leftovers import temporary_path

State = Literal["done", "failed", "skipped"]
#: What differs between two runs that give the same result.
VOLATILE = ("seconds", "peak_memory_gib", "finished", "attempts")


@dataclass(frozen=True)
class Record:
    """How one part ended.

    Attributes:
        state: skipped is what lacks the result of an earlier part.
        key: the part's, see :class:`mrisr.batch.chunk.Part`.
        reason: why it failed or was skipped, on one line.
        seconds: wall clock.
        peak_memory_gib: of the process (and on CUDA of the device) while it was made, where measurable.
        outputs: path within the study's folder -> SHA-256.
        facts: what later stages, or the outcome, need to know; ready for JSON.
    """

    state: State
    key: str
    reason: str = ""
    seconds: float = 0.0
    peak_memory_gib: dict[str, float] | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def write_quickly(path: Path, content: Any) -> None:
    """Write JSON in one step, but without waiting for the disk. Raises OutputError.

    What a crash of the machine loses of it is made again.
    """
    make_folder(path.parent)
    temporary = temporary_path(path)
    with as_output_error(path):
        try:
            temporary.write_bytes(json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_records(folder: Path, stage: Stage) -> dict[str, Record]:
    """Part -> how it ended, by the status of a stage."""
    return records_in(read_json(status_file(folder, stage)))


def records_in(status: Mapping[str, Any]) -> dict[str, Record]:
    """The records of a status; those that cannot be understood are left out."""
    found = {}
    parts = status.get("parts")
    for name, content in parts.items() if isinstance(parts, dict) else ():
        with suppress(TypeError):
            found[name] = Record(**content)
    return found


def is_settled(folder: Path, part: Part, record: Record | None, digests: Digests) -> bool:
    """Whether a part needs no work: done by the same key, and its outputs are as they were written."""
    return (
        record is not None
        and record.state == "done"
        and record.key == part.key
        and all(digests.of(folder / path) == sha for path, sha in record.outputs.items())
    )


def seen_by_page(folder: Path) -> dict[str, str]:
    """Stage -> digest of its status as far as it matters: what the page of a study was made from."""
    found: dict[str, str] = {}
    for stage in STAGES:
        status = read_json(status_file(folder, stage))
        if status and stage != "report":
            found[stage] = digest_of(without_volatile(status))
    return found


def without_volatile(content: Any) -> Any:
    """A status without times, memory and the digests of files that hold such."""
    if isinstance(content, dict):
        return {
            key: without_volatile(value)
            for key, value in content.items()
            if key not in VOLATILE and not key.endswith((".json", ".html"))
        }
    return content


def unsettled(out: Path, study: StudyPlan, digests: Digests) -> set[Stage]:
    """The stages that have work to do for a study."""
    folder = out / study.folder
    found: set[Stage] = set()
    for stage in STAGES:
        records = read_records(folder, stage)
        parts = study.of(stage)
        if set(records) - {part.name for part in parts}:
            found.add(stage)  # something is to be removed
        if not all(is_settled(folder, p, records.get(p.name), digests) for p in parts):
            found.add(stage)
    page = read_records(folder, "report").get("page")
    if found or page is None or page.facts.get("seen") != seen_by_page(folder):
        found.add("report")
    return found


def status_of(
    stage: Stage, parts: Sequence[Part], records: Mapping[str, Record], attempts: int
) -> dict[str, Any]:
    """The content of a status file."""
    ended = [records[part.name] for part in parts]
    return {
        "stage": stage,
        "state": _state(ended),
        "key": digest_of([part.key for part in parts]),
        "reason": reason_in(parts, records),
        "seconds": round(sum(r.seconds for r in ended), 3),
        "peak_memory_gib": _peak(ended),
        "inputs": {role: digest for part in parts for role, digest in part.inputs.items()},
        "outputs": {path: sha for r in ended for path, sha in r.outputs.items()},
        "parameters": {part.name: part.parameters for part in parts if part.parameters},
        "model": {part.name: part.model for part in parts if part.model},
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "attempts": attempts,
        "parts": {part.name: asdict(records[part.name]) for part in parts},
    }


def reason_in(parts: Sequence[Part], records: Mapping[str, Record]) -> str:
    """What went wrong in a stage, each thing said once."""
    said = []
    for part in parts:
        record = records[part.name]
        named = record.state == "skipped" or record.reason.startswith(f"{part.name}: ")
        said += (
            [record.reason if named else f"{part.name}: {record.reason}"] if record.reason else []
        )
    return "; ".join(dict.fromkeys(said))


def _state(records: Iterable[Record]) -> State:
    states = {record.state for record in records}
    return "failed" if "failed" in states else "skipped" if "skipped" in states else "done"


def _peak(records: Iterable[Record]) -> dict[str, float] | None:
    peak: dict[str, float] = {}
    for record in records:
        for what, gib in (record.peak_memory_gib or {}).items():
            peak[what] = max(gib, peak.get(what, 0.0))
    return peak or None


class Journal:
    """What a stage has done of one study, kept until its status is written.

    Args:
        path: of the journal's file.

    ``died`` tells whether it was left by a process that died.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_json(path)
        self.died = bool(content)
        self.records = records_in({"parts": content.get("done")})
        attempts = content.get("attempts")
        self.attempts: dict[str, int] = attempts if isinstance(attempts, dict) else {}

    def begin(self, part: Part) -> None:
        """Note that a part is being worked on."""
        self.attempts[part.name] = self.attempts.get(part.name, 0) + 1
        self._write()

    def withdraw(self, part: Part) -> None:
        """Take back the last ``begin``: the part was stopped, it did not bring the process down."""
        self.attempts[part.name] -= 1
        self._write()

    def end(self, part: Part, record: Record) -> None:
        """Keep how a part ended. It is on the disk with the next ``begin``, or with the status."""
        self.records[part.name] = record

    def close(self) -> None:
        """Remove the journal, and its folders where they are empty."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.parent.rmdir()

    def _write(self) -> None:
        done = {name: asdict(record) for name, record in self.records.items()}
        write_quickly(self.path, {"attempts": self.attempts, "done": done})


def forget_attempts(path: Path) -> None:
    """Keep what a journal says is done, and forget how often its process died. Raises OutputError."""
    content = read_json(path)
    if content:
        attempts = dict.fromkeys(content.get("attempts") or {}, 0)
        write_quickly(path, {**content, "attempts": attempts})
