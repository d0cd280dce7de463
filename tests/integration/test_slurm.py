"""The Slurm profile on a real one-node Slurm: a job and the controller are killed, and a rerun finishes.

``make slurm`` runs it. It needs root on Debian: the script beside the development data installs Slurm and
starts it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.batch.conftest import tree, write_rows, write_study

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]

#: This Slurm keeps no accounts, so its queue is asked instead, and soon.
HERE = (
    *("--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "3"),
    *("--default-resources", "slurm_account=none", "slurm_partition=main", "mem_mb=1500"),
    "runtime=20",
    *("--set-resources", "studies:mem_mb=1500"),
    *("--set-threads", "studies=1"),
    *("--latency-wait", "5"),
)
SUBJECTS = ("a", "b", "c", "d")
SETTINGS = {
    "device": "cpu",
    "upsampled": {
        "throughplane": {"job": "throughplane", "factor": 3},
        "inplane-x2": {"job": "inplane", "scale": 2},
    },
}


@pytest.fixture(scope="module")
def slurm(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A node that is idle; its daemons are stopped afterwards, if they were started here."""
    pytest.importorskip("snakemake_executor_plugin_slurm")  # asks a Slurm for seconds as it loads
    script = shared / "slurm" / "one-node.sh"
    if not script.is_file() or os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"needs {script}, root and Debian")
    if shutil.which("sinfo") and _said("sinfo", "-h", "-o", "%T").startswith("idle"):
        yield  # it runs already
        return
    state = tmp_path_factory.mktemp("slurm")
    done = subprocess.run(["bash", str(script), str(state)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Slurm does not start here: {done.stderr.strip()[-200:]}")
    yield
    for pid in state.glob("*.pid"):
        os.kill(int(pid.read_text()), signal.SIGTERM)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _jobs(rule: str, state: str = "RUNNING") -> list[str]:
    """Numbers of the Slurm jobs of a rule, which the executor names in the job's comment."""
    lines = _said("squeue", "-h", "-o", "%i|%T|%k").splitlines()
    found = (line.split("|", 2) for line in lines)
    return [job for job, now, comment in found if now == state and rule in comment]


def _wait(what: str, until: Callable[[], object], seconds: float = 240) -> None:
    """Wait for something to become true, or fail."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds:.0f} s; queue: {_said('squeue')}")
        time.sleep(0.2)


def _command(manifest: Path, config: Path, out: Path, *more: str) -> list[str]:
    asked = ("batch", "--manifest", manifest, "--config", config, "--output", out, "--chunk", "1")
    return [sys.executable, "-m", "mrisr", *map(str, asked), *more]


@pytest.fixture
def studies(tmp_path: Path) -> tuple[Path, Path]:
    """Manifest and settings of four studies, one of them damaged, and one with labels."""
    from tests.zones.models import random_zones_model

    for i, name in enumerate(SUBJECTS):
        write_study(tmp_path / "data" / name, i, labels=i == 0)
    (tmp_path / "data" / "c" / "t2w_ax.nii.gz").write_bytes(b"\x1f\x8b and no more")
    rows = [{"subject": n, "axial": f"data/{n}/t2w_ax.nii.gz", "labels": ""} for n in SUBJECTS]
    rows[0]["labels"] = "data/a/zones.nii.gz"
    zones = {"model": str(random_zones_model(tmp_path / "models", "tiny-zones"))}
    config = tmp_path / "batch.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "zones": zones}))
    return write_rows(tmp_path / "m.csv", *rows), config


def test_killed_jobs_and_a_killed_controller(
    slurm: None, studies: tuple[Path, Path], tmp_path: Path, models: Path
) -> None:
    out = tmp_path / "on-slurm"
    on_slurm = _command(*studies, out, "--jobs", "2", "--profile", "slurm", "--", *HERE)
    with (tmp_path / "log.txt").open("wb") as log:
        first = subprocess.Popen(
            on_slurm, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    _wait("a chunk on Slurm", lambda: _jobs("studies") or first.poll() is not None)
    killed = _jobs("studies")[0]
    assert _said("scancel", "--signal=KILL", "--full", killed) == ""
    _wait("the killed job's end", lambda: killed not in _jobs("studies"))

    _wait(
        "a study's zones",
        lambda: list(out.glob("sub-*/zones/source.nii.gz")) or first.poll() is not None,
    )
    assert first.poll() is None, Path(log.name).read_text()[-2000:]
    os.killpg(first.pid, signal.SIGKILL)  # the controller: the program and Snakemake together
    first.wait()
    assert not (out / "outcome.json").exists()

    done = subprocess.run(on_slurm, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 8, done.stderr[-2000:]
    assert "3 of 4 studies done" in done.stdout
    outcome = json.loads((out / "outcome.json").read_bytes())
    # zones by random weights are nowhere near a prostate
    assert outcome["counts"] == {"check": 3, "failed": 1}
    here = tmp_path / "here"
    local = _command(*studies, here, "--jobs", "1", "--quiet")
    assert subprocess.run(local, capture_output=True, timeout=600, check=False).returncode == 8
    found, wanted = tree(out), tree(here)
    assert found.pop("batch.json") != wanted.pop("batch.json")  # it names the profile
    assert found == wanted
    assert _said("squeue", "-h") == ""
