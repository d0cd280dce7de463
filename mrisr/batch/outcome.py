"""The outcome of a batch: ``outcome.json`` and ``outcome.csv``, a row for each study."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mrisr
from mrisr.batch.parts import State
from mrisr.batch.plan import read_plan
from mrisr.batch.status import StageStatus, Status, most, read_status, stages_of
from mrisr.io.atomic import json_bytes, write_together

FORMAT = 1


@dataclass(frozen=True)
class StudyOutcome:
    """A study at the end of a batch.

    Attributes:
        folder: within the output.
        state: failed where any part failed; unfinished where nothing failed and something was not made.
        stages: those that were planned.
        reasons: what went wrong, a line for each thing.
        scores: volume -> zone -> figure, where there are labels.
    """

    folder: str
    state: State
    stages: Sequence[StageStatus]
    reasons: Sequence[str]
    scores: dict[str, dict[str, dict[str, float | None]]]

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> wall clock."""
        return {stage.name: stage.seconds for stage in self.stages}

    @property
    def peak_memory_gib(self) -> dict[str, float]:
        """The most memory of any stage, of the process and on CUDA of the device, where measurable."""
        return most([stage.peak_memory_gib for stage in self.stages])

    def as_json(self) -> dict[str, Any]:
        """The study in ``outcome.json``, with subject and session as in the manifest."""
        subject, _, session = self.folder.removeprefix("sub-").partition("/ses-")
        return {
            "subject": subject,
            "session": session,
            "folder": self.folder,
            "state": self.state,
            "stages": {stage.name: stage.state for stage in self.stages},
            "reasons": list(self.reasons),
            "seconds": self.seconds,
            "peak_memory_gib": self.peak_memory_gib,
            "scores": self.scores,
            "total_seconds": round(sum(self.seconds.values()), 3),
        }


def write_outcome(out: Path) -> list[StudyOutcome]:
    """Write ``outcome.json`` and ``outcome.csv``; the outcome of each study of the last plan.

    Raises UsageError: there is no batch; OutputError.
    """
    studies = [
        study_outcome(study.folder, read_status(out / study.folder).of_plan(study.parts))
        for study in read_plan(out).studies
    ]
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


def study_outcome(folder: str, status: Status) -> StudyOutcome:
    """The outcome of a study, by its folder within the output and its status."""
    failed = (part for part in status.parts if part.state == "failed")
    return StudyOutcome(
        folder,
        status.state,
        stages_of(status.parts),
        [f"{p.stage} {p.name}: {p.reason.removeprefix(f'{p.name}: ')}" for p in failed],
        {p.name: p.scores for p in status.parts if p.stage == "score" and p.state == "done"},
    )


def _as_csv(studies: Sequence[StudyOutcome]) -> str:
    """A row for each study; the scores of all volumes, zones and figures that any has are columns."""
    rows: list[dict[str, Any]] = []
    for study in studies:
        told = study.as_json()
        row = {key: told[key] for key in ("subject", "session", "state")}
        row["reasons"] = "; ".join(study.reasons)
        row["seconds"] = round(told["total_seconds"], 1)
        row["peak_memory_gib"] = study.peak_memory_gib.get("process", "")
        for volume, zones in study.scores.items():
            for zone, figures in zones.items():
                row |= {f"{volume}_{zone}_{figure}": value for figure, value in figures.items()}
        rows.append(row)
    out = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
