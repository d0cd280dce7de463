"""Training of the segmenter: it learns, goes on exactly after a stop, and needs labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mrisr.config import ZonesConfig, ZonesNetworkSettings
from mrisr.core.errors import InputError, UsageError
from mrisr.data import cache
from mrisr.training import train
from mrisr.zones.network import load_zones_model
from tests.training.helpers import rows


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of three patients whose zones are told by their brightness."""
    folder = tmp_path_factory.mktemp("labelled")
    entries = []
    for i, case in enumerate(("one", "two", "held-out")):
        levels = np.full((5, 64, 64), 600, np.int16)
        labels = np.zeros((2, 5, 64, 64), np.uint8)
        a, b = 14 + 3 * i, 46 + 2 * i
        levels[1:4, a:b, a:b], labels[:, 1:4, a:b, a:b] = 3600, 1
        levels[1:4, a + 6 : b - 8, a + 6 : b - 8] = 1900
        labels[:, 1:4, a + 6 : b - 8, a + 6 : b - 8] = 2
        stack = cache.Stack(case, "t2w", "axial", (3.0, 1.0, 1.0), levels, labels)
        entries.append(cache.write_stack(folder, stack, i))
    cache.write_index(folder, entries)
    return folder


def config(**train_changes: object) -> ZonesConfig:
    return ZonesConfig.model_validate(
        {
            "name": "small",
            "job": "zones",
            "network": {"widths": (8, 16), "attention_levels": (1,), "heads": 2},
            "data": {"validation": ("held-out",), "pixel_mm": 1.0, "crop": 32, "slices": 3},
            "augmentation": {"shift_mm": 6.0, "coarse_factor": (1.2, 2.0)},
            "train": {
                "iterations": 6,
                "batch": 2,
                "lr": 0.01,
                "precision": "fp32",
                "validate_every": 6,
                "checkpoint_every": 3,
                "log_every": 1,
                **train_changes,
            },
        }
    )


@pytest.mark.slow
def test_it_learns(labelled: Path, tmp_path: Path) -> None:
    settings = config(iterations=80, validate_every=80, log_every=20, ema=0.9)
    card = train(settings, labelled, tmp_path / "run", device="cpu")
    logged = rows(tmp_path / "run")
    losses = [row["loss"] for row in logged if "loss" in row]
    assert losses[3] < 0.75 * losses[0]
    assert logged[-1]["dice_TZ"] > 0.6
    assert logged[-1]["dice_PZ"] > 0.5
    model = load_zones_model(card)
    assert model.card.training.cases == ("one", "two")
    assert model.card.training.validation_cases == ("held-out",)
    assert model.card.training.slices == 10
    assert model.card.slice_spacing == (3.0, 3.0)


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(labelled: Path, tmp_path: Path) -> None:
    whole = train(config(), labelled, tmp_path / "whole", device="cpu")
    part = config()
    stop = {"after": 3}

    def report(line: str) -> None:
        if line.startswith(f"step {stop['after'] + 1} "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(part, labelled, tmp_path / "part", device="cpu", report=report)
    with pytest.raises(UsageError, match="--resume"):
        train(part, labelled, tmp_path / "part", device="cpu")
    again = train(part, labelled, tmp_path / "part", resume=True, device="cpu")
    assert rows(tmp_path / "part") == rows(tmp_path / "whole")
    first, second = (load_zones_model(c).network.state_dict() for c in (whole, again))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_it_needs_labels(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labelled axial stacks"):
        train(config(), data, tmp_path / "run", device="cpu")


def test_it_starts_from_a_models_weights(labelled: Path, tmp_path: Path) -> None:
    first = train(config(), labelled, tmp_path / "first", device="cpu")
    still = config(initialize=str(first), lr=1e-12, iterations=1, validate_every=1)
    second = train(still, labelled, tmp_path / "second", device="cpu")
    before, after = (load_zones_model(c).network.state_dict() for c in (first, second))
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in before)
    other = still.model_copy(
        update={"network": ZonesNetworkSettings(widths=(8, 24), heads=2, attention_levels=(1,))}
    )
    with pytest.raises(UsageError, match="another network"):
        train(other, labelled, tmp_path / "third", device="cpu")
