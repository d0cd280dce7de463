"""Writers of each kind of output, in several versions, and readers of the parts that they hold.

A writer gets the target, a version (each differs from the others in every part), whether it may be small,
and a folder for inputs that it keeps; it replaces what is there. A reader raises for an output that it
cannot read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

TABLES = ("results.json", "results.csv", "results.md", "results.html")

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
    import torch

    from mrisr.config import UnshuffleSettings
    from mrisr.methods import build_restorer
    from mrisr.models.find import BUNDLED, read_card

    width, blocks = (8, 1) if small else (64, 4)
    made = {"network": UnshuffleSettings(width=width, blocks=blocks, fold=2), "figures": {}}
    card = read_card(BUNDLED / "partdiff-inplane.json").model_copy(update=made)
    torch.manual_seed(version)
    return card, build_restorer(card, card.condition)


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
