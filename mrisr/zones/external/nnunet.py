"""An nnU-Net result folder as a segmenter of the zones.

nnU-Net's checkpoints are pickles, which nnU-Net loads as such: they can run any code. Only a folder that is
trusted like a program should be given.

nnU-Net does not turn images, but has learned from such as they lay in its training data. It gets them the way
scanners store axial slices (LPS), or RAS where its plans name a reader that turns them so.

Source: nnU-Net v2.8, ``nnunetv2/inference/predict_from_raw_data.py``.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.volume import Volume
from mrisr.io import read_volume, write_volume
from mrisr.io.checks import read_json
from mrisr.networks import resolve_device
from mrisr.zones.labels import LabelTable
from mrisr.zones.score import check_same_grid
from mrisr.zones.segmenter import ExternalSegmenter, digest, guarded

COMMAND = "nnUNetv2_predict_from_modelfolder"
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")

#: nnU-Net's labels of a volume with the axes that nnU-Net wants, on that volume's grid.
Predict: TypeAlias = Callable[[Volume], NDArray[np.generic]]


class ResultFolder(NamedTuple):
    """The result folder of a trained configuration."""

    root: Path
    folds: tuple[str, ...]  #: whose predictions are averaged, as nnU-Net names them
    checkpoint: str  #: the file's name in each fold's folder
    ending: str  #: file name ending that its readers take
    codes: str  #: direction of the array axes of its images


def load_nnunet(
    path: Path, table: LabelTable | None = None, device: str = "auto"
) -> ExternalSegmenter:
    """Load an nnU-Net. This unpickles its checkpoints, which can run any code.

    Args:
        path: the folder of a trained configuration: ``dataset.json``, ``plans.json`` and
            ``fold_0/checkpoint_final.pth`` and so on. All folds found are averaged.
        table: meaning of its labels; by default from the names in ``dataset.json``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: there is no such device, or no nnU-Net is installed.
        InputError: a file is missing or damaged, labels are not recognised, the model takes several
            images, or it does not load.
    """
    root = Path(path)
    dataset = read_json(root / "dataset.json", "the data set of an nnU-Net v2")
    plans = read_json(root / "plans.json", "the plans of an nnU-Net v2")
    table = table or LabelTable.recognised(_labels(dataset), root / "dataset.json")
    folder = _folder(root, dataset, plans)
    checkpoints = (root / f"fold_{fold}" / folder.checkpoint for fold in folder.folds)
    on = resolve_device(device)
    if importlib.util.find_spec("nnunetv2") is not None:
        predict = _in_process(folder, on)
    elif (command := shutil.which(COMMAND)) is not None:
        predict = _by_command(folder, on, command)
    else:
        raise UsageError(f"{root}: nnU-Net is not installed; pip install nnunetv2")
    return ExternalSegmenter(
        kind="nnunet",
        name=root.resolve().name[:64],
        sha256=digest(root, [root / "dataset.json", root / "plans.json", *checkpoints], table),
        device=on,
        table=table,
        root=root,
        run=partial(_run, folder, predict),
    )


def _run(folder: ResultFolder, predict: Predict, volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """nnU-Net's labels of a volume, which keeps its grid, and notes."""
    turned = volume.reoriented(folder.codes)
    found = turned.with_array(predict(turned)).reoriented(geometry.axis_codes(volume.affine))
    final = folder.checkpoint == _CHECKPOINTS[0]
    return found, () if final else (f"{folder.checkpoint} of an unfinished training",)


def _labels(dataset: dict[str, Any]) -> dict[int, str]:
    """Label -> name. A region (a list of labels) comes as a name that means nothing to us."""
    labels = dataset.get("labels")
    labels = labels if isinstance(labels, dict) else {}
    found = {value: name for name, value in labels.items() if isinstance(value, int)}
    if any(isinstance(value, list) for value in labels.values()):
        found[max(found, default=0) + 1] = "regions"
    return found


def _folder(root: Path, dataset: dict[str, Any], plans: dict[str, Any]) -> ResultFolder:
    """The folds that are there. Raises InputError."""
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    if len(channels) != 1:
        found = f"{len(channels)} channels"
        raise InputError(root / "dataset.json", expected="a model of one image", found=found)
    ending = str(dataset.get("file_ending"))
    if ending not in _ENDINGS:
        expected = f"a file_ending of {', '.join(_ENDINGS)}"
        raise InputError(root / "dataset.json", expected=expected, found=ending)
    codes = "RAS" if "WithReorient" in str(plans.get("image_reader_writer")) else "LPS"
    for checkpoint in _CHECKPOINTS:
        folds = sorted(
            p.parent.name.removeprefix("fold_") for p in root.glob(f"fold_*/{checkpoint}")
        )
        numbered = tuple(f for f in folds if f.isdecimal())
        if folds:
            return ResultFolder(root, numbered or ("all",), checkpoint, ending, codes)
    raise InputError(root, expected=f"fold_0/{_CHECKPOINTS[0]} or another fold's", found="none")


def _in_process(folder: ResultFolder, device: torch.device) -> Predict:
    """nnU-Net loaded into this process, once for all images."""
    with guarded(folder.root, "loads"):
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(device=device, allow_tqdm=False)
        folds = tuple(int(f) if f.isdecimal() else f for f in folder.folds)
        predictor.initialize_from_trained_model_folder(
            str(folder.root), use_folds=folds, checkpoint_name=folder.checkpoint
        )
    if predictor.configuration_manager.previous_stage_name is not None:
        raise InputError(folder.root, expected="a model of one stage", found="a cascade's second")

    def predict(volume: Volume) -> NDArray[np.generic]:
        # nnU-Net counts axes as SimpleITK's arrays do: slice, row, column.
        image = np.ascontiguousarray(volume.array.T[None], dtype=np.float32)
        properties = {"spacing": [float(s) for s in volume.spacing[::-1]]}
        found = predictor.predict_single_npy_array(image, properties)
        return np.asarray(found).T

    return predict


def _by_command(folder: ResultFolder, device: torch.device, command: str) -> Predict:
    """nnU-Net as a program of its own, which loads the model anew for every image."""

    def predict(volume: Volume) -> NDArray[np.generic]:
        with tempfile.TemporaryDirectory(prefix="mrisr-") as name:
            given, made = Path(name) / "in", Path(name) / "out"
            given.mkdir()
            write_volume(volume, given / f"case_0000{folder.ending}")
            arguments = ["-i", given, "-o", made, "-m", folder.root.resolve(), "-f", *folder.folds]
            arguments += ["-chk", folder.checkpoint, "-device", device.type, "-npp", 1, "-nps", 1]
            _execute([command, *map(str, arguments), "--disable_progress_bar"], folder.root, device)
            result = made / f"case{folder.ending}"
            if not result.exists():
                raise InputError(folder.root, expected=f"a result of {COMMAND}", found="none")
            labels = read_volume(result, allow_constant=True)
            check_same_grid(replace(labels, name=str(folder.root)), volume)
            return labels.array

    return predict


def _execute(command: list[str], root: Path, device: torch.device) -> None:
    """Run a program and all that it starts to the end. Raises InputError with its last words."""
    variables = dict(os.environ)
    if device.index is not None:
        seen = variables.get("CUDA_VISIBLE_DEVICES", "").split(",")
        shown = seen[device.index] if device.index < len(seen) and seen[0] else device.index
        variables["CUDA_VISIBLE_DEVICES"] = str(shown)
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=variables,
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        last = [line for line in said.splitlines() if line.strip()] or ["no word"]
        found = f"exit {process.returncode}: {' '.join(last[-1].split())[:200]}"
        raise InputError(root, expected="a model that segments this image", found=found)
