"""``mrisr batch``: plan, run the workflow, watch it, and say how it ended."""

import csv
import importlib.metadata
import io
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mrisr
from mrisr.batch.bids import Dataset
from mrisr.batch.manifest import Study, read_manifest
from mrisr.batch.names import HIDDEN, STAGES, Stage, lock_file
from mrisr.batch.plan import Plan, Report, make_plan, read_plan, write_plan
from mrisr.batch.report.overview import write_overview
from mrisr.batch.run import PATIENCE_S, die_with_parent
from mrisr.batch.settings import BatchSettings, load_batch
from mrisr.batch.status import Digests, Outcome, Status, read_status
from mrisr.batch.workflow import (
    Profile,
    check_snakemake,
    chunk_size,
    find_profile,
    has_gpu,
    snakemake_command,
)
from mrisr.core.errors import MrisrError, UsageError
from mrisr.io import write_json
from mrisr.io.atomic import as_output_error, json_bytes, make_folder, write_together
from mrisr.io.files import locked
from mrisr.models.card import FOLDER_VARIABLE

#: Receives the progress of the batch.
Show = Callable[[Mapping[Stage, "Count"]], None]
#: Seconds between two looks at the status files, where few studies are left, and per study.
LOOK_S, LOOK_EACH_S = 0.5, 0.01
#: Seconds that the workflow of a batch that was killed may take to die.
DYING_S = 5.0
LOG = f"{HIDDEN}/logs/snakemake.log"


@dataclass(frozen=True)
class Request:
    """A batch as it is asked for; the options of ``mrisr batch``, and further arguments of Snakemake.

    The studies are those of a manifest, or of a BIDS data set.
    """

    manifest: Path | Dataset
    out: Path
    config: Path | None = None
    profile: str = "local"
    jobs: int | None = None
    chunk: int | None = None
    extra: tuple[str, ...] = ()


@dataclass
class Count:
    """Studies of one stage: all of them, those dealt with so far, and those among them that failed."""

    total: int
    done: int = 0
    failed: int = 0


def progress(plan: Plan, out: Path) -> dict[Stage, Count]:
    """The studies of each stage that are dealt with; those that need no work are from the beginning."""
    counts = {stage: Count(plan.count(stage)[1]) for stage in STAGES}
    for study in plan.studies:
        ended, failed = study.stages - study.stages_todo, set[Stage]()
        status = read_status(out / study.folder) if study.todo else Status()
        if status.batch == plan.batch:
            parts = status.of_plan(study.parts).parts
            ended = study.stages - {p.stage for p in parts if p.state == "unfinished"}
            failed = {p.stage for p in parts if p.state == "failed"}
        for stage in ended:
            counts[stage].done += 1
            counts[stage].failed += stage in failed
    return counts


def run_batch(request: Request, show: Show, report: Report) -> Outcome:
    """Run a batch, or go on with one; the outcome of each study.

    Raises:
        UsageError: Snakemake or a model is missing, or another batch is running in the folder.
        InputError: the manifest or the settings cannot be used.
        MrisrError: the workflow itself failed; the message names its log.
    """
    profile, settings, studies = _read(request, report)
    out = make_folder(request.out)
    with _alone(out) as handle:
        plan, digests = make_plan(studies, settings, out, report)
        write_json(out / "batch.json", _told(plan, request, profile))
        command = _command(plan, digests, request, profile, out, report)
        code = _run(command, plan, out, show, handle) if command else 0
        outcome = _end(out, code)
        if isinstance(request.manifest, Dataset):
            request.manifest.write(read_plan(out), outcome, out)
        return outcome


def dry_run(request: Request, report: Report) -> str:
    """The jobs that a batch would have, by Snakemake's account; the batch's folder is not touched.

    Raises: as :func:`run_batch`.
    """
    profile, settings, studies = _read(request, report)
    plan, digests = make_plan(studies, settings, request.out, report)
    with tempfile.TemporaryDirectory(prefix="mrisr-") as folder:
        command = _command(plan, digests, request, profile, Path(folder), report)
        if not command:
            return "nothing to do"
        with _runnable(command[0]):
            done = subprocess.run(
                [*command, "--dry-run", "--quiet", "rules"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(Path(folder)),
                text=True,
                check=False,
            )
    if done.returncode:
        raise MrisrError(f"the workflow cannot run: {_last_line(done.stdout)}")
    _, _, stats = done.stdout.rpartition("Job stats:\n")
    return f"jobs of the workflow:\n{stats.partition(f'{os.linesep}{os.linesep}')[0]}"


def _read(request: Request, report: Report) -> tuple[Profile, BatchSettings, list[Study]]:
    check_snakemake()
    profile, settings, source = (
        find_profile(request.profile),
        load_batch(request.config),
        request.manifest,
    )
    if isinstance(source, Dataset):
        return profile, settings, source.studies(settings, report)
    return profile, settings, read_manifest(source)


@contextmanager
def _alone(out: Path) -> Iterator[int]:
    """Hold the batch's lock; its handle."""
    lock, end = lock_file(out, "batch"), time.monotonic() + DYING_S
    with ExitStack() as stack:
        while True:
            try:
                handle = stack.enter_context(locked(lock, wait=False))
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UsageError(f"{out}: another batch is running here") from None
                time.sleep(0.1)
        yield handle


def _command(
    plan: Plan, digests: Digests, request: Request, profile: Profile, out: Path, report: Report
) -> list[str]:
    """Write and tell a plan; the command that runs it, empty where there is nothing to do."""
    for stage in STAGES:
        todo, total = plan.count(stage)
        if total:
            kept = f", {total - todo} kept" if total > todo else ""
            report(f"{stage}: {todo} studies to do{kept}")
    gpu = plan.settings.device != "cpu" and has_gpu()
    todo = sum(bool(study.todo) for study in plan.studies)
    chunk = request.chunk or chunk_size(todo, profile, request.jobs, gpu)
    if not write_plan(plan, digests, out, chunk):
        return []
    return [*snakemake_command(out, profile, request.jobs, gpu), *request.extra]


def _run(command: list[str], plan: Plan, out: Path, show: Show, lock: int) -> int:
    """Run Snakemake and show how far it is; its exit code. Ctrl-C, SIGTERM or an error stop it with its jobs.

    It inherits the batch's lock: should it outlive this process, no other batch begins beside it.
    """
    log = out / LOG
    make_folder(log.parent)
    pause = LOOK_S + LOOK_EACH_S * len(plan.studies)
    with as_output_error(log), log.open("wb") as file, _runnable(command[0]):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=_environment(out),
            pass_fds=(lock,),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        while process.poll() is None:
            show(progress(plan, out))
            with suppress(subprocess.TimeoutExpired):
                process.wait(pause)
        show(progress(plan, out))
        return process.returncode
    except BaseException:
        for number in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(2 * PATIENCE_S)
        raise


def _end(out: Path, code: int) -> Outcome:
    """Write outcome and page of all studies, once Snakemake has ended."""
    outcome = write_outcome(out)
    write_overview(out, outcome)
    unfinished = sum(status.state == "unfinished" for status in outcome.values())
    if unfinished:
        log = out / LOG
        told = _last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise MrisrError(
            f"the workflow failed (exit code {code}) with {unfinished} studies unfinished: "
            f"{told}; its log is {log}"
        )
    return outcome


def write_outcome(out: Path) -> Outcome:
    """Write ``outcome.json`` and ``outcome.csv``; the status of each study of the last plan.

    Raises UsageError: there is no batch; OutputError.
    """
    outcome = {
        study.folder: read_status(out / study.folder).of_plan(study.parts)
        for study in read_plan(out).studies
    }
    studies = [_told_of(folder, status) for folder, status in outcome.items()]
    content = {
        "format": 1,
        "mrisr": mrisr.__version__,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "counts": dict(sorted(Counter(study["state"] for study in studies).items())),
        "studies": studies,
    }
    table = _as_csv(studies).encode()
    write_together({out / "outcome.json": json_bytes(content), out / "outcome.csv": table})
    return outcome


def _told_of(folder: str, status: Status) -> dict[str, Any]:
    """A study in ``outcome.json``, with subject and session as in the manifest."""
    subject, _, session = folder.removeprefix("sub-").partition("/ses-")
    return {
        "subject": subject,
        "session": session,
        "folder": folder,
        "state": status.state,
        "stages": {name: stage.state for name, stage in status.stages.items()},
        "reasons": status.reasons,
        "check": status.check,
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
        row |= {key: "; ".join(study[key]) for key in ("reasons", "check")}
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


def _told(plan: Plan, request: Request, profile: Profile) -> dict[str, Any]:
    """The content of ``batch.json``: how the results were made, without a path of this machine."""
    settings = plan.settings.model_dump(mode="json", exclude_none=True)
    for part in (*settings["upsampled"].values(), settings.get("zones") or {}):
        part |= {k: Path(part[k]).name for k in ("model", "bundle", "nnunet") if k in part}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "snakemake")}
    return {
        "format": 1,
        "mrisr": mrisr.__version__,
        "studies": len(plan.studies),
        "settings": settings,
        "models": plan.models,
        "profile": Path(request.profile).name,
        "chunk": request.chunk or profile.chunk,
        "software": {"python": platform.python_version(), **versions},
    }


@contextmanager
def _runnable(program: str) -> Iterator[None]:
    """Say which program cannot be run. Raises MrisrError."""
    try:
        yield
    except OSError as error:
        raise MrisrError(f"{program}: cannot be run: {error.strerror}") from error


def _environment(out: Path) -> dict[str, str]:
    """The environment of the workflow, which works in another folder than this process.

    In a container a user may have no home, or none that can be written: Snakemake has one in the batch's.
    """
    own, changed = str(out.absolute() / HIDDEN / "home"), {}
    if models := os.environ.get(FOLDER_VARIABLE):
        changed[FOLDER_VARIABLE] = str(Path(models).absolute())
    home = os.environ.get("HOME")
    if home is None:
        with suppress(RuntimeError):
            home = str(Path.home())
    if not home:
        home = changed["HOME"] = own
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home, ".cache")
    there = next(p for p in (cache, *cache.parents) if os.access(p, os.F_OK))
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        changed["XDG_CACHE_HOME"] = own
    return os.environ | changed


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
