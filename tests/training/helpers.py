"""Small runs, in this process and in others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import mrisr
from mrisr.config import Config, load_config

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
LIMIT_S = 120  # for processes that may share a busy machine


def environment() -> dict[str, str]:
    """Of child processes: the same package, one thread, one machine."""
    root = str(Path(mrisr.__file__).parents[1])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def smoke(**train_changes: Any) -> Config:
    """The smoke configuration with one patient held out and, if given, other training settings."""
    content = load_config(SMOKE).model_dump()
    content["data"]["validation"] = ("held-out",)
    content["train"] |= train_changes
    return Config.model_validate(content)


#: A small critic that speaks up from the start.
CRITIC = {"width": 8, "after": 0.0, "weight": 0.01, "features": 0.1}


def variant(config: Config, *, train: dict[str, Any] | None = None, **changes: Any) -> Config:
    """The configuration with other top-level settings and, in part, other training settings."""
    content = config.model_dump() | changes
    content["train"] |= train or {}
    return Config.model_validate(content)


def rows(run: Path) -> list[dict[str, float]]:
    """Lines of the log without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def run_step(checkpoint: Path) -> int:
    """Steps that a checkpoint has behind it."""
    with safe_open(checkpoint, "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


#: Trains slowly (a pause per log line), so that it can be killed at a chosen moment.
SLOW = """
import sys, time
from pathlib import Path
from mrisr.config import load_config
from mrisr.training import train
train(load_config(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), resume=True, device="cpu",
      report=lambda line: time.sleep(0.03))
"""


def kill_after(config: Path, data: Path, run: Path, step: int) -> int:
    """Train in another process and kill it once its checkpoint is at ``step`` or later."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, config, data, run],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = run / "checkpoint.safetensors"
    end = time.monotonic() + LIMIT_S
    while not checkpoint.exists() or run_step(checkpoint) < step:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"no checkpoint at step {step}: {process.communicate()[1]}")
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return run_step(checkpoint)
