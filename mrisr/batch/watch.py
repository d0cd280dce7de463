"""Progress of a batch, by the status files that its processes write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mrisr.batch.names import STAGES, Stage, status_file
from mrisr.batch.plan import Plan
from mrisr.batch.status import read_status


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
        self._plan, self._out = plan, out
        self._seen = {study.folder: self._changed(study.folder) for study in plan.studies}
        #: Study -> stages that have been dealt with, and those that failed.
        self._ended: dict[str, tuple[set[Stage], set[Stage]]] = {
            study.folder: (study.stages - study.stages_todo, set()) for study in plan.studies
        }

    def look(self) -> Mapping[Stage, Count]:
        """The counts as they are now."""
        for study in self._plan.studies:
            folder, changed = study.folder, self._changed(study.folder)
            if changed != self._seen[folder]:
                self._seen[folder] = changed
                parts = read_status(self._out / folder).of_plan(study.parts).parts
                ended = study.stages - {p.stage for p in parts if p.state == "unfinished"}
                failed = {p.stage for p in parts if p.state == "failed"}
                self._ended[folder] = ended, ended & failed
        return {
            stage: Count(
                self._plan.count(stage)[1],
                *(sum(stage in study[i] for study in self._ended.values()) for i in (0, 1)),
            )
            for stage in STAGES
        }

    def _changed(self, folder: str) -> int:
        try:
            return status_file(self._out / folder).stat().st_mtime_ns
        except OSError:
            return 0
