"""A stage over a chunk: what goes wrong with a study stays with it, and what dies is gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mrisr.batch import driver
from mrisr.batch.chunk import Part
from mrisr.batch.driver import DIED, run_chunk
from mrisr.batch.names import HIDDEN, chunk_file, journal_file, status_file
from mrisr.batch.process import supervise
from mrisr.batch.stages import Made
from mrisr.batch.work import Work
from mrisr.core.errors import InputError, MrisrError, OutputError
from mrisr.io import read_volume
from tests.batch.trees import (
    cheap_stages,
    plan_of,
    run_all,
    tree,
    write_rows,
    write_study,
)

SMALL = {"shape": (12, 12, 4), "labels": False}


def status(out: Path, study: str, stage: str) -> dict[str, Any]:
    content = json.loads(status_file(out / study, stage).read_bytes())
    assert isinstance(content, dict)
    return content


def manifest(folder: Path, *subjects: str, **options: Any) -> Path:
    """A manifest of small phantom studies."""
    rows = []
    for i, name in enumerate(subjects):
        write_study(folder / "data" / name, i, **{**SMALL, **options})
        row = {"subject": name, "axial": f"data/{name}/t2w_ax.nii.gz"}
        for role, file in (("coronal", "t2w_cor"), ("labels", "zones")):
            if (folder / "data" / name / f"{file}.nii.gz").exists():
                row[role] = f"data/{name}/{file}.nii.gz"
        rows.append(row)
    return write_rows(folder / "m.csv", *rows)


def broken(error: BaseException, at: str) -> Any:
    """The stage ``upsample``, cheap, that raises at one study."""
    cheap = driver.MAKE["upsample"]

    def stage(work: Work, part: Part) -> Made:
        if work.plan.folder == at:
            raise error
        return cheap(work, part)

    return mock.patch.dict("mrisr.batch.driver.MAKE", {"upsample": stage})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("x.nii", expected="this", found="that"), "x.nii: expected this, found that"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (ZeroDivisionError("division\nby zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_concerns_its_study_alone(
    tmp_path: Path, models: Path, error: Exception, reason: str
) -> None:
    path, out = manifest(tmp_path, "a", "b", "c"), tmp_path / "out"
    with cheap_stages():
        plan = plan_of(path, out)
        with broken(error, "sub-b"):
            said = run_all(plan, out)
        assert status(out, "sub-b", "upsample")["state"] == "failed"
        assert reason in status(out, "sub-b", "upsample")["reason"]
        assert status(out, "sub-b", "segment")["state"] == "skipped"
        assert status(out, "sub-b", "segment")["parts"]["source"]["state"] == "done"
        assert "failed in upsample" in status(out, "sub-b", "segment")["reason"]
        assert status(out, "sub-c", "segment")["state"] == "done"
        assert any(line.startswith("sub-b: upsample 2 failed") and reason in line for line in said)
        run_all(plan_of(path, out), out)
        assert status(out, "sub-b", "segment")["state"] == "done", "what failed is tried again"


def test_a_bad_coronal_does_not_stop_the_axial(tmp_path: Path, models: Path) -> None:
    path, out = manifest(tmp_path, "a", coronal=True), tmp_path / "out"
    (tmp_path / "data/a/t2w_cor.nii.gz").write_bytes(b"no volume")
    settings = {
        "upsampled": {
            "ax": {"job": "throughplane", "model": "bicubic"},
            "cor": {"job": "throughplane", "model": "bicubic", "of": "coronal"},
        },
    }
    with cheap_stages(), mock.patch.dict("mrisr.batch.driver.MAKE", {"convert": REAL_CONVERT}):
        run_all(plan_of(path, out, settings), out)
    found = status(out, "sub-a", "convert")
    assert (found["state"], found["parts"]["axial"]["state"]) == ("failed", "done")
    assert found["reason"].startswith("coronal: expected "), "named by its role, not by its path"
    assert str(tmp_path) not in json.dumps(found)
    upsampled = status(out, "sub-a", "upsample")["parts"]
    assert {name: part["state"] for name, part in upsampled.items()} == {
        "ax": "done",
        "cor": "skipped",
    }
    assert upsampled["cor"]["reason"] == "coronal failed in convert"


REAL_CONVERT = driver.MAKE["convert"]


def test_a_study_that_goes_bad_keeps_no_old_results(tmp_path: Path, models: Path) -> None:
    path, out = manifest(tmp_path, "a"), tmp_path / "out"
    with cheap_stages(), mock.patch.dict("mrisr.batch.driver.MAKE", {"convert": REAL_CONVERT}):
        run_all(plan_of(path, out), out)
        assert (out / "sub-a/upsampled/throughplane.nii.gz").exists()
        (tmp_path / "data/a/t2w_ax.nii.gz").write_bytes(b"")
        run_all(plan_of(path, out), out)
    assert {p.name for p in (out / "sub-a").iterdir()} == {"status", "pages"}


def test_stacks_are_checked(tmp_path: Path, models: Path) -> None:
    """A coronal stack in the axial column, and a file that is replaced after the plan."""
    write_study(tmp_path / "data", coronal=True, labels=False, shape=(12, 12, 4))
    data = tmp_path / "data"
    rows = [
        {"subject": "a", "axial": data / "t2w_cor.nii.gz"},
        {"subject": "b", "axial": data / "t2w_ax.nii.gz"},
    ]
    out = tmp_path / "out"
    with cheap_stages(), mock.patch.dict("mrisr.batch.driver.MAKE", {"convert": REAL_CONVERT}):
        plan = plan_of(write_rows(tmp_path / "m.csv", *rows), out)
        write_study(data, 5, labels=False, shape=(12, 12, 4))
        run_all(plan, out, ("convert",))
    assert (
        "expected a stack of axial slices, found coronal"
        in status(out, "sub-a", "convert")["reason"]
    )
    assert "as it was when the batch began" in status(out, "sub-b", "convert")["reason"]


def test_thickness_of_the_source_is_not_lost(tmp_path: Path, models: Path) -> None:
    """NIfTI has no slice thickness; the records have it from the source."""
    from tests.dicom.synthetic import hospital_series

    hospital_series(tmp_path / "exam", size=12, slices=4, SliceThickness="3.0")
    path = write_rows(tmp_path / "m.csv", {"subject": "a", "axial": "exam"})
    out = tmp_path / "out"
    with cheap_stages(), mock.patch.dict("mrisr.batch.driver.MAKE", {"convert": REAL_CONVERT}):
        plan = plan_of(path, out)
        run_all(plan, out, ("convert",))
    original = read_volume(tmp_path / "exam")
    stack = Work(out, plan.studies[0], mock.Mock(settings=plan.settings)).stack("axial")
    assert stack.slice_thickness == original.slice_thickness == 3.0
    assert (stack.source_sha256, stack.stacked_along) == (original.source_sha256, 2)
    assert (stack.array == original.array).all()


def test_a_full_disk_stops_the_chunk(tmp_path: Path, models: Path) -> None:
    """A status that cannot be written is no matter of one study."""
    path, out = manifest(tmp_path, "a"), tmp_path / "out"
    with cheap_stages():
        plan_of(path, out)
        refuse = mock.patch("mrisr.batch.driver.write_json", side_effect=OutputError("disk full"))
        with refuse, pytest.raises(OutputError, match="disk full"):
            run_chunk("convert", chunk_file(out, "001"))


def test_stopped_is_not_died(tmp_path: Path, models: Path) -> None:
    path, out = manifest(tmp_path, "a"), tmp_path / "out"
    with cheap_stages():
        plan = plan_of(path, out)
        run_all(plan, out, ("convert",))
        for _ in range(3):
            with broken(KeyboardInterrupt(), "sub-a"), pytest.raises(KeyboardInterrupt):
                run_all(plan, out, ("upsample",))
        run_all(plan, out, ("upsample",))
    assert status(out, "sub-a", "upsample")["state"] == "done"


KILLER = """
import os, signal, sys
from pathlib import Path
from unittest import mock
from mrisr.batch import driver
from tests.batch.trees import phantom_segmenter
where, count = sys.argv[3], int(sys.argv[4])
target = driver.MAKE[sys.argv[1]] if where == "stage" else None
calls = 0
def deadly(real):
    def call(*given, **more):
        global calls
        calls += 1
        if calls == count:
            if where == "mrisr.io.steps.os.replace":
                Path(given[0]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **more)
    return call
with phantom_segmenter():
    if where == "stage":
        patch = mock.patch.dict("mrisr.batch.driver.MAKE", {sys.argv[1]: deadly(target)})
    else:
        import importlib
        module, name = where.rsplit(".", 1)
        if module.endswith(".os"):
            patch = mock.patch(where, deadly(os.replace))
        else:
            patch = mock.patch(where, deadly(getattr(importlib.import_module(module), name)))
    with patch:
        driver.run_chunk(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("stage", 3),  # at the beginning of a part
        ("mrisr.io.steps.os.replace", 2),  # with a temporary file whole on the disk
        ("mrisr.batch.driver.write_json", 2),  # with all outputs there, and no status
    ],
)
def test_killed_and_gone_on_with(tmp_path: Path, models: Path, where: str, count: int) -> None:
    """After ``kill -9`` at any moment, a rerun gives the tree of an undisturbed run."""
    path = manifest(tmp_path, "a", "b", "c", labels=True)
    outs = tmp_path / "killed", tmp_path / "undisturbed"
    with cheap_stages(), mock.patch.dict("mrisr.batch.driver.MAKE", {"convert": REAL_CONVERT}):
        for out in outs:
            plan_of(path, out)
        command = [sys.executable, "-c", KILLER, "convert", str(chunk_file(outs[0], "001"))]
        done = subprocess.run([*command, where, str(count)], check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        for out in outs:
            run_all(plan_of(path, out), out)
        assert tree(outs[0]) == tree(outs[1])
        for out in outs:
            assert status(out, "sub-b", "convert")["attempts"] == 1
    left = [p for p in outs[0].rglob("*") if "mrisr-tmp" in p.name]
    left += list((outs[0] / HIDDEN / "running").rglob("*.json"))
    assert left == []


def test_what_kills_two_processes_is_given_up(tmp_path: Path, models: Path) -> None:
    """The first part brings every process down, the others are made, and so is the next study."""
    path, out = manifest(tmp_path, "a", "b", labels=True), tmp_path / "out"

    with cheap_stages():
        plan_of(path, out)
        journal = journal_file(out, "convert", "sub-a")
        journal.parent.mkdir(parents=True)
        journal.write_text(json.dumps({"attempts": {"axial": 2}, "done": {}}))
        run_chunk("convert", chunk_file(out, "001"))
        found = status(out, "sub-a", "convert")
        assert (found["state"], found["attempts"]) == ("failed", 2)
        assert found["reason"] == f"axial: {DIED}"
        assert found["parts"]["labels"]["state"] == "done"
        assert status(out, "sub-b", "convert")["state"] == "done"
        assert not journal.exists()
        run_all(plan_of(path, out), out, ("convert",))
        assert status(out, "sub-a", "convert")["state"] == "done", "the next batch tries it again"


@pytest.mark.parametrize("planned", [True, False])
def test_a_journal_of_a_study_that_is_done_is_removed(
    tmp_path: Path, models: Path, planned: bool
) -> None:
    """The process died between the status and the end of its journal."""
    path, out = manifest(tmp_path, "a"), tmp_path / "out"
    with cheap_stages():
        run_all(plan_of(path, out), out)
        journal = journal_file(out, "convert", "sub-a")
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text(json.dumps({"attempts": {"axial": 1}, "done": {}}))
        if planned:
            assert not any(plan_of(path, out).todo.values())
        else:
            run_chunk("convert", chunk_file(out, "001"))
    assert not journal.exists()


def test_a_new_batch_forgets_deaths(tmp_path: Path, models: Path) -> None:
    path, out = manifest(tmp_path, "a"), tmp_path / "out"
    with cheap_stages():
        plan_of(path, out)
        journal = journal_file(out, "convert", "sub-a")
        journal.parent.mkdir(parents=True)
        journal.write_text(json.dumps({"attempts": {"axial": 2}, "done": {}}))
        run_all(plan_of(path, out), out, ("convert",))
    assert status(out, "sub-a", "convert")["state"] == "done"


def test_segment_scores_along(tmp_path: Path, models: Path) -> None:
    """Where the libraries are loaded anyhow; other labels are scored in the stage of that name."""
    path, out = manifest(tmp_path, "a", labels=True), tmp_path / "out"
    with cheap_stages() as made:
        run_all(plan_of(path, out), out, ("convert", "upsample", "segment"))
        assert status(out, "sub-a", "score")["state"] == "done"
        run_all(plan_of(path, out), out)
        write_study(tmp_path / "data" / "a", 7, shape=(12, 12, 4))
        made.clear()
        (tmp_path / "data/a/zones.nii.gz").write_text("other labels")
        run_all(plan_of(path, out), out, ("convert", "upsample", "segment"))
        assert "sub-a score/source" in made
        made.clear()
        (tmp_path / "data/a/zones.nii.gz").write_text("yet other labels")
        run_all(plan_of(path, out), out)
        scores = {f"sub-a score/{v}" for v in ("source", "throughplane", "inplane-x2")}
        assert set(made) == {"sub-a convert/labels", "sub-a report/page", *scores}


# --- the process that watches over another ----------------------------------------------------------


def supervised(
    monkeypatch: pytest.MonkeyPatch, out: Path, stage: str, worker: Callable[[], int]
) -> tuple[int, list[str]]:
    """Supervise a worker that is a function of this process; its exit code, and what is said."""
    said: list[str] = []
    monkeypatch.setattr("mrisr.batch.process._run", lambda command: worker())
    return supervise(stage, chunk_file(out, "001"), said.append), said


def test_another_process_goes_on(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = manifest(tmp_path, "a", "b"), tmp_path / "out"

    def worker() -> int:
        """Dies at every convert of study a, by the journal that such a death leaves."""
        with monkeypatch.context() as patch:
            patch.setattr(driver.Journal, "withdraw", lambda self, part: None)
            try:
                run_chunk("convert", chunk_file(out, "001"))
            except KeyboardInterrupt:
                return -signal.SIGSEGV
        return 0

    def dying(work: Work, part: Part) -> Made:
        if work.plan.folder == "sub-a":
            raise KeyboardInterrupt
        return REAL_CONVERT(work, part)

    with cheap_stages(), mock.patch.dict("mrisr.batch.driver.MAKE", {"convert": dying}):
        plan_of(path, out)
        code, said = supervised(monkeypatch, out, "convert", worker)
    assert code == 0
    assert said == ["the process died (SIGSEGV); going on"] * 2
    assert DIED in status(out, "sub-a", "convert")["reason"]
    assert status(out, "sub-b", "convert")["state"] == "done"


def test_a_process_that_dies_at_once_is_not_started_for_ever(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = manifest(tmp_path, "a"), tmp_path / "out"
    with cheap_stages():
        plan_of(path, out)
        with pytest.raises(MrisrError, match=r"SIGKILL.* before it came to a study"):
            supervised(monkeypatch, out, "convert", lambda: -signal.SIGKILL)
        assert supervised(monkeypatch, out, "convert", lambda: 3) == (3, [])


def test_the_stage_command(tmp_path: Path, models: Path) -> None:
    """Both processes, as a rule of the workflow starts them."""
    path, out = manifest(tmp_path, "a"), tmp_path / "out"
    with cheap_stages():
        plan_of(path, out)
    command = [sys.executable, "-m", "mrisr", "stage", "convert", "--chunk"]
    chunk = os.path.relpath(chunk_file(out, "001"), out / HIDDEN)
    done = subprocess.run(
        [*command, chunk], cwd=out / HIDDEN, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "sub-a: convert 1 done\n"), done.stderr
    assert status(out, "sub-a", "convert")["peak_memory_gib"]["process"] > 0
    done = subprocess.run([*command, "m.csv"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "expected a chunk" in done.stderr
