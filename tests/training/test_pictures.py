"""A cache of RGB pictures: crops and pairs in three channels, and every method learns from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from mrisr.config import CardSettings, Config, DataSettings, load_config
from mrisr.core.errors import InputError, UsageError
from mrisr.core.random import seeded
from mrisr.data import cache, pairs
from mrisr.data.phantom import phantom
from mrisr.data.prepare import prepare_pictures
from mrisr.methods import build_restorer
from mrisr.methods.base import Sampling, given
from mrisr.models.store import load_model
from mrisr.networks import build_network
from mrisr.physics.separable import CONDITION
from mrisr.restore.engine import Engine
from mrisr.restore.sampling import Options
from mrisr.restore.volumes import upsample_in_plane
from mrisr.training import train
from mrisr.training.validation import validate, write_examples
from tests.data.test_pictures import save, waves

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
SMOKE = CONFIGS / "smoke-rgb.yaml"
RGB = sorted(CONFIGS.glob("rgb-*.yaml"))

# --- crops, pairs, validation ---------------------------------------------------------------------


def picture_stack(seed: int = 0, size: tuple[int, int] = (60, 72)) -> cache.Stack:
    levels = cache.picture_levels(waves(*size, seed=seed))
    return cache.Stack(f"p{seed}", f"p{seed}", cache.PICTURE, None, levels)


def picture_settings(**changes: Any) -> DataSettings:
    content = {
        "planes": {"picture": 1.0},
        "crop": 32,
        "margin": 4,
        "degradations": [{"kind": "bicubic", "factors": [2, 4]}],
    }
    return DataSettings.model_validate(content | changes)


def test_crops_keep_colours_together_and_the_sky_above() -> None:
    r, c = np.meshgrid(np.arange(60), np.arange(72), indexing="ij")
    place = np.stack([r, c, r + c], -1).astype(np.uint8)
    stack = picture_stack()._replace(levels=cache.picture_levels(place))
    crops = pairs.Crops([stack], picture_settings(), "inplane")
    assert crops.channels == 3
    found = crops.draw(30, seeded("cpu", 0))
    assert (found.shape, found.dtype) == ((30, 3, 40, 40), torch.int16)
    rows, columns, both = (found.float() * (255 / cache.LEVELS)).round().unbind(1)
    assert torch.equal(rows + columns, both)
    assert (rows.diff(dim=1) == 1).all()
    steps = columns.diff(dim=2)
    assert {int(s[0, 0]) for s in steps} == {1, -1}
    assert (steps == steps[:, :1, :1]).all()


def test_small_pictures_are_mirrored_to_size() -> None:
    crops = pairs.Crops([picture_stack(size=(20, 90))], picture_settings(), "inplane")
    found = crops.draw(3, seeded("cpu", 0))
    assert found.shape == (3, 3, 40, 40)
    assert torch.equal(found[:, :, :20], found[:, :, 20:].flip(2))


def test_each_colour_is_degraded_as_an_image_of_one_channel() -> None:
    crops = pairs.Crops([picture_stack()], picture_settings(), "inplane")
    drawn = crops.draw(4, seeded("cpu", 0))
    setting = picture_settings().degradations[0]
    draws = [pairs.Drawn(setting, 2.0, 1.0, 0.0), pairs.Drawn(setting, 4.0, 1.0, 0.7)]
    pair = pairs.make_pairs(drawn, draws, "inplane", 4)
    assert pair.x_high.shape == pair.x_low.shape == (4, 3, 32, 32)
    assert [m.y.shape for m in pair.measured] == [(2, 3, 20, 20), (2, 3, 10, 10)]
    for colour in range(3):
        alone = pairs.make_pairs(drawn[:, colour : colour + 1], draws, "inplane", 4)
        assert torch.equal(alone.x_high[:, 0], pair.x_high[:, colour])
        torch.testing.assert_close(alone.x_low[:, 0], pair.x_low[:, colour], rtol=0, atol=1e-6)


def test_pictures_and_volumes_do_not_mix() -> None:
    volume = picture_stack()._replace(levels=np.zeros((4, 60, 60), np.int16))
    with pytest.raises(ValueError, match="of 1 and of 3 channels"):
        pairs.Crops([picture_stack(), volume], picture_settings(), "inplane")
    for change in ({"planes": {"picture": 1.0, "axial": 1.0}}, {"pixel_mm": 0.5}):
        with pytest.raises(ValueError, match="pictures"):
            picture_settings(**change)


def test_validation_on_pictures(tmp_path: Path) -> None:
    config = load_config(SMOKE)
    restorer = build_restorer(config, CONDITION).eval()  # fresh: it adds nothing
    stacks = [picture_stack(0), picture_stack(1, (40, 30))]
    figures, examples = validate(restorer, stacks, config)
    assert figures["x2_gain"] == pytest.approx(0, abs=1e-3)
    assert 0 < figures["x4_ssim"] < figures["x2_ssim"] < 1
    assert [e.reference.shape for e in examples] == [(60, 72, 3)] * 2 + [(40, 30, 3)] * 2
    np.testing.assert_allclose(examples[0].reference * 255, waves(), atol=0.1)
    write_examples(tmp_path / "examples.png", examples)
    drawn = imread(tmp_path / "examples.png")[..., :3]
    assert drawn.shape == (60 + 60 + 40 + 40, 3 * 72, 3)
    np.testing.assert_allclose(drawn[:60, 144:] * 255, waves(), atol=1)


def test_of_many_pictures_some_are_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrisr.training.validation.MOST_PICTURES", 2)
    monkeypatch.setattr("mrisr.training.validation.MOST_EXAMPLES", 3)
    config = load_config(SMOKE)
    stacks = [picture_stack(seed, (32, 30 + seed)) for seed in range(5)]
    _, examples = validate(build_restorer(config, CONDITION), stacks, config)
    assert [e.reference.shape[1] for e in examples] == [30, 30, 32]


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of one picture, in training and, under another name, held out: what is learnt shows."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("train", "held-out"):
        save(folder / "data" / name / "a.png", waves(48, 56))
    prepare_pictures(folder / "data", folder / "cache")
    return folder / "cache"


def learning(method: str, **changes: Any) -> Config:
    """The smoke configuration, longer, of a method; ``changes`` to its mappings are merged."""
    content = load_config(SMOKE).model_dump()
    content["method"] = method
    content["data"] |= {
        "validation": ("held-out",),
        "degradations": [{"kind": "bicubic", "factors": [4]}],
    }
    content["network"] |= {"width": 24}
    content["train"] |= {
        "iterations": 120, "lr": 5e-3, "lr_final": 0.0, "validate_every": 120,
        "checkpoint_every": 120, "log_every": 20,
    }  # fmt: skip
    for key, value in changes.items():
        merged = isinstance(content[key], dict) and "type" not in value
        content[key] = content[key] | value if merged else value
    return Config.model_validate(content)


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["diffusion", "regression"])
def test_training_overfits_one_picture(one_picture: Path, tmp_path: Path, method: str) -> None:
    """A fresh network returns the interpolated picture: every dB above it was learned."""
    config = learning(method)
    card = train(config, one_picture, tmp_path / "run", device="cpu")
    found = rows(tmp_path / "run")
    losses = [row["loss"] for row in found if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    (figures,) = (row for row in found if "x4_gain" in row)
    assert figures["x4_gain"] > 1.0
    model = load_model(card)
    assert model.card.network.channels == 3
    _, x_high = next(pairs.validation_images([picture_stack(size=(48, 56))], ["picture"]))
    drawn = pairs.Drawn(config.data.degradations[0], 4.0, 1.0, 0.0)
    y, operator = pairs.measure(x_high, "inplane", drawn)
    noise = torch.zeros_like(x_high)
    restored = model.restorer.restore(given(y, operator), Sampling(noise=lambda step: noise))
    assert restored.shape == x_high.shape == (1, 3, 48, 56)
    errors = [(x - x_high).square().mean((0, 2, 3)) for x in (operator.interpolate(y), restored)]
    assert (errors[1] < errors[0]).all()  # in each of the colours
    engine = Engine(model, Options(device="cpu", precision="fp32"))
    assert engine.restore(y, operator).shape == x_high.shape


UNET = {"type": "unet", "channels": 3, "width": 8, "multipliers": (1, 2), "blocks": 1}
UNET |= {"channels_per_group": 4, "attention_levels": (1,)}
LIIF = {"type": "liif", "channels": 3, "width": 8, "blocks": 1, "hidden": 8}
SHORT = {"iterations": 2, "validate_every": 2}


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("diffusion", {"network": UNET}),
        ("regression", {"train": SHORT | {"adversarial": {"after": 0.0, "width": 8}}}),
        ("implicit", {"network": LIIF, "data": {"crop": 48}}),
        ("inversion", {"diffusion": {"loss": "l2"}, "inversion": {"denoiser": "sr3"}}),
    ],
)
def test_the_other_methods_train_on_pictures(
    one_picture: Path, tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    if method == "inversion":
        from_noise = {"path": "plain", "prediction": "noise", "from_noise": True, "start": 0.1}
        sr3 = learning("diffusion", diffusion=from_noise, train=SHORT)
        card = train(sr3, one_picture, tmp_path / "sr3", device="cpu")
        changes = changes | {"inversion": {"denoiser": str(card)}}
    config = learning(method, **{"train": SHORT} | changes)
    model = load_model(train(config, one_picture, tmp_path / "run", device="cpu"))
    drawn = pairs.Drawn(config.data.degradations[0], 4.0, 1.0, 0.0)
    y, operator = pairs.measure(torch.zeros(2, 3, 48, 56), "inplane", drawn)
    engine = Engine(model, Options(device="cpu", precision="fp32"))
    assert engine.restore(y, operator).shape == (2, 3, 48, 56)


def test_interpolations_take_pictures() -> None:
    setting = picture_settings().degradations[0]
    x = torch.from_numpy(picture_stack().images.astype(np.float32)) / cache.LEVELS
    y, operator = pairs.measure(x, "inplane", pairs.Drawn(setting, 2.0, 1.0, 0.0))
    engine = Engine(load_model("lanczos"), Options(device="cpu"))
    restored = engine.restore(y, operator)
    assert restored.shape == x.shape
    assert float((restored - x).abs().mean()) < 0.05


def test_channels_that_do_not_fit_are_one_line(one_picture: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"network\.channels = 1 channels, found slices of 3"):
        train(learning("diffusion", network={"channels": 1}), one_picture, tmp_path / "run")
    with pytest.raises(InputError, match="no training slices in the planes axial"):
        train(load_config(CONFIGS / "smoke.yaml"), one_picture, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_models_of_another_number_of_channels_are_refused(
    one_picture: Path, tmp_path: Path, models: Path
) -> None:
    denoiser = {"inversion": {"denoiser": str(models / "partdiff-inplane.json")}}
    with pytest.raises(UsageError, match="of 3 channels, found partdiff-inplane of 1"):
        train(learning("inversion", **denoiser), one_picture, tmp_path / "run", device="cpu")
    config = learning("regression", train={"iterations": 1})
    card = train(config, one_picture, tmp_path / "rgb", device="cpu")
    with pytest.raises(UsageError, match="of 1 channel, found one of 3"):
        upsample_in_plane(phantom((24, 20, 3)), 2.0, Options(model=str(card), device="cpu"))


# --- configurations -------------------------------------------------------------------------------


def test_there_are_configurations_for_pictures() -> None:
    assert len(RGB) >= 2


@pytest.mark.parametrize("path", RGB, ids=lambda path: path.stem)
def test_published_configurations_build(path: Path) -> None:
    """Built without memory; the file states the number of parameters, in millions."""
    config = load_config(path)
    assert (config.name, config.network.channels) == (path.stem, 3)
    assert list(config.data.planes) == ["picture"]
    with torch.device("meta"):
        network = build_network(config.network, CONDITION)
        x = torch.zeros(1, 3, config.data.crop, config.data.crop)
        out = network(x, x, torch.ones(1), torch.zeros(1, CONDITION))
    assert out.shape == x.shape
    millions = round(sum(p.numel() for p in network.parameters()) / 1e6)
    assert f"{millions} M parameters" in path.read_text()


def test_the_configuration_of_the_guide_loads(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "how-to" / "train-on-pictures.md").read_text(encoding="utf-8")
    content = guide.split("```yaml\n")[1].split("```")[0]
    file = tmp_path / "my-pictures.yaml"
    file.write_text(content.replace("base: ", f"base: {CONFIGS}/"), encoding="utf-8")
    config = load_config(file)
    assert (config.network.channels, config.data.planes) == (3, {"picture": 1.0})
    assert (config.data.validation, config.data.exclude) == (("val",), ())
    assert config.card == CardSettings()
