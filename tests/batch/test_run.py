"""All stages in one process: what goes wrong stays with its study, and what dies is gone on with."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from mrisr.batch import run
from mrisr.batch.names import HIDDEN, STATUS, chunk_file, read_json
from mrisr.batch.report.page import write_subject_page
from mrisr.batch.run import DIED, run_chunk, supervise
from mrisr.batch.start import progress, write_outcome
from mrisr.batch.status import read_status
from mrisr.batch.work import Work, as_written
from mrisr.core.errors import MrisrError, OutputError, UsageError, one_line
from mrisr.core.volume import Storage, Volume
from mrisr.data.phantom import phantom_affine
from mrisr.io import read_volume, write_volume
from tests.batch.conftest import (
    SETTINGS,
    Batch,
    make_all,
    parts_of,
    plan_of,
    run_all,
    states_of,
    tree,
    write_rows,
    write_studies,
    write_study,
)


def test_what_a_study_costs(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each input is read once, each output is read back once, and digests are taken once a part."""
    counts = {"read_nifti": 0, "file_sha256": 0}

    def counted(module: str, name: str) -> None:
        real = getattr(sys.modules[module], name)

        def call(*given: Any, **more: Any) -> Any:
            counts[name] += 1
            return real(*given, **more)

        monkeypatch.setattr(f"{module}.{name}", call)

    counted("mrisr.io.nifti", "read_nifti")
    counted("mrisr.batch.status", "file_sha256")
    shutil.rmtree(batch.out)
    rows = {"axial": "data/a/t2w_ax.nii.gz", "labels": "data/a/zones.nii.gz"}
    write_rows(batch.folder / "m.csv", {"subject": "a", **rows})
    batch.again()
    assert set(states_of(batch.out / "sub-a").values()) == {"done"}
    assert counts["read_nifti"] == 2 + 7, "inputs read, outputs read back"
    assert counts["file_sha256"] == 2 + 7 + 1, "inputs planned, volumes, the page"


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("slope", [1.0, 0.1])
def test_a_volume_in_memory_is_that_of_its_file(tmp_path: Path, dtype: Any, slope: float) -> None:
    storage = Storage(np.dtype(dtype), slope, 3.0 if slope != 1 else 0.0)
    values = np.random.default_rng(0).uniform(0, 20, (5, 6, 4))
    affine = phantom_affine((5, 6, 4), spacing=(0.7, 0.7, 3.3), obliquity=11.0)
    volume = Volume(storage.decode(storage.encode(values)), affine, storage)
    path = write_volume(volume, tmp_path / "v.nii.gz")
    kept, read = as_written(volume, path), read_volume(path)
    np.testing.assert_array_equal(kept.array, read.array)
    np.testing.assert_array_equal(kept.affine, read.affine)
    for what in ("storage", "name"):
        assert getattr(kept, what) == getattr(read, what)
    assert kept.array.dtype == read.array.dtype


def test_the_page_is_that_of_the_files(batch: Batch) -> None:
    """It is made of volumes in memory, and shows the state that the outcome has."""
    folder = batch.out / "sub-a"
    page = (folder / "report.html").read_text()
    assert write_subject_page(folder).read_text() == page
    assert "sub-a: check" in page, "random weights find no prostate"
    assert "What needs a look" in page
    status = read_status(folder)
    outcome = write_outcome(batch.out)
    assert [s.state for s in outcome.values()] == ["check", "check"]
    reasons = read_json(batch.out / "outcome.json")["studies"][0]["check"]
    assert reasons == outcome["sub-a"].check != []
    record = read_json(folder / "zones" / "source.json")
    assert [f"source: {told}" for told in record["check"]] == reasons[: len(record["check"])]
    assert reasons[0] in (batch.out / "outcome.csv").read_text()
    batch.settings["upsampled"]["inplane-x2"]["seed"] = 3
    batch.plan()
    assert [s.state for s in write_outcome(batch.out).values()] == ["unfinished"] * 2
    assert read_status(folder) == status, "planning changes nothing"


def test_an_error_concerns_its_study_alone(tmp_path: Path) -> None:
    manifest, out = write_studies(tmp_path, "a", "b", "c"), tmp_path / "out"
    write_study(tmp_path / "data" / "b", labels=False, shape=(12, 12, 1))
    plan_of(manifest, out)
    said = run_all(out)
    parts = parts_of(out / "sub-b")
    assert parts["upsample/throughplane"].state == "failed"
    assert "expected at least 2 slices, found 1" in parts["upsample/throughplane"].reason
    assert parts["upsample/inplane-x2"].state == parts["report/page"].state == "done"
    assert set(states_of(out / "sub-c").values()) == {"done"}
    assert "upsample 1 failed, 1 done (throughplane: axial: expected at least 2" in said[1]
    assert [s.state for s in write_outcome(out).values()] == ["done", "failed", "done"]
    assert "sub-b: failed" in (out / "sub-b" / "report.html").read_text()
    write_study(tmp_path / "data" / "b", labels=False)
    make_all(manifest, out)
    assert set(states_of(out / "sub-b").values()) == {"done"}


def test_reasons_are_one_line_of_printable_text() -> None:
    assert (
        one_line(ZeroDivisionError("division\nby \x1bzero"))
        == "ZeroDivisionError: division by zero"
    )
    assert one_line(MemoryError()) == "out of memory"


def test_a_bad_coronal_does_not_stop_the_axial(batch: Batch) -> None:
    (batch.folder / "data" / "a" / "t2w_cor.nii.gz").write_bytes(b"no volume")
    (batch.folder / "data" / "a" / "zones.nii.gz").write_bytes(b"no volume")
    coronal = {"job": "throughplane", "model": "bicubic", "of": "coronal"}
    batch.settings["upsampled"]["cor"] = coronal
    batch.again()
    parts = parts_of(batch.out / "sub-a")
    assert parts["convert/axial"].state == parts["segment/inplane-x2"].state == "done"
    assert parts["convert/coronal"].reason.startswith("coronal: expected "), "by its role"
    for skipped, reason in (
        ("upsample/cor", "coronal failed in convert"),
        ("score/source", "labels failed in convert"),
    ):
        assert (parts[skipped].state, parts[skipped].reason) == ("skipped", reason)
    text = (batch.out / "sub-a" / STATUS).read_text()
    assert str(batch.folder) not in text
    assert not (batch.out / "sub-a" / "scores.json").exists()


def test_a_study_that_goes_bad_keeps_no_old_results(batch: Batch) -> None:
    (batch.folder / "data" / "b" / "t2w_ax.nii.gz").write_bytes(b"")
    batch.again()
    left = {p.name for p in (batch.out / "sub-b" / "ses-2").iterdir()}
    assert left == {"status.json", "report.html"}


def test_stacks_are_checked(tmp_path: Path) -> None:
    """A coronal stack in the axial column, and a file that is replaced after the plan."""
    data, out = write_study(tmp_path / "data", coronal=True), tmp_path / "out"
    rows = [
        {"subject": "a", "axial": data / "t2w_cor.nii.gz"},
        {"subject": "b", "axial": data / "t2w_ax.nii.gz"},
    ]
    plan_of(write_rows(tmp_path / "m.csv", *rows), out)
    write_study(data, 5)
    run_all(out)
    reasons = [parts_of(out / name)["convert/axial"].reason for name in ("sub-a", "sub-b")]
    assert "expected a stack of axial slices, found coronal" in reasons[0]
    assert "as it was when the batch began" in reasons[1]


def test_a_status_that_cannot_be_written_stops_the_chunk(tmp_path: Path) -> None:
    """It is no matter of one study."""
    out = tmp_path / "out"
    plan_of(write_studies(tmp_path, "a"), out)
    (out / "sub-a" / STATUS / "full").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written"):
        run_all(out)


def test_progress_and_outcome_follow_the_statuses(tmp_path: Path) -> None:
    manifest, out = write_studies(tmp_path, "a", "b"), tmp_path / "out"
    (tmp_path / "data" / "b" / "t2w_ax.nii.gz").write_bytes(b"\x1f\x8b and no more")
    with pytest.raises(UsageError, match="expected the folder of a batch"):
        write_outcome(out)
    plan = plan_of(manifest, out)
    counts = progress(plan, out)
    assert (counts["convert"].total, counts["convert"].done, counts["segment"].total) == (2, 0, 0)
    assert [s.state for s in write_outcome(out).values()] == ["unfinished", "unfinished"]
    run_all(out)
    counts = progress(plan, out)
    assert (counts["convert"].done, counts["convert"].failed) == (2, 1)
    assert (counts["upsample"].done, counts["report"].done) == (2, 2)
    assert [s.state for s in write_outcome(out).values()] == ["done", "failed"]
    again = progress(plan_of(manifest, out), out)
    assert (again["convert"].done, again["convert"].failed, again["report"].done) == (1, 0, 1)


# --- processes that are stopped or die ---------------------------------------------------------------


def test_stopped_is_not_died(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan_of(write_studies(tmp_path, "a"), out)
    stop = mock.Mock(side_effect=KeyboardInterrupt)
    for _ in range(3):
        with mock.patch.object(Work, "upsample", stop), pytest.raises(KeyboardInterrupt):
            run_all(out)
    run_all(out)
    assert stop.call_count == 3
    assert set(states_of(out / "sub-a").values()) == {"done"}


KILLER = """
import os, signal, sys
from pathlib import Path
from mrisr.batch import run
where, count, chunk = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
def deadly(real):
    def call(*given, **more):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **more)
    return call
if where == "replace":
    os.replace = deadly(os.replace)
elif where == "throughplane":
    upsample = run.Work.upsample
    run.Work.upsample = lambda work, part: (
        os.kill(os.getpid(), signal.SIGKILL)
        if (work.plan.folder, part.name) == ("sub-a", where) else upsample(work, part)
    )
else:
    os.kill(os.getpid(), signal.SIGKILL)
run.run_chunk(chunk)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_all(write_studies(folder, "a", "b", labels=True), folder / "out")
    return folder


@pytest.mark.parametrize("count", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 13))])
def test_killed_and_gone_on_with(undisturbed: Path, tmp_path: Path, count: int) -> None:
    """After ``kill -9`` before a file takes its place, a rerun gives the tree of an undisturbed run."""
    shutil.copytree(undisturbed / "data", tmp_path / "data")
    manifest = shutil.copy(undisturbed / "m.csv", tmp_path / "m.csv")
    out = tmp_path / "out"
    plan_of(manifest, out)
    command = [sys.executable, "-c", KILLER, "replace", str(count), str(chunk_file(out, "001"))]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    make_all(manifest, out)
    assert tree(out) == tree(undisturbed / "out")
    assert [p for p in out.rglob("*") if "mrisr-tmp" in p.name and HIDDEN not in p.parts] == []


@pytest.mark.slow
def test_what_kills_two_processes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other parts are made, and so is the next study; the next batch tries it again."""
    manifest, out = write_studies(tmp_path, "a", "b"), tmp_path / "out"
    plan_of(manifest, out)
    killer = (sys.executable, "-c", KILLER, "throughplane", "0")
    monkeypatch.setattr(run, "COMMAND", killer)
    said: list[str] = []
    assert supervise(chunk_file(out, "001"), said.append) == 0
    assert said == ["the process died (SIGKILL); going on"] * 2
    part = parts_of(out / "sub-a").pop("upsample/throughplane")
    assert (part.state, part.reason, part.attempts) == ("failed", DIED, 2)
    assert states_of(out / "sub-a")["upsample/inplane-x2"] == "done"
    assert set(states_of(out / "sub-b").values()) == {"done"}
    run_chunk(chunk_file(out, "001"))
    assert parts_of(out / "sub-a")["upsample/throughplane"] == part, "a job that is started again"
    make_all(manifest, out)
    assert set(states_of(out / "sub-a").values()) == {"done"}


def test_a_process_that_dies_at_once_is_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_of(write_studies(tmp_path, "a"), tmp_path / "out")
    chunk = chunk_file(tmp_path / "out", "001")
    monkeypatch.setattr(run, "COMMAND", (sys.executable, "-c", KILLER, "at once", "0"))
    with pytest.raises(MrisrError, match=r"SIGKILL.* before it came to a study"):
        supervise(chunk, print)
    monkeypatch.setattr(run, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    assert supervise(chunk, print) == 3


@pytest.mark.slow
def test_the_chunk_command(tmp_path: Path) -> None:
    """Both processes, as the rule of the workflow starts them."""
    out = tmp_path / "out"
    plan_of(write_studies(tmp_path, "a"), out, {**SETTINGS, "upsampled": {}})
    command = [sys.executable, "-m", "mrisr", "chunk"]
    chunk = os.path.relpath(chunk_file(out, "001"), out / HIDDEN)
    how = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run([*command, chunk], cwd=out / HIDDEN, **how)
    expected = "sub-a: convert 1 done; report 1 done\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert (parts_of(out / "sub-a")["convert/axial"].peak_memory_gib or {})["process"] > 0
    done = subprocess.run([*command, str(tmp_path / "m.csv")], **how)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "expected the folder of a batch" in done.stderr
