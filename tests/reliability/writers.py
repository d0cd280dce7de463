"""Everything that mrisr writes, in several versions, as writers that can be hit while they work.

A writer gets the target, a version (each differs from the others in every part), whether it may be small,
and a folder for inputs that it keeps; it replaces what is there. What reads the parts of an output raises
for one that it cannot read.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from tests.reliability.models import restorer_of

TABLES = ("results.json", "results.csv", "results.md", "results.html")


@dataclass(frozen=True)
class Writer:
    """One kind of output.

    Attributes:
        name: as in the table.
        target: what the output is called.
        write: replaces what is there by a version.
        parts: what an output that is there holds, to be digested. Raises for one that cannot be read.
        names: files of the output that take their places one after the other, each whole; by default
            the output is one.
        there: a file without which there is no output; by default the target.
    """

    name: str
    target: str
    write: Callable[[Path, int, bool, Path], object]
    parts: Callable[[Path], Iterable[Any]]
    names: tuple[str, ...] = ()
    there: str = ""

    def read(self, target: Path) -> dict[str, str]:
        """Digests of the parts of an output that are there."""
        if self.names:
            files = (target / name for name in self.names)
            return {f.name: digest(*self.parts(f)) for f in files if f.exists()}
        if not (target / self.there).exists():
            return {}
        return {target.name: digest(*self.parts(target))}


def digest(*parts: Any) -> str:
    """The SHA-256 of arrays, tensors and plain values."""
    known = hashlib.sha256()
    for part in parts:
        if hasattr(part, "detach"):
            part = part.detach().cpu().numpy()
        data = part.tobytes() if isinstance(part, np.ndarray) else part
        known.update(data if isinstance(data, bytes) else repr(data).encode())
    return known.hexdigest()


@dataclass(frozen=True)
class Untidied(Writer):
    """Read as the next writing finds it."""

    def read(self, target: Path) -> dict[str, str]:
        from mrisr.io.files import remove_stale

        remove_stale(target)
        return super().read(target)


# --- volumes --------------------------------------------------------------------------------------


def volume(version: int, small: bool) -> Any:
    """A volume of noise, every version elsewhere in the world; all of one size on the disk."""
    from mrisr.core.volume import Storage, Volume

    shape = (12, 10, 6) if small else (128, 128, 24)
    values = np.random.default_rng(version).integers(0, 3000, shape).astype(np.int16)
    affine = np.diag([-0.5, -0.5, 3.0, 1.0])
    affine[:3, 3] = [10.0 * version, 0, 0]
    return Volume(values, affine, Storage(np.dtype(np.int16)))


def write_a_volume(target: Path, version: int, small: bool, inputs: Path) -> None:
    from mrisr.io import write_volume

    write_volume(volume(version, small), target, force=True)


def parts_of_a_volume(target: Path) -> Iterable[Any]:
    from mrisr.io import read_volume

    found = read_volume(target)
    return found.array, found.affine.round(4)


def write_in_place(target: Path, version: int, small: bool, inputs: Path) -> None:
    """Straight to the final path, as most programs do."""
    from mrisr.io.nifti import write_nifti

    write_nifti(volume(version, small), target)


def write_after_removing(target: Path, version: int, small: bool, inputs: Path) -> None:
    """Atomic in itself, but the old output goes first."""
    target.unlink(missing_ok=True)
    write_a_volume(target, version, small, inputs)


def write_and_leave_things_behind(target: Path, version: int, small: bool, inputs: Path) -> None:
    """Atomic, and untidy under a full disk or a kill."""
    part = target.with_name(f".{version}.mrisr-tmp{target.suffix}")
    write_in_place(part, version, small, inputs)
    part.replace(target)


# --- folders --------------------------------------------------------------------------------------


def write_a_folder(target: Path, version: int, small: bool, inputs: Path) -> None:
    from mrisr.io.atomic import atomic_folder

    count, size = (3, 64) if small else (15, 300_000)
    with atomic_folder(target) as folder:
        for k in range(count + version):
            data = np.random.default_rng([version, k]).bytes(size)
            (folder / f"{k:04d}.dcm").write_bytes(data)


def write_a_folder_in_two_steps(target: Path, version: int, small: bool, inputs: Path) -> None:
    """As on a system that cannot exchange two folders."""
    from mrisr.io import files

    files._exchange = lambda a, b: False  # type: ignore[assignment]
    write_a_folder(target, version, small, inputs)


def parts_of_a_folder(target: Path) -> Iterable[Any]:
    return [x for f in sorted(target.iterdir()) for x in (f.name, f.read_bytes())]


def write_a_series(target: Path, version: int, small: bool, inputs: Path) -> None:
    from mrisr.dicom.derivation import Derivation
    from mrisr.dicom.series import storable, write_series
    from mrisr.dicom.source import read_source
    from mrisr.io import read_volume
    from tests.dicom.synthetic import hospital_series

    origin = inputs / f"series{int(small)}"
    if not origin.exists():
        hospital_series(origin, size=16 if small else 64, slices=3 if small else 8)
    measured = read_volume(origin)
    made = replace(measured, array=measured.array // (version + 1))
    derivation = Derivation(
        label="super-resolved",
        description="research use only",
        details="",
        version="0",
        model_sha256="0",
        seed=version,
        key=str(version),
        series_offset=81,
        created=datetime(2024, 1, version, tzinfo=timezone.utc),
    )
    write_series(storable(made), target, read_source(origin), derivation, force=True)


def parts_of_a_series(target: Path) -> Iterable[Any]:
    return *parts_of_a_volume(target), len(list(target.iterdir()))


# --- records, pictures and tables -----------------------------------------------------------------


def write_a_record(target: Path, version: int, small: bool, inputs: Path) -> None:
    from mrisr.io import write_json

    write_json(target, {f"key {k}": [version, k] for k in range(10 if small else 20_000)})


def write_a_picture(target: Path, version: int, small: bool, inputs: Path) -> None:
    from mrisr.io.atomic import write_bytes
    from mrisr.view.qc import qc_png

    made, extent_mm = volume(version, True), 8 if small else 30
    write_bytes(target, qc_png(made, made, None, title=f"version {version}", extent_mm=extent_mm))


def parts_of_a_picture(target: Path) -> Iterable[Any]:
    from matplotlib.image import imread

    return [imread(target)]


def write_some_tables(target: Path, version: int, small: bool, inputs: Path) -> None:
    """As the report of an evaluation is written."""
    from mrisr.io.atomic import write_together

    target.mkdir(exist_ok=True)
    lines = 4 if small else 20_000
    write_together({target / name: f"{name} {version}\n".encode() * lines for name in TABLES})


# --- what training needs and makes ----------------------------------------------------------------


def write_a_cache(target: Path, version: int, small: bool, inputs: Path) -> None:
    from mrisr.data.prepare import prepare
    from mrisr.io import write_volume

    data = inputs / f"patients{version}{int(small)}"
    if not data.exists():
        (data / "one").mkdir(parents=True)
        for plane in ("a", "b"):
            write_volume(volume(version, small), data / "one" / f"t2w_{plane}.nii")
    prepare(data, target, crop=8 if small else 96, force=True)


def parts_of_a_cache(target: Path) -> Iterable[Any]:
    from mrisr.data.cache import read_stacks

    return [x for s in read_stacks(target) for x in (s[:4], s.levels)]


def network(version: int, small: bool) -> Any:
    """A card and a restorer with random weights."""
    width, blocks = (8, 1) if small else (64, 4)
    return restorer_of("model", width=width, blocks=blocks, seed=version)


def training_state(version: int, small: bool) -> Any:
    import torch

    from mrisr.training.bookkeeping import State

    _, restorer = network(version, small)
    ema = {k: v + 1 for k, v in restorer.network.state_dict().items()}
    optimizer = torch.optim.AdamW(restorer.parameters())
    return State({"network": restorer.network}, {"optimizer": optimizer}, ema)


def write_a_checkpoint(target: Path, version: int, small: bool, inputs: Path) -> None:
    import torch

    from mrisr.training.bookkeeping import Progress, save_checkpoint

    state = training_state(version, small)
    for parameter in state.modules["network"].parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizers["optimizer"].step()
    save_checkpoint(target, state, Progress(version, float(version)))


def parts_of_a_checkpoint(target: Path) -> Iterable[Any]:
    from mrisr.training.bookkeeping import load_checkpoint

    state = training_state(0, target.stat().st_size < 1_000_000)
    progress = load_checkpoint(target, state)
    moments = state.optimizers["optimizer"].state_dict()["state"].values()
    weights = state.modules["network"].state_dict().values()
    return *weights, *state.ema.values(), *(v for s in moments for v in s.values()), progress


def write_a_model(target: Path, version: int, small: bool, inputs: Path) -> None:
    from mrisr.models.store import save_model

    card, restorer = network(version, small)
    card = card.model_copy(update={"description": f"version {version}"})
    save_model(card, restorer.network.state_dict(), target, "model")


def parts_of_a_model(target: Path) -> Iterable[Any]:
    from mrisr.models.store import load_model

    model = load_model(target)
    return model.card.description, *model.restorer.network.state_dict().values()


#: One for each way to write: what the gate tries.
IN_GATE = (".nii.gz", ".mhd", "a derived DICOM series", "a saved model")
WRITERS = (
    *(
        Writer(ending, f"out{ending}", write_a_volume, parts_of_a_volume)
        for ending in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
    ),
    Writer("a derived DICOM series", "series", write_a_series, parts_of_a_series),
    Writer("a folder", "folder", write_a_folder, parts_of_a_folder),
    Untidied(
        "a folder, where two cannot be exchanged",
        "folder",
        write_a_folder_in_two_steps,
        parts_of_a_folder,
    ),
    Writer("a JSON record", "out.json", write_a_record, lambda t: [json.loads(t.read_text())]),
    Writer("a QC picture", "out.png", write_a_picture, parts_of_a_picture),
    Writer(
        "evaluation tables",
        "tables",
        write_some_tables,
        lambda file: [file.read_bytes()],
        names=TABLES,
    ),
    Writer("a prepared cache", "cache", write_a_cache, parts_of_a_cache),
    Writer(
        "a training checkpoint",
        "checkpoint.safetensors",
        write_a_checkpoint,
        parts_of_a_checkpoint,
    ),
    Writer("a saved model", "run", write_a_model, parts_of_a_model, there="model.json"),
)

#: Writers as they must not be, by which the experiments are tested.
CARELESS = (
    Writer("in place", "out.nii", write_in_place, parts_of_a_volume),
    Writer("old one first", "out.nii", write_after_removing, parts_of_a_volume),
    Writer("untidy", "out.nii", write_and_leave_things_behind, parts_of_a_volume),
)
