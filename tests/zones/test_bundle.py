"""A MONAI bundle as segmenter: laid out as in the Model Zoo, with a network whose answer is known."""

from __future__ import annotations

import json
import pickle
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.zones.bundle import load_bundle
from mrisr.zones.labels import PZ, TZ, LabelTable
from mrisr.zones.score import score_zones
from tests.zones.foreign_models import (
    CHANNELS,
    INFERENCE,
    bundle,
    expected,
    image,
    metadata_of,
    weights,
)

STEPS = INFERENCE["postprocessing"]["transforms"]
#: Without what needs scikit-image.
PLAIN = {"_target_": "Compose", "transforms": [STEPS[0], *STEPS[2:]]}


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    return bundle(tmp_path / "zoo", postprocessing=PLAIN)


# --- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAS", "PIR", "SRA"])
@pytest.mark.parametrize("degrees", [0, 13])
def test_labels_lie_on_the_volumes_voxels(zoo: Path, codes: str, degrees: float) -> None:
    volume = image(codes, degrees=degrees)
    labels = load_bundle(zoo, device="cpu")(volume)
    np.testing.assert_array_equal(labels.affine, volume.affine)
    assert (labels.array.dtype, labels.storage.dtype) == (np.uint8, np.uint8)
    if degrees:  # the bundle's grid is the world's, and a voxel at an edge may go either way
        assert all(s.dice > 0.9 for s in score_zones(labels, _truth(volume)).values())
    else:
        np.testing.assert_array_equal(labels.array, expected(volume))


def _truth(volume):
    return replace(volume, array=expected(volume))


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 3.0), (0.6, 0.6, 0.6)])
def test_labels_come_back_from_the_bundles_grid(zoo: Path, spacing) -> None:
    volume = image("RAS", spacing=spacing, size=(50, 60, 16))
    labels, truth = load_bundle(zoo)(volume), _truth(volume)
    assert labels.shape == volume.shape
    assert set(np.unique(labels.array)) == {0, PZ, TZ}
    assert all(s.dice > 0.85 for s in score_zones(labels, truth).values())
    for zone in (PZ, TZ):
        found, wanted = (
            geometry.world_centroid((v.array == zone).astype(float), v.affine)
            for v in (labels, truth)
        )
        assert np.abs(found - wanted).max() < 0.5 * max(*spacing, 1.0)


def test_the_model_zoos_own_layout(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image, which the Zoo's postprocessing calls on")
    volume = image("RAS")
    volume.array[1, 1, 1] = 900  # an island, which is no part of the largest component
    segment = load_bundle(bundle(tmp_path / "zoo"))
    labels = segment(volume)
    assert labels.array[1, 1, 1] == 0
    volume.array[1, 1, 1] = 100
    np.testing.assert_array_equal(labels.array, expected(volume))
    assert sorted(p.name for p in (tmp_path / "zoo").iterdir()) == ["configs", "models"]
    assert any("nearest label" in note for note in segment.notes)


def test_labels_are_not_averaged_on_the_way_back(zoo: Path) -> None:
    """Between background and peripheral zone (2) lies 1, which would be a rim of transition zone."""
    volume = image(spacing=(0.5, 0.5, 0.5), size=(40, 40, 40))
    volume.array[volume.array == 500] = 100
    segment = load_bundle(zoo)
    labels = segment(volume)
    wanted = (volume.array == 900).sum()
    assert abs((labels.array == PZ).sum() - wanted) < 0.15 * wanted
    # Of the image's own interpolation at the bright box's edge, at most one layer of voxels.
    assert (labels.array == TZ).sum() < 0.35 * wanted
    assert segment.notes == [
        "the bundle interpolates between labels on the way back; the nearest label was taken"
    ]


def test_scores_may_come_back_instead_of_labels(tmp_path: Path) -> None:
    """A postprocessing that discretises after the way back, and one that does neither."""
    invert = {**STEPS[2], "nearest_interp": False}
    for n, (steps, notes) in enumerate(
        (
            ([{"_target_": "Activationsd", "keys": "pred", "softmax": True}, invert, STEPS[0]], 0),
            ([{"_target_": "Activationsd", "keys": "pred", "softmax": True}], 2),
        )
    ):
        root = bundle(
            tmp_path / str(n), postprocessing={"_target_": "Compose", "transforms": steps}
        )
        segment = load_bundle(root)
        volume = image("LAS")
        np.testing.assert_array_equal(segment(volume).array, expected(volume))
        assert len(segment.notes) == notes, segment.notes


def test_yaml_safetensors_checkpoints_and_scripts(tmp_path: Path) -> None:
    """What other bundles do otherwise, all at once; each finds its own scripts."""
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
        swapped = "{**d, 'pred': (3 - d['pred']) * (d['pred'] > 0)}" if swap else "d"
        code = f"class Swap:\n    def __call__(self, d):\n        return {swapped}\n"
        (root / "scripts" / "ours.py").write_text(code)
        if swap:
            (root / "models" / "model.pt").unlink()
            save_file(weights(), root / "models" / "model.safetensors")
        else:
            torch.save({"model": weights(), "epoch": 3}, root / "models" / "model.pt")
        wanted = expected(volume)
        wanted = (3 - wanted) * (wanted > 0) if swap else wanted
        np.testing.assert_array_equal(load_bundle(root)(volume).array, wanted)
    assert not any(name.startswith("scripts") for name in sys.modules)
    assert str(root) not in sys.path


# --- labels ---------------------------------------------------------------------------------------


def test_a_table_of_the_users_own(zoo: Path) -> None:
    volume = image()
    labels = load_bundle(zoo, LabelTable.parse("1=PZ,2=TZ"))(volume)
    wanted = expected(volume)
    np.testing.assert_array_equal(labels.array, (3 - wanted) * (wanted > 0))


def test_labels_that_the_table_does_not_name(zoo: Path) -> None:
    segment = load_bundle(zoo, LabelTable.parse("1=TZ,4=PZ"))
    with pytest.raises(InputError, match=r"expected labels of the table 1=TZ,4=PZ, found 2$"):
        segment(image())


@pytest.mark.parametrize(
    ("channels", "word"),
    [({"0": "background", "1": "prostate"}, "'prostate'"), ({}, "no names"), (None, "no names")],
)
def test_names_that_are_no_zones_need_a_table(tmp_path: Path, channels, word: str) -> None:
    root = bundle(tmp_path / "b", metadata={} if channels is None else metadata_of(channels))
    with pytest.raises(InputError, match=r"metadata\.json: expected labels called .*--table") as no:
        load_bundle(root)
    assert word in str(no.value)


# --- what it is called ----------------------------------------------------------------------------


def test_name_and_digest(tmp_path: Path) -> None:
    first, second = (bundle(tmp_path / n, postprocessing=PLAIN) for n in "ab")
    segment = load_bundle(first)
    assert segment.name == "by intensity"
    assert segment.sha256 == load_bundle(second).sha256
    assert len(segment.sha256) == 64
    told = {load_bundle(first, LabelTable.parse("1=PZ,2=TZ")).sha256, segment.sha256}
    other = weights()
    other["model.2.conv.bias"][1] += 0.01
    torch.save(other, second / "models" / "model.pt")
    told.add(load_bundle(second).sha256)
    assert len(told) == 3
    bare = bundle(tmp_path / "my bundle", metadata=metadata_of(CHANNELS) | {"name": None})
    assert load_bundle(bare).name == "my bundle"


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("configs/inference.json", r"inference\.json: expected the configuration"),
        ("configs/metadata.json", r"metadata\.json: expected a bundle's metadata"),
        ("models/model.pt", r"model\.pt: expected weights of a MONAI bundle, found none"),
    ],
)
def test_missing_files(zoo: Path, gone: str, words: str) -> None:
    (zoo / gone).unlink()
    with pytest.raises(InputError, match=words) as no:
        load_bundle(zoo)
    assert "\n" not in str(no.value)


def test_torchscript_is_not_loaded(zoo: Path) -> None:
    (zoo / "models" / "model.pt").rename(zoo / "models" / "model.ts")
    with pytest.raises(InputError, match="TorchScript is not loaded"):
        load_bundle(zoo)


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network_def": {"_target_": "NoSuchNetwork"}}, "loads, found .*NoSuchNetwork"),
        ({"network_def": "$1 + 1"}, "a network as 'network_def', found int"),
        ({"network_def": INFERENCE["network_def"] | {"channels": [2, 2]}}, "size mismatch"),
        ({"inferer": "$nothing.Inferer()"}, "a_library_that_is_not_there"),
    ],
)
def test_bundles_that_do_not_load(tmp_path: Path, change: dict, words: str) -> None:
    root = bundle(tmp_path / "b", **change)
    with pytest.raises(InputError, match=words) as no:
        load_bundle(root)
    assert "\n" not in str(no.value)
    assert len(str(no.value)) < 600


def test_an_entry_that_is_not_there(tmp_path: Path) -> None:
    root = bundle(tmp_path / "b")
    config = json.loads((root / "configs" / "inference.json").read_text())
    del config["inferer"]
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="expected an entry 'inferer', found none"):
        load_bundle(root)


def test_a_bundle_that_fails_prints_nothing(tmp_path: Path, capsys) -> None:
    steps = [{"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: print('loud') or x[5]"}]
    root = bundle(tmp_path / "b", postprocessing={"_target_": "Compose", "transforms": steps})
    with pytest.raises(InputError, match="expected a model that segments this image, found Index"):
        load_bundle(root)(image())
    assert capsys.readouterr().out == ""


def test_labels_on_another_grid(tmp_path: Path) -> None:
    cut = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[..., 1:]"}
    steps = [*PLAIN["transforms"][:2], cut]
    root = bundle(tmp_path / "b", postprocessing={"_target_": "Compose", "transforms": steps})
    with pytest.raises(
        InputError, match=r"expected labels on the grid of .*24x28x20 .* found 24x28x19"
    ):
        load_bundle(root)(image())


def test_other_stacks_and_devices(zoo: Path) -> None:
    coronal = image("RSA", spacing=(1.0, 1.0, 1.0))
    assert load_bundle(zoo)(coronal).shape == coronal.shape
    thick = image("LIP", spacing=(0.5, 3.0, 0.5))
    with pytest.raises(
        InputError, match=r"expected axial slices, .* found a coronal stack with 3 mm"
    ):
        load_bundle(zoo)(thick)
    with pytest.raises(UsageError, match="device"):
        load_bundle(zoo, device="tpu")
