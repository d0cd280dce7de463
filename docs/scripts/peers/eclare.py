"""ECLARE on the axial stacks of patients, in an environment of its own, with what it cost.

ECLARE (Remedios et al.; GPL-3.0, installed from PyPI as it is) learns from the one volume that it is
given and makes it isotropic. This script makes its environment, runs its command for each patient
and leaves ``OUT/CASE.nii.gz`` and ``OUT/CASE.json``, which ``mrisr evaluate`` scores beside the models.
Only the standard library is needed, on Linux or macOS. README.md beside this file says how to use it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ECLARE, TORCH = "eclare==1.0.1", "torch>=2.8,<2.14"
#: scipy 1.11.4, which ECLARE pins, has no wheels for later ones.
PYTHONS = ((3, 10), (3, 12))
PACKAGES = ("eclare", "radifox-utils", "torch", "numpy", "scipy", "nibabel")
#: Shifts below this cannot be told from the blur of a result (mm); they are reported, not corrected.
ACCURACY_MM = 0.2
OVERLAY = Path(__file__).with_name("overlay.py")


class Failure(Exception):
    """What went wrong, in one line."""


def output_of(command: list[str]) -> str:
    """Standard output of a command. Raises Failure by the last line that it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise Failure(f"{command[0]}: {problem.strerror}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise Failure(f"{Path(command[0]).name}: exit code {done.returncode}: {said[-1]}")
    return done.stdout


def python_of(env: Path, *arguments: str) -> str:
    """Standard output of the environment's Python. Raises Failure."""
    return output_of([str(env / "bin" / "python"), *arguments])


def install(env: Path, python: str, torch_index: str | None) -> None:
    """Make ECLARE's environment in ``env``. Raises Failure; an environment of mrisr is never touched."""
    asked = "import sys, json; print(json.dumps(sys.version_info[:2]))"
    found = tuple(json.loads(output_of([python, "-c", asked])))
    if not PYTHONS[0] <= found <= PYTHONS[1]:
        raise Failure(
            f"{python}: expected Python 3.10 to 3.12 (ECLARE pins scipy 1.11), found"
            f" {found[0]}.{found[1]}; name another by --python"
        )
    if env.exists() and any(env.iterdir()):
        if not (env / "pyvenv.cfg").is_file():
            raise Failure(f"{env}: expected an empty folder or an environment, found other files")
        if "mrisr" in versions(env, ("mrisr",)):
            raise Failure(f"{env}: this is mrisr's own environment; ECLARE needs another")
    output_of([python, "-m", "venv", str(env)])
    pip = ("-m", "pip", "install", "--disable-pip-version-check")
    # PyTorch first and by itself: the index of its CPU build must not be asked for anything else.
    python_of(env, *pip, *(("--index-url", torch_index) if torch_index else ()), TORCH)
    python_of(env, *pip, TORCH, ECLARE)
    print(f"{env}: " + ", ".join(f"{k} {v}" for k, v in versions(env).items()))


def versions(env: Path, names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Python and those of ``names`` that the environment has."""
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    return json.loads(python_of(env, "-c", code, *names))


def device_name(env: Path, gpu: int) -> str:
    """``cpu``, or what the environment's PyTorch calls the GPU."""
    code = "import sys, torch; print(torch.cuda.get_device_name(int(sys.argv[1])))"
    return "cpu" if gpu < 0 else python_of(env, "-c", code, str(gpu)).strip()


@dataclass(frozen=True)
class Case:
    """One patient: the input, and what is made of it. The record comes last and says that it is done."""

    asked: argparse.Namespace
    name: str

    @property
    def source(self) -> Path:
        """The volume that ECLARE learns from."""
        return self.asked.data / self.name / f"{self.asked.series}.nii.gz"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides ECLARE's result, and is compared before a finished case is skipped."""
        names = ("patches", "batch", "profile", "thickness_mm", "gpu")
        return {name: getattr(self.asked, name) for name in names}

    def file(self, ending: str) -> Path:
        return self.asked.out / f"{self.name}{ending}"

    def digest(self) -> str:
        return hashlib.sha256(self.source.read_bytes()).hexdigest()

    def write(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write the record, whole or not at all."""
        beside = self.asked.out / f".{self.name}.json.part"
        beside.write_text(json.dumps(record, indent=2) + "\n")
        os.replace(beside, self.file(".json"))
        return record

    def position(self, volume: Path, *, write: Path | None = None) -> dict[str, Any]:
        """Measure where a volume lies, by overlay.py in the environment, which has the libraries for it.

        A volume that it cannot place is kept all the same: it took an hour.
        """
        more = ["--write", str(write)] if write else []
        try:
            found = python_of(self.asked.env, str(OVERLAY), str(self.source), str(volume), *more)
        except Failure as problem:
            return {"shift_mm": None, "problem": str(problem)}
        return dict(json.loads(found))


def run_case(case: Case) -> dict[str, Any]:
    """Run ECLARE on one patient and return the record. Raises Failure."""
    asked, source = case.asked, case.source
    if Path(case.name).name != case.name or not source.is_file():
        raise Failure(f"no {source}")
    command = _command(case)
    with tempfile.TemporaryDirectory(prefix=f".{case.name}.", dir=asked.out) as work:
        log = case.file(".log")
        cost = _timed([*command, "--out-dir", work], asked.threads, log)
        made = next(Path(work).glob("*_eclare.nii.gz"), None)
        if made is None:
            raise Failure(f"it ended without a volume; see {log}")
        told = [f"DATA/{case.name}/{source.name}" if a == str(source) else a for a in command[1:]]
        record = {
            "peer": "ECLARE",
            "case": case.name,
            "input": source.name,
            "input_sha256": case.digest(),
            "settings": case.settings,
            "command": shlex.join(["run-eclare", *told, "--out-dir", "OUT"]),
            **cost,
            "threads": asked.threads,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "device": device_name(asked.env, asked.gpu),
            "versions": versions(asked.env),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "position": case.position(made),
            "recentred": False,
        }
        for ending in (".json", ".as-written.nii.gz"):
            case.file(ending).unlink(missing_ok=True)
        os.replace(made, case.file(".nii.gz"))
    return case.write(record)


def recentre(case: Case, record: dict[str, Any]) -> dict[str, Any]:
    """Move the origin of a finished case by the shift that was measured, where it is beyond the accuracy.

    The volume as ECLARE wrote it stays beside it, as ``CASE.as-written.nii.gz``.
    """
    shift = record["position"]["shift_mm"]
    if shift is None:
        raise Failure(f"cannot be recentred: {record['position']['problem']}")
    if record["recentred"] or max(map(abs, shift)) < ACCURACY_MM:
        return record
    volume, kept = case.file(".nii.gz"), case.file(".as-written.nii.gz")
    if not kept.exists():  # else an interrupted correction has kept it already
        beside = kept.with_name(f".{kept.name}.part")
        shutil.copyfile(volume, beside)
        os.replace(beside, kept)
    before = case.position(kept, write=volume)
    moved = {"position": case.position(volume), "recentred": True, "position_as_written": before}
    return case.write(record | moved)


def finished(case: Case) -> dict[str, Any] | None:
    """Record of a case that is done; None where it is not. Raises Failure where it is done otherwise."""
    path = case.file(".json")
    if not (path.is_file() and case.file(".nii.gz").is_file()):
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        same = record["settings"] == case.settings and record["input_sha256"] == case.digest()
    except (ValueError, KeyError, OSError) as problem:
        raise Failure(f"{path}: expected a record of this script ({problem!r})") from None
    if not same:
        raise Failure("done before with other settings or another input; --force makes it anew")
    return record


def _command(case: Case) -> list[str]:
    """ECLARE's command, less its output folder."""
    asked = case.asked
    command = [str(asked.env / "bin" / "run-eclare"), "--in-fpath", str(case.source)]
    command += ["--gpu-id", str(asked.gpu), "--n-patches", str(asked.patches)]
    command += ["--batch-size", str(asked.batch)]
    if asked.profile == "nominal":
        code = "import nibabel, sys; print(*nibabel.load(sys.argv[1]).header.get_zooms()[:3])"
        spacing = [float(s) for s in python_of(asked.env, "-c", code, str(case.source)).split()]
        thick = max(spacing) if asked.thickness_mm is None else asked.thickness_mm
        command += ["--relative-slice-thickness", f"{thick / min(spacing):.4f}"]
    return command


def _timed(command: list[str], threads: int, log: Path) -> dict[str, float]:
    """Run a command; seconds and peak memory of it and of the processes that it waited for."""
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    env.pop("PYTHONPATH", None)  # the environment is its own
    began = time.monotonic()
    with log.open("wb") as out:
        streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
        # A session of its own: it ends with its workers when this script is interrupted.
        process = subprocess.Popen(command, env=env, start_new_session=True, **streams)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise Failure(f"exit code {process.returncode}: {lines[-1] if lines else f'see {log}'}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_mib": round(used.ru_maxrss * unit / 2**20, 1),
    }


def run_all(asked: argparse.Namespace, names: list[str]) -> int:
    """Run every case, one line each; a failure does not stop the others. Returns how many failed."""
    asked.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for case in (Case(asked, name) for name in names):
        try:
            done = None if asked.force else finished(case)
            record = done or run_case(case)
            if asked.recentre:
                record = recentre(case, record)
        except (Failure, OSError) as problem:
            failed += 1
            print(f"{case.name}: failed: {problem}", file=sys.stderr, flush=True)
        else:
            print(f"{case.name}: {'was done' if done else 'done'}, {_told(record)}", flush=True)
    return failed


def _told(record: dict[str, Any]) -> str:
    place = record["position"]
    lies = f"its place is not known: {place.get('problem')}"
    if place["shift_mm"] is not None:
        lies = f"lies {', '.join(f'{s:+.2f}' for s in place['shift_mm'])} mm from its input"
    recentred = " (recentred)" if record["recentred"] else ""
    return f"{record['cpu_seconds']:.0f} CPU-seconds, {lies}{recentred}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help="patients to run; default: all of DATA")
    add("--env", type=Path, required=True, help="folder of ECLARE's environment")
    add("--install", action="store_true", help="make the environment first")
    add("--python", default=sys.executable, help="interpreter for --install (3.10 to 3.12)")
    add("--torch-index", metavar="URL", help="where --install finds PyTorch (its CPU build, say)")
    add("--data", type=Path, help="folder of patients: DATA/CASE/SERIES.nii.gz")
    add("--out", type=Path, help="folder for CASE.nii.gz, CASE.json and CASE.log")
    add("--series", default="t2w_ax", help="file name of the axial stack (default: %(default)s)")
    add("--patches", type=int, default=6400, help="default: %(default)s; ECLARE's own: 1000000")
    add("--batch", type=int, default=16, help="default: %(default)s; ECLARE's own: 128")
    add("--profile", choices=("nominal", "estimate"), default="nominal", help="slice profile")
    thickness = {"dest": "thickness_mm", "metavar": "MM", "type": float}
    add("--thickness", **thickness, help="default: the distance between slices")
    add("--gpu", type=int, default=-1, help="index of a GPU; default: the CPU")
    add("--threads", type=int, default=1, help="CPU cores for one patient (default: %(default)s)")
    add("--recentre", action="store_true", help="correct an origin that is off, as measured")
    add("--force", action="store_true", help="run finished cases again")
    return parser


def main() -> int:
    """The command line. Exit code 0: all done; 1: something failed; 2: asked wrongly."""
    parser = _parser()
    asked = parser.parse_args()
    asked.env = asked.env.absolute()
    if asked.install:
        try:
            install(asked.env, asked.python, asked.torch_index)
        except Failure as problem:
            print(problem, file=sys.stderr)
            return 1
        if not (asked.data or asked.out):
            return 0
    if not (asked.data and asked.out):
        parser.error("give --data and --out, or --install alone")
    if not (asked.env / "bin" / "run-eclare").is_file():
        parser.error(f"no ECLARE in {asked.env}; --install makes it")
    asked.data, asked.out = asked.data.resolve(), asked.out.resolve()
    found = (path.parent.name for path in asked.data.glob(f"*/{asked.series}.nii.gz"))
    cases = asked.cases or sorted(found)
    if not cases:
        parser.error(f"no */{asked.series}.nii.gz in {asked.data}")
    return 1 if run_all(asked, cases) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
