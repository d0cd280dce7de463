"""Foreign models that the tests make: they label by intensity, so that what must come back is known."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrisr.core import geometry
from mrisr.core.volume import Storage, Volume
from mrisr.zones.labels import PZ, TZ

#: Intensities of the test image, and where between them (from 0 to 1) the models change their mind.
DARK, MIDDLE, BRIGHT = 100, 500, 900
LOW, HIGH = 0.4, 0.6

#: As in the Model Zoo, where the central gland has the label 1.
CHANNELS = {"0": "background", "1": "central gland", "2": "peripheral zone"}

INFERENCE: dict[str, Any] = {
    "imports": ["$import a_library_that_is_not_there as nothing", "$import os"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/workspace/data/",
    "datalist": "$list(@dataset_dir + nothing.read_csv(@dataset_dir + 'test.csv').t2)",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [1, 1],
        "strides": [1],
        "num_res_units": 0,
        "norm": "batch",
        "act": "prelu",
        "dropout": 0.15,
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [1.0, 1.0, 1.0],
                "mode": "bilinear",
            },
            {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0, "maxv": 1},
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': i} for i in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "num_workers": 4},
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": [16, 16, 16],
        "sw_batch_size": 4,
        "overlap": 0.5,
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {
                "_target_": "KeepLargestConnectedComponentd",
                "keys": "pred",
                "applied_labels": [1, 2],
            },
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "meta_key_postfix": "meta_dict",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "resample": False,
                "meta_keys": "pred_meta_dict",
                "output_dir": "@output_dir",
            },
        ],
    },
    "handlers": [
        {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        }
    ],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
    },
    "run": ["$@evaluator.run()"],
}


def bundle(folder: Path, *, metadata: Any = None, **changed: Any) -> Path:
    """A bundle laid out as the Model Zoo's ``prostate_mri_anatomy`` is: labels by intensity, 1 for the
    middle one, 2 for the bright one. ``changed`` are entries of the configuration."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {**deepcopy(INFERENCE), **changed}
    (folder / "configs" / "inference.json").write_text(json.dumps(config, indent=4))
    told = metadata if metadata is not None else metadata_of(CHANNELS)
    (folder / "configs" / "metadata.json").write_text(json.dumps(told, indent=4))
    torch.save(weights(), folder / "models" / "model.pt")
    return folder


def metadata_of(channels: dict[str, str]) -> dict[str, Any]:
    """Metadata that name the channels of the answer."""
    pred = {"type": "image", "format": "labels", "num_channels": 3, "channel_def": channels}
    outputs = {"pred": pred}
    return {"version": "0.1.0", "name": "by intensity", "network_data_format": {"outputs": outputs}}


def weights() -> dict[str, torch.Tensor]:
    """Weights with which the bundle's network answers by three lines in the intensity x: 0, x - LOW and
    2x - LOW - HIGH. The highest is 0 up to LOW, then the first, and the second from HIGH on."""
    from monai.networks.nets import UNet

    network = UNet(3, 1, 3, channels=[1, 1], strides=[1], num_res_units=0, norm="batch")
    found = network.state_dict()
    for name, tensor in found.items():
        if tensor.ndim == 5 or name.endswith("conv.bias"):
            tensor.zero_()
    found["model.0.conv.weight"][0, 0, 1, 1, 1] = 1
    for name in found:
        if name.endswith("adn.A.weight"):
            found[name].fill_(1)  # PReLU that leaves everything as it is
    found["model.2.conv.weight"][0, :, 1, 1, 1] = torch.tensor([0.0, 1.0, 2.0])
    found["model.2.conv.bias"][:] = torch.tensor([0.0, -LOW, -LOW - HIGH])
    return found


def image(
    codes: str = "LPS",
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    size: tuple[int, int, int] = (24, 28, 20),
    degrees: float = 0.0,
) -> Volume:
    """Two boxes in the dark, with no symmetry: stored along ``codes``, turned about the long axis."""
    array = np.full(size, DARK, np.int16)
    n = np.array(size)
    array[box(n, (0.2, 0.5, 0.3), (0.6, 0.8, 0.6))] = BRIGHT
    array[box(n, (0.3, 0.15, 0.4), (0.8, 0.5, 0.8))] = MIDDLE
    turn = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] = affine[:3, :3] * [-1, -1, 1] * np.array(spacing)
    affine[:3, 3] = [31.0, 22.0, -40.0]
    lps = Volume(array, affine, Storage(np.dtype(np.int16)), slice_thickness=spacing[2])
    return lps if codes == "LPS" else stored_along(lps, codes)


def box(n: Any, low: tuple[float, ...], high: tuple[float, ...]) -> tuple[slice, ...]:
    return tuple(slice(round(a * m), round(b * m)) for a, b, m in zip(low, high, n, strict=True))


def stored_along(volume: Volume, codes: str) -> Volume:
    """The same image with its array along other axes, by nibabel's means."""
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        inv_ornt_aff,
        io_orientation,
        ornt_transform,
    )

    turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt(tuple(codes)))
    array = np.ascontiguousarray(apply_orientation(volume.array, turn))
    affine = volume.affine @ inv_ornt_aff(turn, volume.shape)
    assert geometry.axis_codes(affine) == codes
    return replace(volume, array=array, affine=affine)


def expected(volume: Volume) -> np.ndarray:
    """The labels of :func:`image` that a model by intensity must find."""
    labels = np.zeros(volume.shape, np.uint8)
    labels[volume.array == MIDDLE], labels[volume.array == BRIGHT] = TZ, PZ
    return labels
