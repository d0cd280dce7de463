"""Training runs, survives being killed, and works with several processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrisr.config import Config, TrainSettings, load_config
from mrisr.core.errors import InputError, UsageError
from mrisr.models.store import load_model
from mrisr.training import train
from mrisr.training.loop import learning_rate
from tests.training.helpers import CRITIC, LIMIT_S, environment, kill_after, rows, smoke, variant

pytestmark = pytest.mark.usefixtures("no_curves")


def test_smoke_run_makes_a_model(data: Path, tmp_path: Path) -> None:
    config = smoke()
    lines: list[str] = []
    card_path = train(config, data, tmp_path / "run", device="cpu", report=lines.append)
    model = load_model(card_path)
    assert model.card.name == "smoke"
    assert model.card.training.cases == ("one", "two")
    assert model.card.training.validation_cases == ("held-out",)
    assert model.card.training.slices == 6
    assert model.card.training.seconds > 0
    assert load_config(tmp_path / "run" / "config.yaml") == config
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found if "loss" in row] == [5, 10, 15, 20]
    assert all(np.isfinite(row["loss"]) for row in found if "loss" in row)
    before, after = (row for row in found if "x2_psnr" in row)
    assert (before["step"], after["step"]) == (0, 20)
    assert {"x2_gain", "x2_ssim_gain", "x4_psnr"} <= before.keys() == after.keys()
    assert len(lines) == 1 + len(found)
    examples = sorted(p.name for p in (tmp_path / "run" / "examples").iterdir())
    assert examples == ["0000000.png", "0000020.png"]
    out = model.restorer.denoiser(
        *torch.zeros(2, 1, 1, 20, 22), torch.tensor([0.25]), torch.zeros(1, model.card.condition)
    )
    assert out.shape == (1, 1, 20, 22)


@pytest.mark.slow
def test_training_learns(data: Path, tmp_path: Path) -> None:
    """A fresh network returns the interpolated image, projected: every dB above it was learned."""
    config = smoke(iterations=150, lr=5e-3, lr_final=0.0, log_every=50, validate_every=150)
    train(config, data, tmp_path, device="cpu")
    before, after = (row for row in rows(tmp_path) if "x2_gain" in row)
    assert after["x2_gain"] - before["x2_gain"] > 0.2


def test_same_seed_same_weights_other_seed_others(data: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(smoke(iterations=4, seed=seed), data, tmp_path / name, device="cpu")
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(
    data: Path, tmp_path: Path
) -> None:
    train(smoke(iterations=2), data, tmp_path, device="cpu")
    with pytest.raises(UsageError, match="--resume"):
        train(smoke(iterations=2), data, tmp_path, device="cpu")
    for change in ({"lr": 0.5}, {"iterations": 3}, {"seed": 9}):
        with pytest.raises(UsageError, match="other settings"):
            train(smoke(**({"iterations": 2} | change)), data, tmp_path, resume=True, device="cpu")
    before = (tmp_path / "model.safetensors").read_bytes()
    train(smoke(iterations=2, log_every=1), data, tmp_path, resume=True, device="cpu")
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_unusable_data_and_damaged_checkpoints_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        train(smoke(), tmp_path / "missing", tmp_path / "run", device="cpu")
    nowhere = variant(smoke(), data=smoke().data.model_dump() | {"planes": {"sagittal": 1.0}})
    with pytest.raises(InputError, match="sagittal"):
        train(nowhere, data, tmp_path / "run", device="cpu")
    train(smoke(iterations=2), data, tmp_path, device="cpu")
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
        train(smoke(iterations=2), data, tmp_path, resume=True, device="cpu")


def test_starts_from_another_models_weights(data: Path, tmp_path: Path) -> None:
    first = train(smoke(iterations=2), data, tmp_path / "first", device="cpu")
    config = smoke(iterations=1, lr=1e-12, warmup=0, initialize=str(first), ema=0.0)
    second = train(config, data, tmp_path / "second", device="cpu")
    a, b = (load_model(p).restorer.network.state_dict() for p in (first, second))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=1e-6)
    assert load_model(second).card.training.initialized_from == str(first)


def test_a_network_that_is_deeper_and_told_more_begins_as_the_one_it_started_from(
    data: Path, tmp_path: Path
) -> None:
    first = train(smoke(iterations=2), data, tmp_path / "first", device="cpu")
    config = smoke(iterations=1, lr=1e-12, warmup=0, initialize=str(first), ema=0.0)
    size = config.network.model_dump()
    deeper = variant(
        config,
        network=size | {"blocks": size["blocks"] + 2},
        data=config.data.model_dump() | {"noise": 0.05},
    )
    old, new = (load_model(p) for p in (first, train(deeper, data, tmp_path / "b", device="cpu")))
    assert (new.card.noise, new.card.condition) == (True, old.card.condition + 1)
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    g, told = torch.tensor([0.3, 0.9]), torch.rand(2, old.card.condition)
    with_noise = torch.cat([told, torch.tensor([[0.0], [0.7]])], dim=1)
    torch.testing.assert_close(
        new.restorer.network(x, x, g, with_noise),
        old.restorer.network(x, x, g, told),
        rtol=0,
        atol=1e-5,
    )


def test_another_networks_weights_are_refused(data: Path, tmp_path: Path) -> None:
    first = train(smoke(iterations=1), data, tmp_path / "first", device="cpu")
    config = smoke(initialize=str(first))
    wider = variant(config, network=config.network.model_dump() | {"width": 16})
    with pytest.raises(UsageError, match="another network"):
        train(wider, data, tmp_path / "second", device="cpu")


@pytest.mark.parametrize(
    "diffusion",
    [
        {"path": "aligned", "start": 0.25, "loss": "l2"},
        {"path": "plain", "start": 0.003176, "from_noise": True},
    ],
)
def test_validation_samples_what_predicts_the_noise(
    data: Path, tmp_path: Path, diffusion: dict[str, Any]
) -> None:
    """One step would return the interpolated image on the aligned path, and gain exactly nothing."""
    content = smoke(iterations=1).model_dump()
    content["diffusion"] |= diffusion | {"prediction": "noise", "at_start": 0.0}
    train(Config.model_validate(content), data, tmp_path, device="cpu")
    *_, validation = (row for row in rows(tmp_path) if "x2_gain" in row)
    assert np.isfinite(validation["x2_gain"])
    assert abs(validation["x2_gain"]) > 1e-3


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1e-4), (9, 1e-3), (50, 0.55e-3), (99, 1e-4), (100, 1e-4)]
)
def test_learning_rate(step: int, expected: float) -> None:
    warm = TrainSettings(iterations=100, lr=1e-3, lr_final=1e-4, warmup=10)
    assert learning_rate(step, step / 100, warm) == pytest.approx(expected, rel=0.03)
    assert learning_rate(step, step / 100, TrainSettings(iterations=100, lr=1e-3)) == 1e-3


METHODS = ["diffusion", "srgan"]


# --- killed and resumed ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_continues_as_if_nothing_had_happened(
    data: Path, tmp_path: Path, method: str
) -> None:
    """Same loss curve and the same weights to the last bit as a run that was left alone."""
    threads = torch.get_num_threads()
    config = smoke(iterations=60, checkpoint_every=7, log_every=1, validate_every=60)
    if method == "srgan":
        config = variant(config, method="regression", train={"adversarial": CRITIC})
    file = tmp_path / "config.yaml"
    file.write_text(config.dump(), encoding="utf-8")
    torch.set_num_threads(1)
    try:
        train(config, data, tmp_path / "whole", device="cpu")
        stopped = kill_after(file, data, tmp_path / "killed", 14)
        assert 14 <= stopped < 60
        train(config, data, tmp_path / "killed", resume=True, device="cpu")
    finally:
        torch.set_num_threads(threads)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    weights = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert not list((tmp_path / "killed").glob("*mrisr-tmp*"))


# --- several processes ----------------------------------------------------------------------------

#: Each process appends a digest of its weights after every optimiser step to a file of its own.
WORKER = """
import hashlib, os, sys
from pathlib import Path
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from mrisr.config import load_config
from mrisr.training import train

run = Path(sys.argv[3])
def digest(optimizer, args, kwargs):
    values = [p.detach().flatten() for g in optimizer.param_groups for p in g["params"]]
    text = hashlib.sha256(torch.cat(values).numpy().tobytes()).hexdigest()
    with Path(sys.argv[4], os.environ["RANK"]).open("a") as file:
        file.write(text + "\\n")
register_optimizer_step_post_hook(digest)
train(load_config(sys.argv[1]), Path(sys.argv[2]), run, device="cpu")
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_one_model(data: Path, tmp_path: Path, method: str) -> None:
    config = smoke(iterations=6, checkpoint_every=6, log_every=2, validate_every=6)
    if method == "srgan":
        config = variant(config, method="regression", train={"adversarial": CRITIC})
    file, script = tmp_path / "config.yaml", tmp_path / "worker.py"
    file.write_text(config.dump(), encoding="utf-8")
    script.write_text(WORKER, encoding="utf-8")
    digests = tmp_path / "digests"
    digests.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    paths = [str(p) for p in (script, file, data, tmp_path / "run", digests)]
    command = [*launcher, "--nproc-per-node", "2", *paths]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ((digests / rank).read_text().split() for rank in ("0", "1"))
    assert len(first) == (6 if method == "diffusion" else 12)  # the critic steps as well
    assert first == second
    assert len(set(first)) == len(first)
    assert [row["step"] for row in rows(tmp_path / "run") if "loss" in row] == [2, 4, 6]
    assert "2 process" in load_model(tmp_path / "run").card.training.hardware
