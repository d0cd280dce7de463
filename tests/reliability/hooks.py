"""What befalls a run: called in its process before the command line starts (``runner.run_cli``)."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def lose_the_folder(folder: Path) -> None:
    """The output's folder is removed while the network works."""
    _after_inference(lambda: shutil.rmtree(folder))


def meet_and_pause(folder: Path, partners: int, first: float, second: float) -> None:
    """All partners wait for each other when they have their results, so that all write at once. Then
    this one waits before it writes, and again before its record is in its place."""
    from mrisr.runs import run

    staged = run.staged

    def wait() -> None:
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(folder.iterdir())) < partners:
            assert time.monotonic() < deadline, "the partner did not come"
            time.sleep(0.001)
        time.sleep(first)

    @contextmanager
    def slow(*arguments: Any, **more: Any) -> Iterator[None]:
        with staged(*arguments, **more):
            yield
            time.sleep(second)

    _after_inference(wait)
    run.staged = slow


def _after_inference(act: Callable[[], object]) -> None:
    from mrisr.engine import Engine

    restore_all = Engine.restore_all

    def restored(*arguments: Any, **more: Any) -> Any:
        result = restore_all(*arguments, **more)
        act()
        return result

    Engine.restore_all = restored  # type: ignore[method-assign]


def tell_when_at_work(sign: Path) -> None:
    """A file appears when the command line has been understood and the work begins."""
    from mrisr import restore

    load_model = restore.load_model

    def load(*arguments: Any) -> Any:
        sign.touch()
        return load_model(*arguments)

    restore.load_model = load


def promise_room() -> None:
    """The disk says that it has room, as one with quotas does; it is known only in the writing."""
    shutil.disk_usage = lambda path: SimpleNamespace(free=2**60)  # type: ignore[assignment]


def pretend_cuda(room: int) -> None:
    """A CUDA device that has no memory for more pixels than ``room``: the CPU in disguise."""
    import torch

    from mrisr import engine
    from mrisr.runs import results

    class Device:
        type, index = "cuda", None

    def as_cpu(to: Any) -> Any:
        def moved(self: Any, *where: Any, **more: Any) -> Any:
            return to(self, *("cpu" if isinstance(w, Device) else w for w in where), **more)

        return moved

    torch.Tensor.to = as_cpu(torch.Tensor.to)  # type: ignore[method-assign]
    torch.nn.Module.to = as_cpu(torch.nn.Module.to)  # type: ignore[method-assign]
    resolve, name, peak = engine.resolve_device, results.device_name, results.peak_memory_gib
    real = torch.device("cpu")
    engine.resolve_device = lambda n: Device() if n == "cuda" else resolve(n)  # type: ignore[assignment, return-value]
    results.device_name = lambda d: "cuda: pretended" if isinstance(d, Device) else name(d)
    results.peak_memory_gib = lambda d: peak(real if isinstance(d, Device) else d)
    compute = engine.Engine._compute

    def limited(self: Any, function: Any, x: Any, *more: Any) -> Any:
        if isinstance(self.device, Device) and x[0].numel() > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(self, function, x, *more)

    engine.Engine._compute = limited  # type: ignore[method-assign]
