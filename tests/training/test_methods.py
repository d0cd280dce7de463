"""Every method trains from the one loop, within a budget of time, with or without a critic."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrisr.config import Config
from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.models.store import load_model
from mrisr.physics.measurement import Measurement
from mrisr.physics.separable import in_plane_operator
from mrisr.restore import restore
from mrisr.training import train
from tests.training.helpers import CRITIC, rows, smoke, variant

pytestmark = pytest.mark.usefixtures("no_curves")

LIIF = {"type": "liif", "width": 8, "blocks": 1, "hidden": 8, "layers": 2}


def of(method: str, tmp_path: Path, data: Path, **train_changes: Any) -> Config:
    """The smoke configuration of a method; for an inversion its denoiser is trained first."""
    config = smoke(**train_changes)
    if method == "implicit":
        return variant(config, method=method, network=LIIF)
    if method == "inversion":
        plain = {"path": "plain", "start": 0.01, "at_start": 0.0}
        first = variant(smoke(iterations=2), diffusion=plain)
        denoiser = train(first, data, tmp_path / "denoiser", device="cpu")
        return variant(config, method=method, inversion={"denoiser": str(denoiser)})
    return variant(config, method=method)


@pytest.mark.parametrize(
    ("method", "critic"),
    [
        ("regression", None),
        ("regression", CRITIC),
        ("implicit", None),
        ("inversion", None),
        ("inversion", CRITIC),
    ],
)
def test_methods_train_and_restore(
    method: str, critic: dict[str, Any] | None, data: Path, tmp_path: Path
) -> None:
    config = of(method, tmp_path, data, iterations=6, validate_every=6, log_every=1)
    config = variant(config, train={"adversarial": critic})
    model = load_model(train(config, data, tmp_path / "run", device="cpu"))
    assert all(np.isfinite(row["loss"]) for row in rows(tmp_path / "run") if "loss" in row)
    assert model.card.method == method
    assert (model.card.default_steps, model.card.default_eta) == (1, 0.0)
    operator = in_plane_operator((20, 24), (40, 48), 2.0)
    y = torch.rand(2, 1, 20, 24) * 2 - 1
    sampling = Sampling(device="cpu", precision="fp32")
    x = restore(Measurement(y, operator, (-1.0, 1.0)), model, sampling).stack
    assert x.shape == (2, 1, 40, 48)
    assert bool(torch.isfinite(x).all())


def test_an_inversion_carries_its_denoiser(data: Path, tmp_path: Path) -> None:
    config = of("inversion", tmp_path, data, iterations=2)
    card_path = train(config, data, tmp_path / "run", device="cpu")
    frozen = load_model(tmp_path / "denoiser").restorer.network.state_dict()
    model: Any = load_model(card_path)
    weights = model.restorer.denoiser.network.state_dict()
    assert all(torch.equal(weights[k], frozen[k]) for k in frozen)
    assert model.card.training.initialized_from == "smoke"
    assert model.card.inversion.network == config.network
    assert model.card.diffusion.path == "plain"


def test_an_inversion_needs_a_denoiser_of_its_job(data: Path, tmp_path: Path) -> None:
    other = train(
        variant(smoke(iterations=1), method="regression"), data, tmp_path / "r", device="cpu"
    )
    for denoiser, expected in ((other, "expected a diffusion model"), ("nowhere", "no model")):
        config = variant(smoke(), method="inversion", inversion={"denoiser": str(denoiser)})
        with pytest.raises(UsageError, match=expected):
            train(config, data, tmp_path / "run", device="cpu")


def test_a_critic_changes_what_is_learned_once_it_may(data: Path, tmp_path: Path) -> None:
    weights = []
    for name, critic in (("none", None), ("later", CRITIC | {"after": 1.0}), ("now", CRITIC)):
        config = of("regression", tmp_path, data, iterations=4)
        config = variant(config, train={"adversarial": critic})
        train(config, data, tmp_path / name, device="cpu")
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_a_budget_of_time_ends_the_run(data: Path, tmp_path: Path) -> None:
    """And the learning rate has fallen to its end by then; a finished run is not taken further."""
    config = smoke(iterations=100_000, minutes=0.01, warmup=0, lr_final=0.0, log_every=1)
    card = load_model(train(config, data, tmp_path, device="cpu")).card
    steps = [row for row in rows(tmp_path) if "loss" in row]
    assert card.training.minutes == 0.01
    assert card.training.iterations == steps[-1]["step"]
    assert 1 < len(steps) < 10_000
    assert steps[-1]["lr"] < 0.2 * steps[0]["lr"]
    before = (tmp_path / "model.safetensors").read_bytes()
    train(config, data, tmp_path, resume=True, device="cpu")
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert load_model(tmp_path).card.training.iterations == card.training.iterations


def test_weights_may_be_stored_in_half_precision(data: Path, tmp_path: Path) -> None:
    for store in ("float32", "float16"):
        train(smoke(iterations=2, store=store), data, tmp_path / store, device="cpu")
    files = [tmp_path / s / "model.safetensors" for s in ("float32", "float16")]
    assert files[1].stat().st_size < 0.7 * files[0].stat().st_size
    full, half = (load_model(f).restorer.network.state_dict() for f in files)
    for key in full:
        assert half[key].dtype == torch.float32
        torch.testing.assert_close(half[key], full[key], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("diffusion", {"train": {"adversarial": CRITIC}}, "a critic serves"),
        ("implicit", {"train": {"adversarial": CRITIC}, "network": LIIF}, "a critic serves"),
        ("interpolation", {"network": {"type": "interpolation"}}, "nothing to train"),
    ],
)
def test_what_no_method_trains_with_is_refused(
    method: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        variant(smoke(), method=method, **changes)
