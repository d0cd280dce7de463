"""How far a batch is, by the status files that its stages write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mrisr.batch.names import STAGES, Stage, read_json, status_file
from mrisr.batch.plan import Plan


@dataclass
class Count:
    """Studies of one stage: all of them, those dealt with so far, and those among them that failed."""

    total: int
    done: int = 0
    failed: int = 0


class Watch:
    """Counts the studies that are dealt with, by stage.

    Args:
        plan: of the batch; its studies that need no work count as done from the beginning.
        out: the batch's folder.
    """

    def __init__(self, plan: Plan, out: Path) -> None:
        self.counts: Mapping[Stage, Count] = {}
        self._waiting: list[tuple[Stage, Path, int]] = []
        counts = {}
        for stage in STAGES:
            todo, total = plan.count(stage)
            counts[stage] = Count(total, total - todo)
            for study in plan.studies:
                if stage in plan.todo[study.folder]:
                    path = status_file(out / study.folder, stage)
                    self._waiting.append((stage, path, _changed(path)))
        self.counts = counts

    def look(self) -> Mapping[Stage, Count]:
        """The counts as they are now."""
        waiting = []
        for stage, path, before in self._waiting:
            if _changed(path) == before:
                waiting.append((stage, path, before))
                continue
            self.counts[stage].done += 1
            self.counts[stage].failed += read_json(path).get("state") == "failed"
        self._waiting = waiting
        return self.counts


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
