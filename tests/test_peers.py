"""docs/scripts/peers: the script that runs ECLARE, with a stand-in for ECLARE's command."""

import gzip
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mrisr.io import read_file

PEERS = Path(__file__).parents[1] / "docs" / "scripts" / "peers"
FACTOR = 4
#: Oblique, and left-handed as NIfTI's axial scans are.
GRID = nib.affines.from_matvec(
    np.array([[-1.0, 0, 0], [0, -0.96, -0.28], [0, -0.28, 0.96]]) @ np.diag([0.6, 0.6, 0.6]),
    [10.0, 20.0, -30.0],
)

#: Works 0.2 CPU-seconds in a process of its own, then hands out the thin volume that lies beside the input.
STAND_IN = f"""#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
while [ $# -gt 0 ]; do
  case "$1" in --in-fpath) input=$2 ;; --out-dir) out=$2 ;; esac
  shift
done
folder=$(dirname "$input")
[ -f "$folder/slow" ] && sleep 60
[ -f "$folder/thin.nii.gz" ] || {{ echo "first line"; echo "no gradient here" >&2; exit 3; }}
{sys.executable} -c 'import time
while time.process_time() < 0.2: pass'
cp "$folder/thin.nii.gz" "$out/t2w_ax_eclare.nii.gz"
"""


def volume(affine: np.ndarray, array: np.ndarray) -> nib.Nifti1Image:
    """Stored as uint16 with a slope, as ECLARE stores what it makes of a scanner's integers."""
    image = nib.Nifti1Image(array.astype(np.float32), affine)
    image.header.set_data_dtype(np.uint16)
    image.header.set_sform(affine, code=2)
    image.header.set_qform(affine, code=0)
    return image


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``good`` and ``off`` (its thin volume keeps the old origin) have thick and thin slices of one
    smooth image; ``broken`` has thick slices only."""
    data = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(3).random((48, 48, 12 * FACTOR))
    thin = 1000 * ndimage.gaussian_filter(noise, 2.5, mode="nearest")
    thin = thin - thin.min()
    thick = ndimage.gaussian_filter1d(thin, FACTOR / 2.3548, axis=2, mode="nearest")
    # A thick slice's centre is between the two middle ones of its four thin slices.
    thick = (thick[:, :, 1::FACTOR] + thick[:, :, 2::FACTOR]) / 2
    coarse = GRID @ np.diag([1.0, 1, FACTOR, 1])
    coarse[:3, 3] += GRID[:3, 2] * (FACTOR - 1) / 2
    kept = GRID.copy()
    kept[:3, 3] = coarse[:3, 3]
    for case, affine in {"good": GRID, "off": kept, "broken": None}.items():
        (data / case).mkdir()
        nib.save(volume(coarse, thick), data / case / "t2w_ax.nii.gz")
        if affine is not None:
            nib.save(volume(affine, thin), data / case / "thin.nii.gz")
    return data


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """A folder that looks like an environment with ECLARE in it; its Python is the one of the tests."""
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    # It never installs: venv and pip are the only modules that the script runs by -m.
    refuse = '[ "$1" = -m ] && { echo "asked to install" >&2; exit 9; }'
    (folder / "python").write_text(f'#!/bin/sh\n{refuse}\nexec {sys.executable} "$@"\n')
    (folder / "run-eclare").write_text(STAND_IN)
    for program in folder.iterdir():
        program.chmod(0o755)
    return folder.parent


def arguments(env: Path, data: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--env", str(env), "--data", str(data), "--out", str(out)]
    # -S -E: the script itself must do with the standard library.
    return [sys.executable, "-S", "-E", str(PEERS / "eclare.py"), *fixed, *more]


def output(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def run(env: Path, data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return output(arguments(env, data, out, *more))


def calls(env: Path) -> list[str]:
    return (env / "bin" / "calls").read_text().splitlines()


def shift(record: dict) -> np.ndarray:
    return np.asarray(record["position"]["shift_mm"])


@pytest.mark.slow
def test_a_failure_is_one_line_and_a_finished_case_is_not_run_again(env, patients, tmp_path):
    out = tmp_path / "out"
    cases = ["broken", "missing", "good"]
    done = run(env, patients, out, *cases)
    assert done.returncode == 1
    broken, missing = done.stderr.splitlines()
    assert broken == "broken: failed: exit code 3: no gradient here"
    assert missing.startswith("missing: failed: no ")
    assert done.stdout.startswith("good: done, ")
    names = ["broken.log", "good.json", "good.log", "good.nii.gz"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert len(calls(env)) == 2

    again = run(env, patients, out, *cases)
    assert again.returncode == 1
    assert again.stdout.startswith("good: was done, ")
    assert len(calls(env)) == 3
    assert "broken" in calls(env)[2]


@pytest.mark.slow
def test_the_record_says_what_was_done_and_what_it_cost(env, patients, tmp_path):
    assert run(env, patients, tmp_path / "out", "good", "--patches", "32").returncode == 0
    record = json.loads((tmp_path / "out" / "good.json").read_text())
    source = patients / "good" / "t2w_ax.nii.gz"
    made = (tmp_path / "out" / "good.nii.gz").read_bytes()
    assert made == (patients / "good" / "thin.nii.gz").read_bytes()
    assert record["command"] == (
        "run-eclare --in-fpath DATA/good/t2w_ax.nii.gz --gpu-id -1 --n-patches 32 --batch-size 16"
        " --relative-slice-thickness 4.0000 --out-dir OUT"
    )
    assert calls(env)[0].startswith(f"--in-fpath {source} --gpu-id -1")
    assert record["versions"]["numpy"] == np.__version__
    assert record["settings"]["patches"] == 32
    # The cost is that of the command and of the processes it started, not of the script.
    assert 0.2 <= record["cpu_seconds"] < 5
    assert record["seconds"] > 0.9 * record["cpu_seconds"]
    assert 1 < record["peak_memory_mib"] < 1000
    assert str(tmp_path) not in json.dumps(record)
    assert np.abs(shift(record)).max() < 0.02


@pytest.mark.slow
def test_another_setting_needs_force(env: Path, patients: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(env, patients, out, "good").returncode == 0
    other = run(env, patients, out, "good", "--thickness", "3")
    assert (other.returncode, len(calls(env))) == (1, 1)
    assert "other settings" in other.stderr
    assert run(env, patients, out, "good", "--thickness", "3", "--force").returncode == 0
    assert "--relative-slice-thickness 5.0000" in calls(env)[1]


@pytest.mark.slow
def test_an_old_origin_is_reported_and_recentred_when_asked(env, patients, tmp_path):
    out = tmp_path / "out"
    assert run(env, patients, out, "off").returncode == 0
    record = json.loads((out / "off.json").read_text())
    assert np.allclose(shift(record), [0, 0, 0.9], atol=0.03)  # 1.5 slices of 0.6 mm
    written = (out / "off.nii.gz").read_bytes()

    for _ in range(2):  # the second time there is nothing left to do
        assert "(recentred)" in run(env, patients, out, "off", "--recentre").stdout
    assert len(calls(env)) == 1
    record = json.loads((out / "off.json").read_text())
    assert record["recentred"]
    assert np.abs(shift(record)).max() < 0.02
    assert (out / "off.as-written.nii.gz").read_bytes() == written
    corrected = read_file(out / "off.nii.gz")
    assert np.allclose(corrected.volume.affine, GRID, atol=0.03)
    assert corrected.notes == ()
    before, after = (gzip.decompress(b) for b in (written, (out / "off.nii.gz").read_bytes()))
    assert before[352:] == after[352:]
    assert before[112:120] == after[112:120]  # slope and intercept


def test_a_volume_that_cannot_be_placed_is_kept(env: Path, patients: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(patients / "good", data / "far")
    thin = nib.load(data / "far" / "thin.nii.gz")
    away = thin.affine + np.pad([[0], [0], [500.0]], ((0, 1), (3, 0)))
    nib.save(volume(away, thin.get_fdata()), data / "far" / "thin.nii.gz")
    done = run(env, data, tmp_path / "out")
    assert done.returncode == 0
    assert "does not put it over the input" in done.stdout
    assert (tmp_path / "out" / "far.nii.gz").is_file()
    recentred = run(env, data, tmp_path / "out", "--recentre")
    assert recentred.returncode == 1
    assert recentred.stderr.startswith("far: failed: cannot be recentred")


def test_the_shift_is_measured_along_every_axis(patients: Path) -> None:
    overlay = runpy.run_path(str(PEERS / "overlay.py"))
    reference = nib.load(patients / "good" / "t2w_ax.nii.gz")
    thin = nib.load(patients / "good" / "thin.nii.gz")
    moved = np.array([0.25, -0.4, 1.3])
    affine = thin.affine.copy()
    affine[:3, 3] += affine[:3, :3] / 0.6 @ moved
    # Gain and offset of the intensities are not the question.
    off = nib.Nifti1Image(thin.get_fdata() * 0.5 + 70, affine)
    found = overlay["position"](reference, off)
    assert np.allclose(found["shift_mm"], moved, atol=0.02)
    assert found["correlation_unshifted"] > 0.999 > found["correlation_as_written"]
    noise = np.random.default_rng(0).random(thin.shape)
    with pytest.raises(overlay["Doubt"], match="does not resemble"):
        overlay["position"](reference, nib.Nifti1Image(noise, thin.affine))


def test_an_end_from_outside_ends_eclare_too(env: Path, patients: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(patients / "broken", data / "broken")
    (data / "broken" / "slow").touch()
    with subprocess.Popen(arguments(env, data, tmp_path / "out")) as script:
        children = Path(f"/proc/{script.pid}/task/{script.pid}/children")
        if not children.parent.is_dir():
            script.kill()
            pytest.skip("needs /proc")
        ends = time.monotonic() + 20
        while not (env / "bin" / "calls").is_file() and time.monotonic() < ends:
            time.sleep(0.05)
        (child,) = (int(c) for c in children.read_text().split())
        script.send_signal(signal.SIGTERM)
        assert script.wait(20) == 128 + signal.SIGTERM
    ends = time.monotonic() + 20  # well before the sixty seconds that it would sleep
    while _alive(child) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not _alive(child)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["broken.log"]


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_environment_of_mrisr_is_not_installed_into(env: Path, tmp_path: Path) -> None:
    install = [sys.executable, str(PEERS / "eclare.py"), "--install"]
    install += ["--python", str(env / "bin" / "python"), "--env"]
    (env / "pyvenv.cfg").touch()
    for folder, reason in ((env, "mrisr's own environment"), (tmp_path, "found other files")):
        done = output([*install, str(folder)])
        assert done.returncode == 1
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
    # An environment that is not mrisr's is gone on with, and a failure of it is one line.
    (env / "pyvenv.cfg").unlink()
    assert (
        output([*install, str(tmp_path / "new")]).stderr
        == "python: exit code 9: asked to install\n"
    )
