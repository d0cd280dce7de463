"""One stage over the studies of a chunk. Whatever a study does, the next one gets its turn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mrisr.batch.chunk import Part, StudyPlan, read_chunk
from mrisr.batch.digest import Digests
from mrisr.batch.locks import FileLock
from mrisr.batch.memory import peak_memory_gib, start_measuring
from mrisr.batch.names import (
    ALONG,
    HIDDEN,
    Stage,
    journal_file,
    lock_file,
    out_of,
    read_json,
    status_file,
)
from mrisr.batch.stages import MAKE, SCORES, possible_outputs, write_scores
from mrisr.batch.state import (
    Journal,
    Record,
    is_settled,
    read_records,
    reason_in,
    records_in,
    seen_by_page,
    status_of,
)
from mrisr.batch.work import Models, Work
from mrisr.core.errors import MrisrError, OutputError, out_of_memory
from mrisr.io import write_json
from mrisr.io.atomic import make_folder
from mrisr.io.leftovers import remove

Report = Callable[[str], None]
#: A part at which the process died this often is given up.
DEATHS = 2
DIED = f"the process died here {DEATHS} times (killed, out of memory, or a crash of a library)"
_LONGEST_REASON = 500


def run_chunk(stage: Stage, path: Path, report: Report = lambda line: None) -> None:
    """Do what a stage has to do for the studies of a chunk, and write the status of each.

    Raises:
        UsageError: the file is no chunk.
        OutputError: a status cannot be written, which concerns all studies.
    """
    chunk, out = read_chunk(path), out_of(path)
    shard = out / HIDDEN / "digests" / f"{stage}-{path.stem}.json"
    digests = Digests.load([shard])
    models = Models(chunk.settings)
    for study in chunk.studies:
        with FileLock(lock_file(out, study.folder)):
            for name in (stage, *ALONG.get(stage, ())):
                run = StudyRun(name, Work(out, study, models), out, digests)
                if not run.wanted():
                    journal_file(out, name, study.folder).unlink(missing_ok=True)
                    break
                run.run()
                report(f"{study.folder}: {name} {run.said()}")
    digests.save(shard)


class StudyRun:
    """One stage at one study.

    Args:
        stage: which.
        work: the study's files and the process's models.
        out: the batch's folder.
        digests: of the outputs.
    """

    def __init__(self, stage: Stage, work: Work, out: Path, digests: Digests) -> None:
        self.stage, self.work, self.out, self.digests = stage, work, out, digests
        self.plan: StudyPlan = work.plan
        self.parts = self.plan.of(stage)
        self.status = status_file(work.folder, stage)
        self.before = records_in(read_json(self.status))
        self.records = {p.name: self.before[p.name] for p in self.parts if self._settled(p)}

    def wanted(self) -> bool:
        """Whether there is anything to make, or to remove."""
        names = {part.name for part in self.parts}
        return len(self.records) < len(names) or bool(set(self.before) - names)

    def run(self) -> None:
        """Make what is missing and write the status."""
        journal = Journal(journal_file(self.out, self.stage, self.plan.folder))
        if journal.died:
            self._clean_up_after(journal)
        for part in self.parts:
            if part.name not in self.records:
                self._take_part(part, journal)
        self._remove_the_rest()
        self._write_status(max(journal.attempts.values(), default=1))
        journal.close()

    def said(self) -> str:
        """How the study ended, on one line."""
        states = Counter(record.state for record in self.records.values())
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        reason = reason_in(self.parts, self.records)
        return (told or "nothing to make") + (f" ({reason})" if reason else "")

    def _settled(self, part: Part) -> bool:
        record = self.before.get(part.name)
        settled = is_settled(self.work.folder, part, record, self.digests)
        if settled and self.stage == "report" and record is not None:
            return record.facts.get("seen") == seen_by_page(self.work.folder)
        return settled

    def _clean_up_after(self, journal: Journal) -> None:
        """Take over what a process has done that died, and remove what it left half done."""
        for part in self.parts:
            record = journal.records.get(part.name)
            if is_settled(self.work.folder, part, record, self.digests) and record is not None:
                self.records.setdefault(part.name, record)
        for name in {*journal.attempts, *journal.records}:
            for path in possible_outputs(self.stage, name):
                target = self.work.folder / path
                for left in target.parent.glob(f".{target.name}.mrisr-*"):
                    _remove(left)
        known = {part.name for part in self.parts}
        for name in set(journal.attempts) - known:
            self.before.setdefault(name, Record("failed", ""))

    def _take_part(self, part: Part, journal: Journal) -> None:
        """Make one part, or record why not."""
        lacking = self._lacking(part)
        if lacking is not None:
            self.records[part.name] = Record("skipped", part.key, lacking)
        elif journal.attempts.get(part.name, 0) >= DEATHS:
            self.records[part.name] = Record("failed", part.key, DIED)
        else:
            self.work.models.prepare(self.stage)
            journal.begin(part)
            try:
                self.records[part.name] = self._made(part)
            except BaseException:  # stopped, not failed
                journal.withdraw(part)
                raise
        journal.end(part, self.records[part.name])

    def _made(self, part: Part) -> Record:
        """Make one part; an error becomes its reason."""
        measuring = start_measuring()
        began = time.perf_counter()
        try:
            make_folder(self.work.folder)
            made = MAKE[self.stage](self.work, part)
            outputs = {path: self.digests.of(self.work.folder / path) for path in made.outputs}
            lost = [path for path, digest in outputs.items() if digest is None]
            if lost:
                raise OutputError(f"{lost[0]}: cannot be read back")
            record = Record("done", part.key, facts=dict(made.facts))
            record = replace(record, outputs={k: v for k, v in outputs.items() if v})
        except Exception as error:
            record = Record("failed", part.key, self.work.without_paths(reason_of(error)))
        peak = peak_memory_gib() if measuring else None
        seconds = round(time.perf_counter() - began, 3)
        return replace(record, seconds=seconds, peak_memory_gib=peak)

    def _lacking(self, part: Part) -> str | None:
        """Why a part cannot be made: the first result of an earlier stage that is not there."""
        for need in part.needs:
            stage, _, name = need.partition("/")
            planned = next(p for p in self.plan.parts if (p.stage, p.name) == (stage, name))
            record = read_records(self.work.folder, planned.stage).get(name)
            if record is None or record.key != planned.key:
                return f"{name} was not made by {stage}"
            if record.state == "failed":
                return f"{name} failed in {stage}"
            if record.state == "skipped":
                return record.reason
        return None

    def _remove_the_rest(self) -> None:
        """Remove results that did not come about this time, or are not asked for any more."""
        for name in {*self.before, *self.records}:
            record, old = self.records.get(name), self.before.get(name)
            kept = record.outputs if record is not None and record.state == "done" else {}
            known = {*possible_outputs(self.stage, name), *(old.outputs if old else ())}
            for path in known - {*kept, SCORES}:
                _remove(self.work.folder / path)

    def _write_status(self, attempts: int) -> None:
        if self.stage == "score":
            written = write_scores(self.work, self.records)
            digest = written and self.digests.of_file(self.work.folder / written)
            for name, record in self.records.items():
                if record.state == "done" and written and digest:
                    self.records[name] = replace(record, outputs={written: digest})
        if self.stage == "report":
            seen = {"seen": seen_by_page(self.work.folder)}
            self.records = {n: replace(r, facts=seen) for n, r in self.records.items()}
        if not self.parts:
            self.status.unlink(missing_ok=True)
            return
        make_folder(self.status.parent)
        status = status_of(self.stage, self.parts, self.records, attempts)
        write_json(self.status, status)


def reason_of(error: Exception) -> str:
    """An error as one printable line."""
    if isinstance(error, MrisrError):
        text = str(error)
    elif out_of_memory(error):
        text = "out of memory"
    else:
        text = f"{type(error).__name__}: {error}"
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:_LONGEST_REASON]


def _remove(path: Path) -> None:
    """Remove a file or a folder of ours, and its folder where that is then empty."""
    remove(path)
    with suppress(OSError):
        path.parent.rmdir()
