"""A model as a MONAI bundle: configuration, metadata, weights; its code is the installed package.

Source: MONAI Bundle Specification 1.6.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrisr
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Files, InPlane, Job, ThroughPlane, split_options
from mrisr.io import check_output_folder, stem, write_json
from mrisr.io.atomic import atomic_folder, make_folder, write_bytes
from mrisr.io.paths import SUPPORTED, ending
from mrisr.models.card import ModelCard
from mrisr.models.store import read_weights
from mrisr.runs.outputs import FileRun
from mrisr.runs.run import run_files

_LIBRARIES = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
#: What the expressions of the configuration call.
_IMPORTS = (
    "$from mrisr.integrations.bundle import images",
    "$from mrisr.models.store import load_model",
    "$from mrisr.transforms import SuperResolved",
)


def export_bundle(
    card: ModelCard, card_file: Path, output: Path, readme: str, *, force: bool = False
) -> Path:
    """Write a bundle that ``python -m monai.bundle run`` executes; its voxels are those of the job's command.

    Args:
        card, card_file: of the model.
        output: folder to write.
        readme: the card in Markdown.
        force: replace an existing folder.

    Raises:
        UsageError: the model is for pictures.
        InputError: its weights are missing or altered.
        OutputError: the folder exists or cannot be written.
    """
    if card.network.channels != 1 or card.job is None:
        raise UsageError(f"{card.name}: expected a model for volumes, found one for pictures")
    check_output_folder(output, inputs=(card_file.parent,), force=force)
    weights = read_weights(card_file.with_suffix(".safetensors"), card.sha256)
    with atomic_folder(output, overwrite=force, size=len(weights)) as folder:
        for name in ("configs", "docs", "models"):
            make_folder(folder / name)
        write_json(folder / "configs" / "inference.json", _inference(card.job))
        write_json(folder / "configs" / "metadata.json", _metadata(card))
        write_bytes(folder / "docs" / "README.md", f"{readme}\n".encode())
        write_bytes(folder / "models" / "model.safetensors", weights)
        write_bytes(folder / "models" / "model.json", card_file.read_bytes())
    return output


def images(path: str) -> list[str]:
    """The volumes of a folder, or the one that a path names. Raises InputError where there is none."""
    found = sorted(str(p) for p in Path(path).glob("*") if ending(p) and p.name[0] != ".")
    if not found and not Path(path).is_file():
        raise InputError(path, expected=f"volumes ({SUPPORTED})", found="none")
    return found or [path]


@dataclass
class Evaluator:
    """The workflow's engine: every image is read, restored and written with its record by :mod:`mrisr.runs`.

    Attributes:
        data: items with the path of an ``image``.
        output_dir: folder of the results.
        job: of the model.
        model: path of its card.
        device: as the option of that name.
        options: further options of the job.
        force: replace existing outputs.
    """

    data: Sequence[Mapping[str, str]]
    output_dir: str
    job: Job
    model: str
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False

    def run(self) -> list[Path]:
        """Restore all images; paths of the results. Raises as :func:`mrisr.run`."""
        kind = InPlane if self.job == "inplane" else ThroughPlane
        given = {"model": self.model, "device": self.device, **self.options}
        (settings,) = split_options(given, kind)
        written = []
        for item in self.data:
            source = Path(item["image"])
            path = make_folder(self.output_dir) / f"{stem(source)}_{self.job}.nii.gz"
            files = Files(output=path, force=self.force)
            written.append(run_files(FileRun(source, files), settings).path)
        return [path for path in written if path is not None]


def _inference(job: Job) -> dict[str, Any]:
    """The workflow: ``dataset_dir`` (a volume or a folder of them) to ``output_dir``."""
    evaluator = f"{Evaluator.__module__}.{Evaluator.__qualname__}"
    given = {"job": job, "model": "@model", "device": "@device"}
    more = "model=@model, device=@device, **@options"
    return {
        "imports": list(_IMPORTS),
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "auto",
        "options": {"scale": 4.0} if job == "inplane" else {},
        "model": "$@bundle_root + '/models/model.json'",
        "datalist": "$[{'image': p} for p in images(@dataset_dir)]",
        "network_def": "$load_model(@model).restorer.network",
        "preprocessing": {"_target_": "mrisr.transforms.LoadVolumed", "keys": "image"},
        "dataset": {
            "_target_": "monai.data.Dataset",
            "data": "@datalist",
            "transform": "@preprocessing",
        },
        "inferer": f"$SuperResolved('image', '{job}', {more})",
        "evaluator": {
            "_target_": evaluator,
            "data": "@datalist",
            "output_dir": "@output_dir",
            "options": "@options",
            **given,
        },
        "run": ["$@evaluator.run()"],
    }


def _metadata(card: ModelCard) -> dict[str, Any]:
    """The metadata, from the card."""
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "MR",
        "num_channels": 1,
        "spatial_shape": ["*", "*", "*"],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {"0": "T2w"},
    }
    return {
        "version": card.version,
        "changelog": {card.version: "exported"},
        **{key: importlib.metadata.version(name) for key, name in _LIBRARIES.items()},
        "required_packages_version": {"mrisr": mrisr.__version__},
        "name": card.name,
        "task": f"{card.job} super-resolution of prostate MRI",
        "description": card.description,
        "authors": "The mrisr authors",
        "copyright": f"Weights: {card.weights_licence}",
        "data_source": "; ".join(card.data_licences),
        "data_type": "NIfTI, MetaImage, NRRD",
        "intended_use": card.intended_use,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": image}},
    }
