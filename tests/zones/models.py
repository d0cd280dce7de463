"""Segmenters for tests: bundles that label by intensity, and random weights."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mrisr.core.volume import Storage, Volume
from mrisr.zones.labels import PZ, TZ

#: Intensities of the test image, and where between them (from 0 to 1) the models change the label.
DARK, MIDDLE, BRIGHT = 100, 500, 900
LOW, HIGH = 0.4, 0.6

#: As in the Model Zoo, where the central gland has the label 1.
CHANNELS = {"0": "background", "1": "central gland", "2": "peripheral zone"}

#: Laid out as in the Model Zoo, with entries that can only be read, not run.
INFERENCE: dict[str, Any] = yaml.safe_load("""
imports: [$import a_library_that_is_not_there as nothing, $import os]
bundle_root: .
output_dir: $@bundle_root + '/eval'
datalist: $nothing.read_csv('/workspace/data/test.csv').t2
device: "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
network_def: {_target_: torch.nn.Conv3d, in_channels: 1, out_channels: 3, kernel_size: 1}
network: $@network_def.to(@device)
preprocessing:
  _target_: Compose
  transforms:
    - {_target_: LoadImaged, keys: image}
    - {_target_: EnsureChannelFirstd, keys: image}
    - {_target_: Orientationd, keys: image, axcodes: RAS}
    - {_target_: Spacingd, keys: image, pixdim: [1.0, 1.0, 1.0], mode: bilinear}
    - {_target_: ScaleIntensityd, keys: image, minv: 0, maxv: 1}
    - {_target_: EnsureTyped, keys: image}
dataset: {_target_: Dataset, data: "$[{'image': i} for i in @datalist]", transform: "@preprocessing"}
inferer: {_target_: SlidingWindowInferer, roi_size: [16, 16, 16], sw_batch_size: 4, overlap: 0.5}
postprocessing:
  _target_: Compose
  transforms:
    - {_target_: AsDiscreted, keys: pred, argmax: true}
    - {_target_: KeepLargestConnectedComponentd, keys: pred, applied_labels: [1, 2]}
    - _target_: Invertd
      keys: pred
      transform: "@preprocessing"
      orig_keys: image
      meta_key_postfix: meta_dict
      nearest_interp: false
      to_tensor: true
    - {_target_: SaveImaged, keys: pred, resample: false, output_dir: "@output_dir"}
evaluator: {_target_: SupervisedEvaluator, device: "@device", val_data_loader: "@dataset"}
run: [$@evaluator.run()]
""")


def bundle(folder: Path, *, metadata: Any = None, **changed: Any) -> Path:
    """Write a bundle that labels the middle intensity 1 and the bright one 2.

    Args:
        metadata: in the place of those that name the channels.
        **changed: entries of the configuration.
    """
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
    outputs = {"pred": {"type": "image", "format": "labels", "channel_def": channels}}
    return {"version": "0.1.0", "name": "by intensity", "network_data_format": {"outputs": outputs}}


def weights(low: float = LOW, high: float = HIGH) -> dict[str, torch.Tensor]:
    """Weights of a 1x1x1 convolution to 0, x - low and 2x - low - high of the intensity x.

    The highest is the first up to ``low``, the second up to ``high``, the third from there on.
    """
    slopes, offsets = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, -low, -low - high])
    return {"weight": slopes.reshape(3, 1, 1, 1, 1), "bias": offsets}


def image(
    codes: str = "LPS",
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    size: tuple[int, int, int] = (24, 28, 20),
    degrees: float = 0.0,
) -> Volume:
    """Two boxes in the dark, with no symmetry: stored along ``codes``, turned about the long axis."""
    array = np.full(size, DARK, np.int16)
    array[box(size, (0.2, 0.5, 0.3), (0.6, 0.8, 0.6))] = BRIGHT
    array[box(size, (0.3, 0.15, 0.4), (0.8, 0.5, 0.8))] = MIDDLE
    turn = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] = affine[:3, :3] * [-1, -1, 1] * np.array(spacing)
    affine[:3, 3] = [31.0, 22.0, -40.0]
    lps = Volume(array, affine, Storage(np.dtype(np.int16)), slice_thickness=spacing[2])
    return lps.reoriented(codes)


def box(size: Any, low: tuple[float, ...], high: tuple[float, ...]) -> tuple[slice, ...]:
    return tuple(slice(round(a * m), round(b * m)) for a, b, m in zip(low, high, size, strict=True))


def expected(volume: Volume) -> np.ndarray:
    """The labels of :func:`image` that a model by intensity must find."""
    labels = np.zeros(volume.shape, np.uint8)
    labels[volume.array == MIDDLE], labels[volume.array == BRIGHT] = TZ, PZ
    return labels


def swapped(labels: np.ndarray) -> np.ndarray:
    """Labels with the two zones exchanged."""
    return np.choose(labels, [0, TZ, PZ]).astype(np.uint8)


def random_zones_model(folder: Path, name: str = "zones") -> Path:
    """Write a small segmenter of random weights; returns its card."""
    import mrisr
    from mrisr.config import ZonesNetworkSettings
    from mrisr.models.card import TrainingRecord, ZonesCard
    from mrisr.models.store import save_model
    from mrisr.zones.network import CrossSliceUNet

    settings = ZonesNetworkSettings(widths=(8, 16), attention_levels=(1,), heads=2, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random = CrossSliceUNet(settings).state_dict()
    card = ZonesCard(
        name=name,
        job="zones",
        description="Random weights.",
        version=mrisr.__version__,
        network=settings,
        pixel_mm=1.0,
        window=(64, 8),
        slice_spacing=(3.0, 4.0),
        training=TrainingRecord.none(),
    )
    save_model(card, random, folder, name)
    return folder / f"{name}.json"
