"""A row of a benchmark, measured in a process of its own: ``python -m mrisr.benchmark.work``.

Its own process, because start-up and peak memory are a process's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mrisr.benchmark.rows import Measured, Peaks, Timed
from mrisr.core.options import Files
from mrisr.core.process import keep_freed_memory
from mrisr.core.stages import STAGES, Clock, Spent
from mrisr.core.volume import VolumeFile

if TYPE_CHECKING:
    import torch

    from mrisr.core.options import InPlane, ThroughPlane
    from mrisr.runs.results import Result

#: Edge of the matrices that are multiplied, and bytes that are copied.
EDGE = {"cpu": 1024, "cuda": 8192}
COPIED = {"cpu": 2**28, "cuda": 2**31}


def measure(
    row: Timed, study: Path, device: str, began: Spent | None = None, trace: Path | None = None
) -> Measured:
    """Run a row on a study's file and measure it; ``trace`` is of one more run, for a viewer of traces."""
    from mrisr.runs.outputs import FileRun
    from mrisr.runs.run import run_files

    settings = row.settings(device)
    output = study.with_name(f"result-{study.name}")
    on = FileRun(study, Files(output=output, force=True))
    clocks = []
    for n in range(row.repeats):
        with Clock(began if n == 0 else None, partial(_settle, device)) as clock:
            made = run_files(on, settings)
        clocks.append(clock)
    if trace is not None:
        _trace(lambda: run_files(on, settings), trace)
    output.unlink()
    return _measured(row, settings, made, clocks)


def _measured(
    row: Timed, settings: InPlane | ThroughPlane, made: Result, clocks: list[Clock]
) -> Measured:
    import torch

    from mrisr.networks import resolve_device
    from mrisr.restore import model_of, resolved

    first, record = clocks[0], made.record
    fastest = {s: min((c.spent[s] for c in clocks), key=lambda v: v.processor) for s in STAGES}
    fastest["start-up"] = first.spent["start-up"]
    assert first.first is not None
    model = model_of(settings, row.job)
    voxels = made.volume.array.size
    return Measured(
        row=row,
        model=record.model.name,
        evaluations=model.restorer.evaluations(resolved(settings, model)),
        voxels=voxels,
        stages=fastest,
        first=first.first,
        operations=operations(settings, made) * voxels,
        memory=record.peak_memory_gib,
        device=record.device,
        precision="bf16" if record.precision == "bf16" else "fp32",
        threads=torch.get_num_threads(),
        peaks=peaks(resolve_device(settings.device)),
    )


def _settle(device: str) -> None:
    """Wait for the kernels that a CUDA device was told to run, once it is in use."""
    torch = sys.modules.get("torch")
    if torch is not None and device != "cpu" and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def operations(settings: InPlane | ThroughPlane, made: Result) -> float:
    """Operations of the network per voxel of the result, counted on a small study of that noise."""
    from dataclasses import replace

    from torch.utils.flop_counter import FlopCounterMode

    from mrisr.data.phantom import phantom
    from mrisr.runs.results import upsample

    counters: list[FlopCounterMode] = []

    def count(stage: str) -> AbstractContextManager[object]:
        if stage != "network":
            return nullcontext()
        counters.append(FlopCounterMode(display=False))
        return counters[-1]

    noise = made.record.parameters.get("noise", "auto")
    small = VolumeFile(phantom((32, 32, 4), spacing=made.record.input.spacing_mm))
    with Clock(label=count):
        found = upsample(small, replace(settings, noise=noise))
    return sum(c.get_total_flops() for c in counters) / found.volume.array.size


def peaks(device: torch.device, seconds: float = 0.3) -> Peaks:
    """What a device reaches: a large matrix product, the faster of PyTorch's two ways to it, and a copy."""
    import torch
    from torch.nn.functional import conv2d
    from torch.utils.benchmark import Timer, timer

    clock = time.process_time if device.type == "cpu" else timer  # which waits for CUDA

    def rate(work: float, statement: str, **given: object) -> float:
        threads = torch.get_num_threads()
        timed = Timer(statement, timer=clock, globals=given, num_threads=threads)
        return work / timed.blocked_autorange(min_run_time=seconds).median

    n, size = EDGE[device.type], COPIED[device.type]
    found = {}
    with torch.inference_mode():
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
            # The same product as a convolution of one pixel: on a CPU another library computes it.
            image = a.reshape(1, n, 1, n).contiguous(memory_format=torch.channels_last)
            kernel = b.reshape(n, n, 1, 1)
            found[name] = max(
                rate(2 * n**3, "a @ b", a=a, b=b),
                rate(2 * n**3, "f(x, w)", f=conv2d, x=image, w=kernel),
            )
        x = torch.zeros(size, dtype=torch.uint8, device=device)
        copied = rate(2 * size, "y.copy_(x)", x=x, y=torch.ones_like(x))
    return Peaks(**found, copied=copied)


def published() -> tuple[float, int]:
    """Operations per pixel and evaluation of the U-Net that SR3 and PartDiff were published with, and its
    parameters; counted, which takes neither memory nor time."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mrisr.networks.unet import UNet

    edge = 256
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = UNet()
        image = torch.zeros(1, 1, edge, edge)
        network(image, image, torch.ones(1), torch.zeros(1, 7))
    return counter.get_total_flops() / edge**2, sum(p.numel() for p in network.parameters())


def _trace(run: Callable[[], object], path: Path) -> None:
    """Leave a trace of a run, its stages named, for Perfetto or chrome://tracing."""
    from torch.profiler import profile, record_function

    with profile() as profiler, Clock(label=record_function):
        run()
    profiler.export_chrome_trace(str(path))


def main() -> None:
    """Measure the row that standard input asks for, and print what was measured."""
    keep_freed_memory()
    asked = json.load(sys.stdin)
    began = Spent(asked["began"], 0.0)
    trace = Path(asked["trace"]) if asked["trace"] else None
    row = Timed.model_validate(asked["row"])
    print(measure(row, Path(asked["study"]), asked["device"], began, trace).model_dump_json())


if __name__ == "__main__":
    main()
