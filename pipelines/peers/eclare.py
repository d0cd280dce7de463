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
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from environment import Failure, device_name, install, output_of, versions

#: Shifts below this cannot be told from the blur of a result (mm); they are reported, not corrected.
ACCURACY_MM = 0.2
OVERLAY = Path(__file__).with_name("overlay.py")


@dataclass(frozen=True)
class Settings:
    """What decides ECLARE's result, and is compared before a finished case is skipped.

    Attributes:
        patches: patches that it learns from (ECLARE's own default is 1 000 000).
        batch: patches in a step.
        profile: ``nominal`` (a Gaussian of the slice thickness) or ``estimate`` (ESPRESO, its own estimate).
        thickness_mm: slice thickness; None takes the distance between slices.
        gpu: index of a GPU, or -1 for the CPU.
    """

    patches: int
    batch: int
    profile: str
    thickness_mm: float | None
    gpu: int


@dataclass(frozen=True)
class Place:
    """Places of the environment, the patients and the results; and cores for one patient."""

    env: Path
    data: Path
    out: Path
    series: str
    threads: int

    def program(self, name: str) -> str:
        """Path of a command of the environment."""
        return str(self.env / "bin" / name)


@dataclass(frozen=True)
class Case:
    """One patient: the input, and what is made of it. The record comes last and says that it is done."""

    place: Place
    name: str

    @property
    def source(self) -> Path:
        """The volume that ECLARE learns from."""
        return self.place.data / self.name / f"{self.place.series}.nii.gz"

    def file(self, ending: str) -> Path:
        """A file of the results."""
        return self.place.out / f"{self.name}{ending}"

    def write(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write the record, whole or not at all."""
        beside = self.place.out / f".{self.name}.json.part"
        beside.write_text(json.dumps(record, indent=2) + "\n")
        os.replace(beside, self.file(".json"))
        return record

    def position(self, volume: Path, *, write: Path | None = None) -> dict[str, Any]:
        """Measure where a volume lies, by overlay.py in the environment, which has the libraries for it.

        A volume that it cannot place is kept all the same: it took an hour.
        """
        command = [self.place.program("python"), str(OVERLAY), str(self.source), str(volume)]
        command += ["--write", str(write)] if write else []
        try:
            return dict(json.loads(output_of(command)))
        except Failure as problem:
            return {"shift_mm": None, "problem": str(problem)}


def run_case(case: Case, settings: Settings) -> dict[str, Any]:
    """Run ECLARE on one patient and return the record. Raises Failure."""
    place, source = case.place, case.source
    if Path(case.name).name != case.name or not source.is_file():
        raise Failure(f"no {source}")
    command = _command(place, source, settings)
    with tempfile.TemporaryDirectory(prefix=f".{case.name}.", dir=place.out) as work:
        log = case.file(".log")
        cost = _timed([*command, "--out-dir", work], place.threads, log)
        made = next(Path(work).glob("*_eclare.nii.gz"), None)
        if made is None:
            raise Failure(f"it ended without a volume; see {log}")
        told = [f"DATA/{case.name}/{source.name}" if a == str(source) else a for a in command[1:]]
        record = {
            "peer": "ECLARE",
            "case": case.name,
            "input": source.name,
            "input_sha256": _digest(source),
            "settings": asdict(settings),
            "command": shlex.join(["run-eclare", *told, "--out-dir", "OUT"]),
            **cost,
            "threads": place.threads,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "device": device_name(place.env, settings.gpu),
            "versions": versions(place.env),
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
        beside = case.place.out / f".{kept.name}.part"
        shutil.copyfile(volume, beside)
        os.replace(beside, kept)
    before = case.position(kept, write=volume)
    after = case.position(volume)
    return case.write(
        record | {"position": after, "recentred": True, "position_as_written": before}
    )


def finished(case: Case, settings: Settings) -> dict[str, Any] | None:
    """Record of a case that is done; None where it is not. Raises Failure where it is done otherwise."""
    path = case.file(".json")
    if not (path.is_file() and case.file(".nii.gz").is_file()):
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        same = record["settings"] == asdict(settings)
        same = same and record["input_sha256"] == _digest(case.source)
    except (ValueError, KeyError, OSError) as problem:
        raise Failure(f"{path}: expected a record of this script ({problem!r})") from None
    if not same:
        raise Failure("done before with other settings or another input; --force makes it anew")
    return record


def _command(place: Place, source: Path, settings: Settings) -> list[str]:
    """ECLARE's command, less its output folder."""
    command = [place.program("run-eclare"), "--in-fpath", str(source)]
    command += ["--gpu-id", str(settings.gpu), "--n-patches", str(settings.patches)]
    command += ["--batch-size", str(settings.batch)]
    if settings.profile == "nominal":
        code = "import nibabel, sys; print(*nibabel.load(sys.argv[1]).header.get_zooms()[:3])"
        zooms = output_of([place.program("python"), "-c", code, str(source)])
        spacing = [float(s) for s in zooms.split()]
        thick = max(spacing) if settings.thickness_mm is None else settings.thickness_mm
        command += ["--relative-slice-thickness", f"{thick / min(spacing):.4f}"]
    return command


def _timed(command: list[str], threads: int, log: Path) -> dict[str, float]:
    """Run a command; seconds and peak memory of it and of the processes that it waited for."""
    count = str(threads)
    env = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    env.pop("PYTHONPATH", None)  # the environment is its own
    began = time.monotonic()
    with log.open("wb") as out:
        # A session of its own: it ends with its workers when this script is interrupted.
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
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
    cpu = used.ru_utime + used.ru_stime
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_memory_mib": round(used.ru_maxrss * unit / 2**20, 1),
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_all(
    place: Place, names: list[str], settings: Settings, *, recentred: bool, force: bool
) -> int:
    """Run every case, one line each; a failure does not stop the others. Returns how many failed."""
    place.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for case in (Case(place, name) for name in names):
        try:
            done = None if force else finished(case, settings)
            record = done or run_case(case, settings)
            if recentred:
                record = recentre(case, record)
        except (Failure, OSError) as problem:
            failed += 1
            print(f"{case.name}: failed: {problem}", file=sys.stderr, flush=True)
        else:
            print(f"{case.name}: {'was done' if done else 'done'}, {_told(record)}", flush=True)
    return failed


def _told(record: dict[str, Any]) -> str:
    shift = record["position"]["shift_mm"]
    if shift is None:
        lies = f"its place is not known: {record['position']['problem']}"
    else:
        lies = f"lies {', '.join(f'{s:+.2f}' for s in shift)} mm from its input"
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
    add("--thickness", type=float, metavar="MM", help="default: the distance between slices")
    add("--gpu", type=int, default=-1, help="index of a GPU; default: the CPU")
    add("--threads", type=int, default=1, help="CPU cores for one patient (default: %(default)s)")
    add("--recentre", action="store_true", help="correct an origin that is off, as measured")
    add("--force", action="store_true", help="run finished cases again")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 0: all done; 1: something failed; 2: asked wrongly."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    env = asked.env.absolute()
    try:
        if asked.install:
            install(env, asked.python, asked.torch_index)
    except Failure as problem:
        print(problem, file=sys.stderr)
        return 1
    if asked.install and not (asked.data or asked.out):
        return 0
    if not (asked.data and asked.out):
        parser.error("give --data and --out, or --install alone")
    if not (env / "bin" / "run-eclare").is_file():
        parser.error(f"no ECLARE in {env}; --install makes it")
    place = Place(env, asked.data.resolve(), asked.out.resolve(), asked.series, asked.threads)
    cases = asked.cases or sorted(
        p.parent.name for p in place.data.glob(f"*/{place.series}.nii.gz")
    )
    if not cases:
        parser.error(f"no */{place.series}.nii.gz in {place.data}")
    settings = Settings(asked.patches, asked.batch, asked.profile, asked.thickness, asked.gpu)
    failed = run_all(place, cases, settings, recentred=asked.recentre, force=asked.force)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
