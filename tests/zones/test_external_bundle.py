"""A MONAI bundle as segmenter: laid out as in the Model Zoo, with a network whose answer is known."""

import json
import logging
import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from mrisr.core.errors import InputError
from mrisr.zones.external.bundle import load_bundle
from mrisr.zones.labels import PZ, TZ
from mrisr.zones.score import score_zones
from tests.centroid import world_centroid
from tests.zones.models import (
    BRIGHT,
    CHANNELS,
    DARK,
    INFERENCE,
    MIDDLE,
    bundle,
    expected,
    image,
    metadata_of,
    swapped,
    weights,
)

STEPS = INFERENCE["postprocessing"]["transforms"]
#: Without what needs scikit-image.
PLAIN = {"_target_": "Compose", "transforms": [STEPS[0], *STEPS[2:]]}


def compose(*steps: Any) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(steps)}


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    return bundle(tmp_path / "zoo", postprocessing=PLAIN)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SRA"])
def test_labels_lie_on_the_volumes_voxels(zoo: Path, codes: str) -> None:
    volume = image(codes)
    labels = load_bundle(zoo, device="cpu")(volume).labels
    np.testing.assert_array_equal(labels.affine, volume.affine)
    np.testing.assert_array_equal(labels.array, expected(volume))
    assert (labels.array.dtype, labels.storage.dtype) == (np.uint8, np.uint8)


@pytest.mark.parametrize(
    ("codes", "spacing", "degrees"),
    [("SRA", (1.0, 1.0, 1.0), 13), ("RAS", (0.5, 0.5, 3.0), 0), ("RAS", (0.6, 0.6, 0.6), 0)],
)
def test_labels_come_back_from_the_bundles_grid(zoo: Path, codes, spacing, degrees) -> None:
    volume = image(codes, spacing=spacing, size=(50, 60, 16), degrees=degrees)
    labels, truth = load_bundle(zoo)(volume).labels, replace(volume, array=expected(volume))
    assert all(s.dice > 0.85 for s in score_zones(labels, truth).values())
    for zone in (PZ, TZ):
        found, wanted = (
            world_centroid((v.array == zone).astype(float), v.affine) for v in (labels, truth)
        )
        assert np.abs(found - wanted).max() < 0.5 * max(*spacing, 1.0)


def test_the_model_zoos_own_layout(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image, which the Zoo's postprocessing calls on")
    volume = image("RAS")
    volume.array[1, 1, 1] = BRIGHT  # an island, which is no part of the largest component
    found = load_bundle(bundle(tmp_path / "zoo"))(volume)
    volume.array[1, 1, 1] = DARK
    np.testing.assert_array_equal(found.labels.array, expected(volume))
    assert sorted(p.name for p in (tmp_path / "zoo").iterdir()) == ["configs", "models"]


def test_labels_are_not_averaged_on_the_way_back(zoo: Path) -> None:
    """Between background and peripheral zone (2) lies 1, which would be a rim of transition zone."""
    volume = image(spacing=(0.5, 0.5, 0.5), size=(40, 40, 40))
    volume.array[volume.array == MIDDLE] = DARK
    found = load_bundle(zoo)(volume)
    wanted = (volume.array == BRIGHT).sum()
    assert abs((found.labels.array == PZ).sum() - wanted) < 0.15 * wanted
    # Of the image's own interpolation at the bright box's edge, at most one layer of voxels.
    assert (found.labels.array == TZ).sum() < 0.35 * wanted
    assert found.notes == (
        "the bundle interpolates between labels on the way back; the nearest label was taken",
    )


@pytest.mark.parametrize(("back", "notes"), [([STEPS[2], STEPS[0]], 0), ([], 2)])
def test_scores_may_come_back_instead_of_labels(tmp_path: Path, back, notes: int) -> None:
    """A postprocessing that discretises after the way back, and one that does neither."""
    softmax = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
    root = bundle(tmp_path / "b", postprocessing=compose(softmax, *back))
    found = load_bundle(root)(image("LAS"))
    np.testing.assert_array_equal(found.labels.array, expected(image("LAS")))
    assert len(found.notes) == notes, found.notes


def test_yaml_safetensors_checkpoints_and_scripts(tmp_path: Path) -> None:
    """Other layouts, all at once; each bundle finds its own scripts."""
    volume = image()
    for swap in (False, True):
        config = {**INFERENCE, "postprocessing": deepcopy(PLAIN)}
        config["postprocessing"]["transforms"].insert(1, {"_target_": "scripts.ours.Swap"})
        root = bundle(tmp_path / f"b{swap}", **config)
        text = yaml.safe_dump(json.loads((root / "configs" / "inference.json").read_text()))
        (root / "configs" / "inference.json").unlink()
        (root / "configs" / "inference.yaml").write_text(text)
        (root / "scripts").mkdir()
        (root / "scripts" / "__init__.py").touch()
        result = "{**d, 'pred': (3 - d['pred']) * (d['pred'] > 0)}" if swap else "d"
        code = f"class Swap:\n    def __call__(self, d):\n        return {result}\n"
        (root / "scripts" / "ours.py").write_text(code)
        if swap:
            (root / "models" / "model.pt").unlink()
            save_file(weights(), root / "models" / "model.safetensors")
        else:
            torch.save({"model": weights(), "epoch": 3}, root / "models" / "model.pt")
        wanted = swapped(expected(volume)) if swap else expected(volume)
        np.testing.assert_array_equal(load_bundle(root)(volume).labels.array, wanted)
    assert not any(name.startswith("scripts") for name in sys.modules)
    assert str(root) not in sys.path


def test_name_and_digest(tmp_path: Path) -> None:
    first, second = (bundle(tmp_path / n, postprocessing=PLAIN) for n in "ab")
    segment = load_bundle(first)
    assert segment.name == "by intensity"
    assert segment.sha256 == load_bundle(second).sha256
    torch.save(weights(low=0.39), second / "models" / "model.pt")
    assert segment.sha256 != load_bundle(second).sha256
    bare = bundle(tmp_path / "my bundle", metadata=metadata_of(CHANNELS) | {"name": None})
    assert load_bundle(bare).name == "my bundle"


class Explosive:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_weights_never_run_code(zoo: Path, tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    path = zoo / "models" / "model.pt"
    torch.save({"model": Explosive(mark)}, path)
    for data in (path.read_bytes(), pickle.dumps(Explosive(mark)), b"", b"junk"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"model\.pt: expected .*without running code") as no:
            load_bundle(zoo)
        assert "\n" not in str(no.value)
    assert not mark.exists()


def without(file: str) -> Callable[[Path], None]:
    return lambda root: (root / file).unlink()


def with_channels(**channels: str) -> Callable[[Path], None]:
    metadata = json.dumps(metadata_of(channels))
    return lambda root: (root / "configs" / "metadata.json").write_text(metadata) and None


def with_entries(**entries: Any) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        changed = {k: v for k, v in {**INFERENCE, **entries}.items() if v is not None}
        (root / "configs" / "inference.json").write_text(json.dumps(changed))

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without("configs/inference.json"), r"inference\.json: expected the configuration"),
        (without("configs/metadata.json"), r"metadata\.json: expected a bundle's metadata"),
        (without("models/model.pt"), r"model\.pt: expected weights of a MONAI bundle, found none"),
        (with_channels(**{"1": "prostate"}), r"metadata\.json: .*--table.* found 1 'prostate'"),
        (with_channels(), r"expected labels .*--table.* found no names"),
        (with_entries(inferer=None), "expected an entry 'inferer', found none"),
        (with_entries(inferer="$nothing.Inferer()"), "a_library_that_is_not_there"),
        (with_entries(network_def="$1 + 1"), "a network as 'network_def', found int"),
        (with_entries(network_def={"_target_": "NoNetwork"}), "loads, found .*NoNetwork"),
    ],
)
def test_bundles_that_do_not_load(zoo: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(zoo)
    with pytest.raises(InputError, match=words) as no:
        load_bundle(zoo)
    assert "\n" not in str(no.value)
    assert len(str(no.value)) < 600


def test_a_bundle_that_fails_says_nothing_else(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a program that has not set up logging
    loud = "$lambda x: print('loud') or __import__('logging').getLogger('b').error('loud') or x[5]"
    steps = compose({"_target_": "Lambdad", "keys": "pred", "func": loud})
    with pytest.raises(InputError, match="expected a model that segments this image, found Index"):
        load_bundle(bundle(tmp_path / "b", postprocessing=steps))(image())
    assert capsys.readouterr() == ("", "")
