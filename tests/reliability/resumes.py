"""Training that is killed, or whose disk fills up, and goes on as if nothing had happened."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import yaml

from tests.reliability.disks import assert_told, disk
from tests.reliability.expect import Cases
from tests.reliability.runner import ROOT, Outcome, Running, run_cli, start_cli

CASES = Cases("Training")
_CHECKPOINT = "checkpoint.safetensors"


def _study(folder: Path, iterations: int) -> tuple[Path, Path]:
    """A configuration, and a cache of two patients and one held out."""
    from mrisr.data.phantom import phantom
    from mrisr.io import write_volume

    data, cache, config = folder / "data", folder / "cache", folder / "config.yaml"
    for i, case in enumerate(("one", "two", "held-out")):
        (data / case).mkdir(parents=True)
        made = phantom((64, 60, 3), spacing=(0.8, 0.8, 3.0), seed=i, noise=0.01)
        write_volume(made, data / case / "t2w.nii")
    done = run_cli(["prepare", "--data", data, "--output", cache, "--quiet"], folder)
    assert done.code == 0, done.stderr
    content = yaml.safe_load((ROOT / "configs" / "smoke.yaml").read_text())
    content["data"]["validation"] = ["held-out"]
    often = {"checkpoint_every": 3, "log_every": 1, "validate_every": iterations}
    content["train"] |= {"iterations": iterations, **often}
    config.write_text(yaml.safe_dump(content))
    return config, cache


def _train(config: Path, cache: Path, run: Path) -> Running:
    arguments = ["train", "--config", config, "--data", cache, "--output", run, "--resume"]
    return start_cli([*arguments, "--device", "cpu", "--quiet"], config.parent)


def _finish(running: Running) -> Outcome:
    outcome = running.wait(300)
    assert outcome.code == 0, f"exit {outcome.code}: {outcome.stderr[-300:]}"
    return outcome


def _curve(run: Path) -> list[dict[str, Any]]:
    """Lines of the log without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def _step(run: Path) -> int:
    from safetensors import safe_open

    path = run / _CHECKPOINT
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            file.get_tensor(key)
        return int(json.loads(file.metadata()["progress"])["step"])


def _assert_same(run: Path, whole: Path) -> None:
    assert _curve(run) == _curve(whole), "another loss curve than that of the uninterrupted run"
    same = (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert same, "other weights than those of the uninterrupted run"
    left = [p.name for p in run.rglob("*") if "mrisr-tmp" in p.name or ".next." in p.name]
    assert not left, f"left behind: {left}"


def killed(folder: Path, kills: int, iterations: int) -> str:
    """Killed at random moments and resumed, until it has been killed often enough."""
    config, cache = _study(folder, iterations)
    seconds = _finish(_train(config, cache, folder / "whole")).seconds
    run, draw, steps = folder / "killed", random.Random(11), [0]
    done = 0
    while done < kills:
        running = _train(config, cache, run)
        time.sleep(draw.uniform(0, seconds / kills))
        running.kill()
        if running.wait().code == 0:  # it was through before
            shutil.rmtree(run)
            steps.append(0)
            continue
        done += 1
        steps.append(_step(run))
        assert steps[-1] >= steps[-2], f"the checkpoint went back: {steps}"
    _finish(_train(config, cache, run))
    _assert_same(run, folder / "whole")
    return f"{kills} kills, checkpoints at {', '.join(map(str, steps[1:]))}; same curve and weights"


def terminated(folder: Path) -> str:
    """SIGTERM, as a cluster sends it at the end of the time."""
    config, cache = _study(folder, 60)
    seconds = _finish(_train(config, cache, folder / "whole")).seconds
    running = _train(config, cache, folder / "stopped")
    time.sleep(seconds / 2)
    running.kill(signal.SIGTERM)
    outcome = running.wait()
    assert outcome.code == 1, f"exit {outcome.code}: {outcome.stderr[-300:]}"
    assert outcome.stderr == "mrisr: stopped\n", outcome.stderr[-300:]
    at = _step(folder / "stopped")
    _finish(_train(config, cache, folder / "stopped"))
    _assert_same(folder / "stopped", folder / "whole")
    return f"exit 1, stopped; resumed at step {at}: same curve and weights"


def disk_fills_up(folder: Path) -> str:
    """First there is no room for a checkpoint, then there is."""
    config, cache = _study(folder, 12)
    _finish(_train(config, cache, folder / "whole"))
    size = (folder / "whole" / _CHECKPOINT).stat().st_size
    with disk(folder / "run", 8 * size) as run:
        filler = run / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(run).free - 3 * size // 2))
        outcome = _train(config, cache, run).wait()
        line = assert_told(outcome, run / _CHECKPOINT, "No space left on device")
        at = _step(run)
        assert at == 3, f"the last checkpoint is of step {at}"
        filler.write_bytes(b"")
        filler.unlink()
        _finish(_train(config, cache, run))
        _assert_same(run, folder / "whole")
    return f"{line}; resumed at step {at}: same curve and weights"


_SAME = "the last checkpoint can be loaded; the resumed run has the curve and weights of an undisturbed one"

CASES.add("kill -9, 3 times", _SAME, lambda f: killed(f, 3, 60))
CASES.add("kill -9, 12 times", _SAME, lambda f: killed(f, 12, 400), slow=True)
CASES.add("SIGTERM", f"one line, exit 1; {_SAME}", terminated)
should = f"exit 3, one line with path and bytes needed; {_SAME}"
CASES.add("full disk", should, disk_fills_up)
