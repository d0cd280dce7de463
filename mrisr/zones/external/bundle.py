"""Any MONAI bundle as a segmenter of the zones, such as the Model Zoo's ``prostate_mri_anatomy``.

A bundle is a program: its configuration names code that is run while it is read (``_target_``,
``$expressions``), and it may bring scripts. Only the weights are held to less: they are loaded as tensors
alone. TorchScript is not loaded, which nobody can read before running it and PyTorch is giving up.

The bundle's own preprocessing reads a temporary NIfTI of the volume, and its own postprocessing, without
what saves files, brings the labels back.

Source: MONAI Bundle Specification 1.6.
"""

import contextlib
import copy
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.io import write_volume
from mrisr.io.checks import read_json
from mrisr.networks import resolve_device
from mrisr.zones.labels import LabelTable
from mrisr.zones.segmenter import ExternalSegmenter, digest, guarded

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_WEIGHTS = ("model.safetensors", "model.pt")
#: Entries of the configuration that are run; all but the last must be there.
_ENTRIES = ("network_def", "preprocessing", "inferer", "postprocessing")
_NEAREST = "the bundle interpolates between labels on the way back; the nearest label was taken"
_CHANNELS = "the bundle answers with {} channels; a voxel's label is that of the largest"
_INVERTED = "the bundle does not bring its answer back to the image's grid; that was done for it"


def load_bundle(
    path: Path, table: LabelTable | None = None, device: str = "auto"
) -> ExternalSegmenter:
    """Load a bundle. This runs code that the bundle names.

    Args:
        path: folder with ``configs/inference.json`` (or ``.yaml``), ``configs/metadata.json`` and
            ``models/model.pt`` (or ``.safetensors``).
        table: meaning of its labels; by default from the metadata's names for the channels of ``pred``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: there is no such device.
        InputError: a file is missing or damaged, labels are not recognised, or the bundle does not load.
    """
    root = Path(path)
    config = _file(root / "configs", _CONFIGS, "the configuration of a MONAI bundle")
    weights = _file(root / "models", _WEIGHTS, "weights of a MONAI bundle")
    metadata = root / "configs" / "metadata.json"
    stated = read_json(metadata, "a bundle's metadata") if metadata.exists() or not table else {}
    table = table or LabelTable.recognised(_channels(stated), metadata)
    on = resolve_device(device)
    with guarded(root, "loads"), _importable(root):
        parts = _parts(config, metadata, root, on)
        parts["network_def"].load_state_dict(_weights(weights))
        parts["network_def"].to(on).eval()
    files = [*(root / "configs").glob("*"), weights, *(root / "scripts").rglob("*.py")]
    name = " ".join(str(stated.get("name") or root.resolve().name).split())
    return ExternalSegmenter(
        kind="bundle",
        name="".join(c for c in name if c.isprintable())[:64],
        sha256=digest(root, [f for f in files if f.is_file()], table),
        device=on,
        table=table,
        root=root,
        run=partial(_run, parts, on),
    )


def _run(
    parts: Mapping[str, Any], device: torch.device, volume: Volume
) -> tuple[Volume, tuple[str, ...]]:
    """The bundle's labels of a volume by the content of ``_ENTRIES``, their affine, and notes."""
    from monai.data.meta_tensor import MetaTensor

    with tempfile.TemporaryDirectory(prefix="mrisr-") as folder:
        path = write_volume(volume, Path(folder) / "image.nii")
        data = parts["preprocessing"]({"image": str(path)})
    image = data["image"]
    output = parts["inferer"](image[None].to(device), parts["network_def"])
    first = output[0] if isinstance(output, (list, tuple)) else output
    scores = torch.as_tensor(first)[0].cpu()
    data["pred"] = MetaTensor(getattr(scores, "as_tensor", lambda: scores)(), meta=image.meta)
    steps, notes = _postprocessing(parts)
    for step in steps:
        data = _nearest(step, data["pred"], notes)(data)
    found = data["pred"]
    if found.shape[0] > 1:
        notes.append(_CHANNELS.format(found.shape[0]))
        found = found.argmax(dim=0, keepdim=True)
    labels = Volume(np.asarray(found[0].cpu()), np.asarray(found.affine, dtype=np.float64))
    return labels, tuple(notes)


def _postprocessing(parts: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """The steps after the network, and notes: nothing is saved, and labels return to the image's grid."""
    from monai.transforms.io.array import SaveImage
    from monai.transforms.io.dictionary import SaveImaged
    from monai.transforms.post.dictionary import Invertd

    given = parts["postprocessing"]
    steps = [] if given is None else getattr(given, "transforms", (given,))
    steps = [step for step in steps if not isinstance(step, (SaveImage, SaveImaged))]
    if any(isinstance(step, Invertd) for step in steps):
        return steps, []
    invert = Invertd(keys="pred", transform=parts["preprocessing"], orig_keys="image")
    return [*steps, invert], [_INVERTED]


def _nearest(step: Any, found: Tensor, notes: list[str]) -> Any:
    """The step; an ``Invertd`` without averages of labels: between 0 and 2 lies 1, another zone."""
    labels = found.shape[0] == 1 and bool((found == found.round()).all())
    if not labels or all(getattr(step, "nearest_interp", (True,))):
        return step
    notes.append(_NEAREST)
    step = copy.copy(step)
    step.nearest_interp = (True,) * len(step.nearest_interp)
    return step


@contextlib.contextmanager
def _importable(root: Path) -> Iterator[None]:
    """Let a bundle import its own scripts while it loads; they are called alike in all bundles."""
    known, folder = set(sys.modules), root.resolve()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]


def _file(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """The first of some names that a folder holds. Raises InputError."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    alone = (folder / "model.ts").exists()
    found = "model.ts alone (TorchScript is not loaded)" if alone else "none"
    raise InputError(folder / names[-1 if "model.pt" in names else 0], expected=what, found=found)


def _parts(config: Path, metadata: Path, root: Path, device: torch.device) -> dict[str, Any]:
    """Network, inferer and transforms of a configuration. Raises InputError where one is missing."""
    from monai.bundle.config_parser import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(config))
    if metadata.exists():
        parser.read_meta(str(metadata))
    parser["bundle_root"] = str(root.resolve())
    parser["device"] = f"$torch.device('{device}')"
    missing = [entry for entry in _ENTRIES[:-1] if entry not in parser]
    if missing:
        raise InputError(config, expected=f"an entry {missing[0]!r}", found="none")
    parts = {e: parser.get_parsed_content(e) if e in parser else None for e in _ENTRIES}
    if not isinstance(parts["network_def"], nn.Module):
        found = type(parts["network_def"]).__name__
        raise InputError(config, expected="a network as 'network_def'", found=found)
    return parts


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, loaded without running code. Raises InputError."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with guarded(path, "is weights alone, loaded without running code"):
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("model", "state_dict", "network", "net"):  # where checkpoints hold them
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    weights: dict[str, Tensor] = found
    return weights


def _channels(metadata: dict[str, Any]) -> dict[int, str]:
    """Channel -> name, as the metadata give them; empty where they do not."""
    found: Any = metadata
    for key in ("network_data_format", "outputs", "pred", "channel_def"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return {}
    return {int(k): str(v) for k, v in found.items() if str(k).isdecimal()}
