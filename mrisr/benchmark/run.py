"""Running a benchmark: a phantom study, and a process for each row."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mrisr import __version__
from mrisr.benchmark.rows import DEFAULT, NOISE, SPACING, STUDY, Benchmark, Measured, Timed, planned
from mrisr.core.errors import InputError, MrisrError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.io import write_volume
from mrisr.io.atomic import json_bytes


def run_benchmark(
    device: str = "auto",
    *,
    quick: bool = False,
    trace: Path | None = None,
    command: str = "mrisr benchmark",
    report: Callable[[str], None] = lambda line: None,
) -> Benchmark:
    """Run every row, each in a fresh process, on the same phantom; a row that fails is left out in words.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        quick: few rows, on a small study.
        trace: where to leave a trace of the default method.
        command: that asked for it, as the result states it.
        report: told what is being run.

    Raises:
        UsageError: there is no such device.
        MrisrError: not one row could be run.
    """
    from mrisr.benchmark.work import published
    from mrisr.networks import resolve_device

    resolve_device(device)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rows = planned(quick)
    whole = phantom(STUDY, spacing=SPACING, noise=NOISE)
    measured, left_out = [], {}
    with tempfile.TemporaryDirectory(prefix="mrisr-benchmark-") as folder:
        for n, row in enumerate(rows, 1):
            report(f"{n} of {len(rows)}: {row.name}")
            study = Path(folder) / f"{'x'.join(map(str, row.shape))}.nii.gz"
            if not study.exists():
                write_volume(resized(whole, row.shape), study)
            traced = trace if row.name == DEFAULT.name else None
            try:
                measured.append(in_own_process(row, study, device, traced))
            except MrisrError as error:
                left_out[row.name] = str(error)
                report(f"left out: {row.name}: {error}")
    if not measured:
        raise MrisrError("not one row could be run: " + next(iter(left_out.values())))
    operations, parameters = published()
    return Benchmark(
        mrisr=__version__,
        machine=machine(),
        torch=version("torch"),
        command=command,
        load=load,
        measured=tuple(measured),
        left_out=left_out,
        published=operations,
        published_parameters=parameters,
    )


def resized(volume: Volume, shape: tuple[int, int, int]) -> Volume:
    """A volume cut, or repeated, to a shape."""
    fitting = tuple(slice(0, n) for n in shape)
    more = [(0, max(0, n - have)) for n, have in zip(shape, volume.shape, strict=True)]
    return replace(volume, array=np.pad(volume.array, more, mode="wrap")[fitting].copy())


def in_own_process(row: Timed, study: Path, device: str, trace: Path | None = None) -> Measured:
    """Measure a row in a fresh process. Raises MrisrError if it fails."""
    asked: dict[str, Any] = {
        "row": row.model_dump(),
        "study": str(study),
        "device": device,
        "trace": trace and str(trace),
        "began": time.monotonic(),
    }
    program = [sys.executable, "-m", "mrisr.benchmark.work"]
    done = subprocess.run(program, input=json_bytes(asked), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no memory, perhaps"]
        raise MrisrError(f"ended with {done.returncode}: {said[-1]}")
    return Measured.model_validate_json(done.stdout)


def machine() -> str:
    """The processor by its name, its cores and what of it PyTorch uses."""
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        told = (line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        name = {key.strip(): value.strip() for key, value in told}.get("model name", name)
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def read_benchmark(path: Path) -> Benchmark:
    """Read the file that an earlier benchmark left. Raises InputError."""
    try:
        return Benchmark.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(path, expected="a benchmark", found=error.strerror or "") from error
    except ValidationError as error:
        first = error.errors()[0]
        expected = f"a benchmark with a valid {'.'.join(map(str, first['loc']))!r}"
        raise InputError(path, expected=expected, found=first["msg"]) from error
