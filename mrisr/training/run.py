"""Training, ``mrisr train``: a run in its folder, from the first step or from its checkpoint to the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from mrisr.config import Config, ZonesConfig
from mrisr.core.errors import UsageError
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.training.bookkeeping import Log
from mrisr.training.loop import CHECKPOINT, Trainee, make_fabric, run_loop


def train(
    config: Config | ZonesConfig,
    data: Path,
    output: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train ``config`` on the cache ``data``; the run's folder ``output`` receives everything.

    The folder holds ``config.yaml`` (resolved), ``metrics.jsonl``, ``checkpoint.safetensors``,
    ``examples/`` and, at the end, ``model.safetensors`` with ``model.json``.

    Args:
        resume: continue from the checkpoint, or start if there is none.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: receives one line per log entry.

    Returns:
        The path of the final model's card.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not given, or the run has other settings.
        InputError: the cache is unusable or has no slices for this configuration.
    """
    if (output / CHECKPOINT).exists() and not resume:
        raise UsageError(f"{output}: holds a run; --resume continues it")
    fabric = make_fabric(device)
    fabric.launch()
    run = _trainee(config, data, output, fabric)
    if run.checkpoint.exists():
        run.resume()
    if fabric.is_global_zero:
        make_folder(output)
        write_bytes(output / "config.yaml", config.dump().encode())
    log = Log(output, run.progress.step, fabric.is_global_zero, report)
    run_loop(run, log)
    fabric.barrier()
    if fabric.is_global_zero:
        run.export()
    return output / "model.json"


def _trainee(
    config: Config | ZonesConfig, data: Path, output: Path, fabric: Fabric
) -> Trainee[Any]:
    """Make what the configuration trains, each kind with the libraries that it alone needs."""
    if isinstance(config, ZonesConfig):
        from mrisr.training.zones import Segmentation

        return Segmentation(config, data, output, fabric)
    from mrisr.training.restoration import Restoration

    return Restoration(config, data, output, fabric)
