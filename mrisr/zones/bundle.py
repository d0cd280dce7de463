"""Any MONAI bundle as a segmenter of the zones, such as the Model Zoo's ``prostate_mri_anatomy``.

A bundle is a program: its configuration names code that is run while it is read (``_target_``,
``$expressions``), and it may bring scripts. Only the weights are held to less: they are loaded as tensors
alone. TorchScript is not loaded, which nobody can read before running it and PyTorch is giving up.

The bundle's own preprocessing reads a temporary NIfTI of the volume, and its own postprocessing, without
what saves files, brings the labels back.

Source: MONAI Bundle Specification 1.6.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.io import write_volume
from mrisr.networks.device import resolve_device
from mrisr.zones.foreign import check_axial, digest, foreign, labels_on, read_json
from mrisr.zones.labels import LabelTable
from mrisr.zones.score import check_same_grid

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_WEIGHTS = ("model.safetensors", "model.pt")
#: Entries of the configuration that are run; all but the last must be there.
_ENTRIES = ("network_def", "preprocessing", "inferer", "postprocessing")
#: Under which name a checkpoint may hold the network's weights, if it is not they themselves.
_WITHIN = ("model", "state_dict", "network", "net")
_NEAREST = "the bundle interpolates between labels on the way back; the nearest label was taken"
_CHANNELS = "the bundle answers with {} channels; a voxel's label is that of the largest"
_INVERTED = "the bundle does not bring its answer back to the image's grid; that was done for it"


@dataclass
class BundleSegmenter:
    """A bundle, ready to run; see :func:`load_bundle`.

    Attributes:
        name: as its metadata call it, else its folder's.
        sha256: of configuration, weights, scripts and table.
        notes: what had to be done otherwise than the bundle says, in the last call.
    """

    name: str
    sha256: str
    root: Path
    table: LabelTable
    device: torch.device
    parts: dict[str, Any] = field(repr=False)
    notes: list[str] = field(default_factory=list)
    kind: str = "bundle"

    def __call__(self, volume: Volume) -> Volume:
        """Labels of the zones on the volume's grid.

        Raises:
            InputError: no axial slices, the bundle fails, or what comes back are no labels of the table
                on the volume's grid.
        """
        check_axial(volume)
        self.notes = []
        with foreign(self.root, "segments this image"), importable(self.root), torch.no_grad():
            array, affine = self._run(volume)
        found = Volume(array, affine, name=str(self.root))
        check_same_grid(found, volume)
        return labels_on(volume, self.table.apply(array, self.root))

    def _run(self, volume: Volume) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The bundle's labels and their affine."""
        from monai.data import MetaTensor

        with tempfile.TemporaryDirectory(prefix="mrisr-") as folder:
            path = write_volume(volume, Path(folder) / "image.nii")
            data = self.parts["preprocessing"]({"image": str(path)})
        image = data["image"]
        answer = self.parts["inferer"](image[None].to(self.device), self.parts["network_def"])
        scores = torch.as_tensor(_first(answer))[0].cpu()
        data["pred"] = MetaTensor(getattr(scores, "as_tensor", lambda: scores)(), meta=image.meta)
        found = self._finished(data)["pred"]
        if found.shape[0] > 1:
            self.notes.append(_CHANNELS.format(found.shape[0]))
            found = found.argmax(dim=0, keepdim=True)
        affine = np.asarray(found.affine, dtype=np.float64)
        return np.asarray(found[0].cpu()), affine

    def _finished(self, data: dict[str, Any]) -> dict[str, Any]:
        """The postprocessing, without what saves files, and with the way back to the image's grid."""
        from monai.transforms import Invertd, SaveImage, SaveImaged

        after = self.parts["postprocessing"]
        steps = [] if after is None else getattr(after, "transforms", (after,))
        steps = [step for step in steps if not isinstance(step, (SaveImage, SaveImaged))]
        if not any(isinstance(step, Invertd) for step in steps):
            self.notes.append(_INVERTED)
            before = self.parts["preprocessing"]
            steps.append(Invertd(keys="pred", transform=before, orig_keys="image"))
        for step in steps:
            data = (self._nearest(step, data["pred"]) if isinstance(step, Invertd) else step)(data)
        return data

    def _nearest(self, step: Any, found: Tensor) -> Any:
        """The way back, without averages of labels, which would be other labels: between background and
        2 lies 1."""
        labels = found.shape[0] == 1 and bool((found == found.round()).all())
        if not labels or all(step.nearest_interp):
            return step
        self.notes.append(_NEAREST)
        step = copy.copy(step)
        step.nearest_interp = (True,) * len(step.nearest_interp)
        return step


def load_bundle(
    path: Path, table: LabelTable | None = None, device: str = "auto"
) -> BundleSegmenter:
    """Load a bundle. This runs code that the bundle names.

    Args:
        path: folder with ``configs/inference.json`` (or ``.yaml``), ``configs/metadata.json`` and
            ``models/model.pt`` (or ``.safetensors``).
        table: what its labels stand for; by default what the metadata say of the channels of ``pred``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: there is no such device.
        InputError: a file is missing or damaged, labels are not recognised, or the bundle does not load.
    """
    root = Path(path)
    config = _file(root / "configs", _CONFIGS, "the configuration of a MONAI bundle")
    weights = _file(root / "models", _WEIGHTS, "weights of a MONAI bundle")
    metadata = root / "configs" / "metadata.json"
    told = read_json(metadata, "a bundle's metadata") if metadata.exists() or not table else {}
    table = table or LabelTable.recognised(_channels(told), metadata)
    on = resolve_device(device)
    with foreign(root, "loads"), importable(root):
        parts = _parts(config, metadata, root, on)
        parts["network_def"].load_state_dict(_weights(weights))
        parts["network_def"].to(on).eval()
    files = [*(root / "configs").glob("*"), weights, *(root / "scripts").rglob("*.py")]
    sha256 = digest(root, [f for f in files if f.is_file()], table)
    return BundleSegmenter(_name(told, root), sha256, root, table, on, parts)


@contextlib.contextmanager
def importable(root: Path) -> Iterator[None]:
    """Let a bundle import its own scripts, and forget them after, since all bundles call them alike."""
    known = set(sys.modules)
    sys.path.insert(0, str(root.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(root.resolve()))
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(root.resolve()):
                del sys.modules[name]


def _file(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """The first of some names that a folder holds. Raises InputError."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    found = "none"
    if (folder / "model.ts").exists():
        found = "model.ts alone (TorchScript is not loaded)"
    raise InputError(folder / names[-1 if "model.pt" in names else 0], expected=what, found=found)


def _parts(config: Path, metadata: Path, root: Path, device: torch.device) -> dict[str, Any]:
    """Network, inferer and transforms of a configuration. Raises InputError where one is missing."""
    from monai.bundle import ConfigParser

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
    with foreign(path, "is weights alone, loaded without running code"):
        found = torch.load(path, map_location="cpu", weights_only=True)
    for key in _WITHIN:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            return found[key]
    return found


def _channels(metadata: dict[str, Any]) -> dict[int, str]:
    """What the metadata call the channels of the answer."""
    found: Any = metadata
    for key in ("network_data_format", "outputs", "pred", "channel_def"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return {}
    return {int(k): str(v) for k, v in found.items() if str(k).isdecimal()}


def _name(metadata: dict[str, Any], root: Path) -> str:
    name = str(metadata.get("name") or root.resolve().name)
    return "".join(c for c in " ".join(name.split()) if c.isprintable())[:64]


def _first(answer: Any) -> Any:
    """The answer itself, or the first of several."""
    return answer[0] if isinstance(answer, (list, tuple)) else answer
