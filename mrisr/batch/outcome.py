"""How a batch has ended: ``outcome.json`` and ``outcome.csv``, a row for each study."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import mrisr
from mrisr.batch.chunk import StudyPlan, read_chunk
from mrisr.batch.names import HIDDEN, STAGES, Stage, read_json, status_file
from mrisr.batch.state import Record, read_records
from mrisr.core.errors import UsageError
from mrisr.io.atomic import json_bytes, write_together

FORMAT = 1
Ending = Literal["done", "failed", "unfinished"]


@dataclass(frozen=True)
class StudyOutcome:
    """How a study has ended.

    Attributes:
        subject, session: as in the manifest.
        folder: within the output.
        state: failed where any part failed; unfinished where nothing failed and something was not made.
        stages: stage -> its state.
        reasons: what went wrong, a line for each thing.
        seconds: stage -> wall clock.
        peak_memory_gib: of the process (and on CUDA of the device), where measurable.
        scores: volume -> zone -> figure, where there are labels.
    """

    subject: str
    session: str
    folder: str
    state: Ending
    stages: dict[str, str]
    reasons: tuple[str, ...]
    seconds: dict[str, float]
    peak_memory_gib: dict[str, float]
    scores: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What ``outcome.json`` says of the study."""
        return {
            **vars(self),
            "reasons": list(self.reasons),
            "total_seconds": round(sum(self.seconds.values()), 3),
        }


def read_outcome(out: Path) -> list[StudyOutcome]:
    """How each study of the last plan has ended. Raises UsageError where there is no batch."""
    chunks = sorted((out / HIDDEN / "chunks").glob("*.json"))
    if not chunks:
        raise UsageError(f"{out}: expected the folder of a batch, found none")
    return [_study(out, study) for chunk in chunks for study in read_chunk(chunk).studies]


def write_outcome(out: Path) -> list[StudyOutcome]:
    """Write ``outcome.json`` and ``outcome.csv``; returns what they say. Raises UsageError, OutputError."""
    studies = read_outcome(out)
    content = {
        "format": FORMAT,
        "mrisr": mrisr.__version__,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "counts": dict(sorted(Counter(study.state for study in studies).items())),
        "studies": [study.as_json() for study in studies],
    }
    write_together(
        {out / "outcome.json": json_bytes(content), out / "outcome.csv": _as_csv(studies).encode()}
    )
    return studies


def _study(out: Path, plan: StudyPlan) -> StudyOutcome:
    folder = out / plan.folder
    records: dict[Stage, dict[str, Record]] = {s: read_records(folder, s) for s in STAGES}
    stages: dict[str, str] = {}
    seconds: dict[str, float] = {}
    reasons: list[str] = []
    lacking = False
    for stage in STAGES:
        status = read_json(status_file(folder, stage))
        if status and plan.of(stage):
            stages[stage] = str(status.get("state"))
            seconds[stage] = float(status.get("seconds") or 0)
        for part in plan.of(stage):
            record = records[stage].get(part.name)
            if record is None or record.key != part.key:
                lacking = True
            elif record.state == "failed":
                reasons.append(
                    f"{stage} {part.name}: {record.reason.removeprefix(f'{part.name}: ')}"
                )
    subject, _, session = plan.folder.removeprefix("sub-").partition("/ses-")
    peaks = [r.peak_memory_gib or {} for of_stage in records.values() for r in of_stage.values()]
    return StudyOutcome(
        subject,
        session,
        plan.folder,
        "failed" if reasons else "unfinished" if lacking else "done",
        stages,
        tuple(reasons),
        seconds,
        {
            what: max(p.get(what, 0.0) for p in peaks)
            for what in sorted({w for p in peaks for w in p})
        },
        {n: r.facts["scores"] for n, r in records["score"].items() if "scores" in r.facts},
    )


def _as_csv(studies: Sequence[StudyOutcome]) -> str:
    scored: dict[str, tuple[str, str, str]] = {}
    for study in studies:
        for volume, zones in study.scores.items():
            for zone, figures in zones.items():
                for figure in figures:
                    scored[f"{volume}_{zone}_{figure}"] = (volume, zone, figure)
    names = ["subject", "session", "state", "reasons", "seconds", "peak_memory_gib", *scored]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for study in studies:
        row: dict[str, Any] = {
            "subject": study.subject,
            "session": study.session,
            "state": study.state,
            "reasons": "; ".join(study.reasons),
            "seconds": round(sum(study.seconds.values()), 1),
            "peak_memory_gib": study.peak_memory_gib.get("process", ""),
        }
        for name, (volume, zone, figure) in scored.items():
            row[name] = study.scores.get(volume, {}).get(zone, {}).get(figure)
        writer.writerow(row)
    return out.getvalue()
