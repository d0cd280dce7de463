"""The outcome of a batch: ``outcome.json`` and ``outcome.csv``, a row for each study."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mrisr
from mrisr.batch.plan import read_plan
from mrisr.batch.status import Status, read_status
from mrisr.io.atomic import json_bytes, write_together

FORMAT = 1
#: A study's folder within the output -> its status.
Outcome = Mapping[str, Status]


def write_outcome(out: Path) -> Outcome:
    """Write ``outcome.json`` and ``outcome.csv``; the status of each study of the last plan.

    Raises UsageError: there is no batch; OutputError.
    """
    outcome = {
        study.folder: read_status(out / study.folder).of_plan(study.parts)
        for study in read_plan(out).studies
    }
    studies = [_told(folder, status) for folder, status in outcome.items()]
    content = {
        "format": FORMAT,
        "mrisr": mrisr.__version__,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "counts": dict(sorted(Counter(study["state"] for study in studies).items())),
        "studies": studies,
    }
    files = {"outcome.json": json_bytes(content), "outcome.csv": _as_csv(studies).encode()}
    write_together({out / name: data for name, data in files.items()})
    return outcome


def _told(folder: str, status: Status) -> dict[str, Any]:
    """A study in ``outcome.json``, with subject and session as in the manifest."""
    subject, _, session = folder.removeprefix("sub-").partition("/ses-")
    return {
        "subject": subject,
        "session": session,
        "folder": folder,
        "state": status.state,
        "stages": {name: stage.state for name, stage in status.stages.items()},
        "reasons": status.reasons,
        "seconds": {name: stage.seconds for name, stage in status.stages.items()},
        "peak_memory_gib": status.peak_memory_gib,
        "scores": status.scores,
        "total_seconds": status.seconds,
    }


def _as_csv(studies: Sequence[dict[str, Any]]) -> str:
    """A row for each study; the scores of all volumes, zones and figures that any has are columns."""
    rows: list[dict[str, Any]] = []
    for study in studies:
        row = {key: study[key] for key in ("subject", "session", "state")}
        row["reasons"] = "; ".join(study["reasons"])
        row["seconds"] = round(study["total_seconds"], 1)
        row["peak_memory_gib"] = study["peak_memory_gib"].get("process", "")
        for volume, zones in study["scores"].items():
            for zone, figures in zones.items():
                row |= {f"{volume}_{zone}_{figure}": value for figure, value in figures.items()}
        rows.append(row)
    out = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
