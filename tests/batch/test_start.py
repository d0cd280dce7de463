"""``mrisr batch`` as a whole: Snakemake runs it, says how it ends, and two profiles agree on the workflow."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mrisr.batch import workflow
from mrisr.batch.names import HIDDEN, lock_file
from mrisr.batch.start import _environment as workflow_environment
from mrisr.batch.workflow import chunk_size, find_profile, snakemake_command
from mrisr.core.errors import InputError, UsageError
from mrisr.core.shipped import shipped
from tests.batch.conftest import SETTINGS, Batch, tree, write_rows, write_studies, write_study

pytest.importorskip("snakemake", reason="Snakemake 9 needs Python 3.11")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def small_models(models: Path) -> None:
    """Nothing here needs the released models."""


def data(folder: Path, settings: dict[str, Any], *subjects: str) -> tuple[Path, Path]:
    """Manifest and settings of small studies."""
    config = folder / "batch.yaml"
    config.write_text(yaml.safe_dump(settings))
    return write_studies(folder, *subjects), config


def jobs_of(text: str) -> dict[str, int]:
    """Rule -> number of jobs, by Snakemake's table."""
    rows = (line.split() for line in text.splitlines())
    return {r[0]: int(r[1]) for r in rows if len(r) == 2 and r[1].isdigit()}


@pytest.mark.slow
def test_a_batch_with_a_damaged_study(tmp_path: Path, run: Run, zones_model: str) -> None:
    """Exit code 8, and all that is good."""
    upsampled = {"throughplane": {"job": "throughplane", "factor": 2}}
    settings = {"device": "cpu", "upsampled": upsampled, "zones": {"model": zones_model}}
    _, config = data(tmp_path, settings)
    manifest = write_studies(tmp_path, "good", "bad", labels=True)
    (tmp_path / "data" / "bad" / "t2w_ax.nii.gz").write_bytes(b"\x1f\x8b and no more")
    out = tmp_path / "out"
    asked = ("batch", "-m", manifest, "-o", out, "-c", config, "--chunk", 2, "--jobs", 1)
    code, told, said = run(*asked)
    assert code == 8, said
    assert "1 of 2 studies done" in told
    assert "sub-bad" in told
    assert "convert axial: expected" in told
    assert "convert: 2 of 2 studies, 1 failed" in said
    good = {p.relative_to(out / "sub-good").as_posix() for p in (out / "sub-good").rglob("*.*")}
    volumes = ("upsampled/throughplane", "zones/throughplane", "zones/source")
    files = {f"{volume}.{ending}" for volume in volumes for ending in ("nii.gz", "json")}
    files |= {"source/axial.nii.gz", "source/labels.nii.gz"}
    assert good == files | {"scores.json", "report.html", "status.json"}
    for page in (out / "report.html", out / "sub-bad" / "report.html"):
        assert page.stat().st_size > 1000
    outcome = json.loads((out / "outcome.json").read_bytes())
    # zones by random weights are nowhere near a prostate
    assert outcome["counts"] == {"check": 1, "failed": 1}
    rows = list(csv.DictReader((out / "outcome.csv").read_text().splitlines()))
    assert [(r["subject"], r["state"]) for r in rows] == [("good", "check"), ("bad", "failed")]
    assert rows[0]["throughplane_PZ_volume_ml"] != ""
    assert str(tmp_path) not in (out / "batch.json").read_text()


@pytest.mark.slow
def test_slurm_runs_the_same_workflow(tmp_path: Path, run: Run) -> None:
    manifest, config = data(tmp_path, SETTINGS, "a", "b", "c")
    out = tmp_path / "out"
    asked = ("batch", "-m", manifest, "-o", out, "-c", config, "--profile", "slurm")
    code, told, said = run(*asked, "--chunk", 2, "--dry-run")
    assert code == 0, said
    assert jobs_of(told) == {"studies": 2, "all": 1, "total": 3}
    assert "upsample: 3 studies to do" in said
    assert not out.exists()


def test_a_batch_that_has_run(batch: Batch, run: Run) -> None:
    """Its dry run names what has changed, and nothing is started where nothing has."""
    config = batch.folder / "batch.yaml"
    config.write_text(yaml.safe_dump(batch.settings))
    asked = ("batch", "-m", batch.folder / "m.csv", "-o", batch.out, "-c", config)
    code, told, said = run(*asked)
    assert code == 0, said
    assert "2 of 2 studies done" in told
    assert not (batch.out / HIDDEN / "logs").exists()
    (batch.out / "sub-b" / "ses-2" / "zones" / "source.nii.gz").unlink()
    before = tree(batch.out)
    code, told, said = run(*asked, "--dry-run")
    assert code == 0, said
    assert jobs_of(told) == {"studies": 1, "all": 1, "total": 2}
    assert "segment: 1 studies to do, 1 kept" in said
    assert tree(batch.out) == before


def test_faults_of_a_manifest_have_a_line_each(tmp_path: Path, run: Run) -> None:
    manifest = write_rows(
        tmp_path / "m.csv", {"subject": "a/b", "axial": "x"}, {"subject": "c", "axial": ""}
    )
    code, _, said = run("batch", "-m", manifest, "-o", tmp_path / "out")
    assert code == 2
    lines = said.splitlines()
    assert len(lines) == 3
    assert "line 2: subject" in lines[0]
    assert "line 3: axial" in lines[1]
    assert "2 faults" in lines[2]
    assert not (tmp_path / "out").exists()


def test_manifest_command(tmp_path: Path, run: Run) -> None:
    write_study(tmp_path / "data" / "a", shape=(12, 12, 4))
    asked = ("manifest", tmp_path / "data", "--output", tmp_path / "m.csv")
    assert run(*asked)[:2] == (0, f"{tmp_path / 'm.csv'}: 1 studies\n")
    assert run(*asked)[0] == 3


def test_two_batches_do_not_share_a_folder(tmp_path: Path, run: Run) -> None:
    manifest, config = data(tmp_path, SETTINGS, "a")
    lock = lock_file(tmp_path / "out", "batch")
    with lock.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        code, _, said = run("batch", "-m", manifest, "-o", tmp_path / "out", "-c", config)
    assert code == 1
    assert "another batch is running" in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == [HIDDEN]


def test_a_workflow_that_fails_names_its_log(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, config = data(tmp_path, SETTINGS, "a")
    failing = [sys.executable, "-c", "print('no such cluster'); raise SystemExit(1)"]
    monkeypatch.setattr("mrisr.batch.start.snakemake_command", lambda *given: failing)
    code, _, said = run("batch", "-m", manifest, "-o", tmp_path / "out", "-c", config, "-q")
    assert code == 1
    assert said.count("\n") == 1
    assert "1 studies unfinished: no such cluster" in said
    assert "snakemake.log" in said


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_interpreter_that_cannot_be_run_is_named(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    manifest, config = data(tmp_path, SETTINGS, "a")
    asked = ("batch", "-m", manifest, "-o", tmp_path / "out", "-c", config, "-q", *more)
    monkeypatch.setattr("mrisr.batch.start.snakemake_command", lambda *given: [str(manifest)])
    code, _, said = run(*asked)
    assert (code, said) == (1, f"mrisr: {manifest}: cannot be run: Permission denied\n")
    monkeypatch.setattr(sys, "executable", None)
    code, _, said = run(*asked)
    assert code == 1
    assert said.startswith("mrisr: this Python does not know its own program")


@pytest.mark.parametrize(
    ("variables", "changed"),
    [
        ({"HOME": "/dev/null"}, {"XDG_CACHE_HOME"}),
        ({"HOME": ""}, {"HOME"}),
        ({"HOME": "", "XDG_CACHE_HOME": "/dev/null"}, {"HOME", "XDG_CACHE_HOME"}),
        ({}, {"HOME"}),
        ({"HOME": "{tmp}/new"}, set()),
        ({"HOME": "/dev/null", "XDG_CACHE_HOME": "{tmp}"}, set()),
    ],
)
def test_a_user_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], changed: set[str]
) -> None:
    """As in a container that runs as any number."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    found = workflow_environment(tmp_path)
    assert {name for name, value in found.items() if value != os.environ.get(name)} == changed
    assert {found[name] for name in changed} <= {str(tmp_path / HIDDEN / "home")}


def test_without_snakemake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'mrisr\[batch\]'"):
        workflow.check_snakemake()
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    with pytest.raises(UsageError, match=r"needs Python 3.11 or later.*this is 3.10"):
        workflow.check_snakemake()


def test_profiles(tmp_path: Path) -> None:
    local, slurm = find_profile("local"), find_profile("slurm")
    assert (local.local, slurm.local) == (True, False)
    assert (local.chunk, slurm.chunk) == (10, 20)
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("executor: slurm\nconfig: {chunk: 3}\n")
    assert find_profile(str(own)).chunk == find_profile(str(own / "config.yaml")).chunk == 3
    (own / "config.yaml").write_text("config: [chunk=none]\n")
    with pytest.raises(InputError, match="a Snakemake profile"):
        find_profile(str(own))
    with pytest.raises(UsageError, match="there are local, slurm"):
        find_profile("slrum")


def test_chunks_are_smaller_where_cores_stand_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "cores", lambda: 4)
    local, slurm = find_profile("local"), find_profile("slurm")
    assert [chunk_size(n, local, None, False) for n in (1, 8, 9, 1000)] == [1, 2, 3, 10]
    assert chunk_size(8, local, 1, False) == 8
    assert chunk_size(8, local, None, True) == 10, "one job at a time has the GPU"
    assert chunk_size(8, slurm, None, False) == 20


def test_what_this_machine_has_is_told_to_snakemake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / HIDDEN).mkdir()
    monkeypatch.setattr(workflow, "memory_mb", lambda: 5000)
    local, slurm = find_profile("local"), find_profile("slurm")
    told = snakemake_command(tmp_path, local, 3, True)
    assert told[-5:] == ["--cores", "3", "--resources", "mem_mb=5000", "gpu=1"]
    assert snakemake_command(tmp_path, slurm, 3, True)[-2:] == ["--jobs", "3"]
    own = replace(local, has_resources=True)
    assert "--resources" not in snakemake_command(tmp_path, own, None, True)


def test_memory_of_a_container(tmp_path: Path) -> None:
    limit, none = tmp_path / "limit", tmp_path / "none"
    limit.write_text(f"{2**30}\n")
    none.write_text("max\n")
    assert workflow.memory_mb((str(limit), str(none))) == 921
    assert workflow.memory_mb((str(none), str(tmp_path / "gone"))) == workflow.memory_mb(())


def test_profiles_name_the_rules_that_there_are() -> None:
    for name in ("local", "slurm"):
        file = shipped("pipelines") / "profiles" / name / "config.yaml"
        profile = yaml.safe_load(file.read_text())
        named = [*profile.get("set-threads", ()), *profile["set-resources"]]
        assert {entry.replace("=", ":").split(":")[0] for entry in named} == {"studies"}
        assert (profile["keep-going"], profile["retries"]) == (True, 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_or_killed_and_gone_on_with(
    tmp_path: Path, run: Run, zones_model: str, number: signal.Signals
) -> None:
    """The tree is the same as that of an undisturbed run, and nothing is left at work."""
    settings = {**SETTINGS, "zones": {"model": zones_model, "volumes": ["source"]}}
    manifest, config = data(tmp_path, settings, "a", "b", "c")
    outs = [tmp_path / "killed", tmp_path / "undisturbed"]
    asked = [["batch", "-m", manifest, "-o", o, "-c", config] for o in outs]
    command = [sys.executable, "-m", "mrisr", *map(str, asked[0])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(outs[0] / "sub-a" / "source")
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    if number == signal.SIGTERM:
        assert process.returncode == 1
        assert err.splitlines()[-1] == "mrisr: stopped"
    assert not (outs[0] / "report.html").exists()
    for arguments in asked:
        assert run(*arguments)[0] == 0
    assert tree(outs[0]) == tree(outs[1])


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not (path.is_dir() and any(path.iterdir())):
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)
