"""Progress of a batch, by the status files that its processes write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mrisr.batch.names import STAGES, Stage, status_file
from mrisr.batch.plan import Plan, StudyPlan
from mrisr.batch.status import read_status, stages_of


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
        self._out = out
        self._totals = {stage: plan.count(stage)[1] for stage in STAGES}
        self._studies = {study.folder: study for study in plan.studies if study.todo}
        self._seen = {folder: self._changed(folder) for folder in self._studies}
        #: Study -> stages that have been dealt with, and those that failed.
        self._ended: dict[str, tuple[set[Stage], set[Stage]]] = {
            study.folder: (study.stages - study.stages_todo, set()) for study in plan.studies
        }

    def look(self) -> Mapping[Stage, Count]:
        """The counts as they are now."""
        for folder, study in self._studies.items():
            changed = self._changed(folder)
            if changed != self._seen[folder]:
                self._seen[folder] = changed
                self._ended[folder] = self._stages(study)
        ended = self._ended.values()
        return {
            stage: Count(total, *(sum(stage in study[i] for study in ended) for i in (0, 1)))
            for stage, total in self._totals.items()
        }

    def _stages(self, study: StudyPlan) -> tuple[set[Stage], set[Stage]]:
        parts = read_status(self._out / study.folder).of_plan(study.parts).parts
        waiting = {part.stage for part in parts if part.state == "unfinished"}
        failed = {stage.name for stage in stages_of(parts) if stage.state == "failed"}
        return study.stages - waiting, failed - waiting

    def _changed(self, folder: str) -> int:
        try:
            return status_file(self._out / folder).stat().st_mtime_ns
        except OSError:
            return 0
