"""What several planes are worth: on a moving phantom, and where a patient's coronal stack is held out.

``python docs/scripts/planes.py`` prints the table of the phantom, ``python docs/scripts/planes.py PATIENTS``
that of every patient with an axial, a coronal and a sagittal stack (t2w_ax, t2w_cor, t2w_sag) in a folder
each, both in docs/how-to/join-planes.md. ``--model NAME`` names another through-plane model.
"""

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mrisr.core import geometry
from mrisr.core.options import Sampling
from mrisr.core.volume import Volume
from mrisr.data.phantom import RANGE, phantom, phantom_affine
from mrisr.io import read_volume
from mrisr.models.store import Model, load_model
from mrisr.physics.measurement import measure_through_plane, stack_order
from mrisr.physics.noise import grain
from mrisr.planes import joint as planes
from mrisr.planes.reconstruction import _terms, slice_operator
from mrisr.planes.slices import RADIUS, register_slices

SPACING = 0.6  # mm, of all joint volumes here
BOX = 36.0  # mm around the gland that are compared
#: Frequencies along S-I in cycles/mm: what thick axial slices show, and what another plane adds.
BANDS = ((0.0, 0.21), (0.21, 0.42), (0.42, 0.63))
SHAPES = {"axial": (160, 160, 20), "coronal": (160, 150, 18), "sagittal": (160, 150, 18)}


def joined(volumes: list[Volume], model: Model) -> planes.Joint:
    """The joint volume of stacks, the first of which gives the frame."""
    measurements = [
        measure_through_plane(v, float(v.spacing[v.slice_axis]) / SPACING).with_estimated_noise()
        for v in volumes
    ]
    return planes.join(measurements, model, Sampling(), SPACING)


# --- phantom --------------------------------------------------------------------------------------


def exam(seed: int) -> tuple[dict[str, Volume], dict[str, geometry.Affine], Volume]:
    """Stacks of 0.6 x 0.6 x 3.6 mm with Rician noise of 2%, moved by 4 mm and 3 degrees against the axial
    one, each shaded smoothly; their motions; and the truth on the joint grid."""
    rng = np.random.default_rng(seed)
    stacks, motions = {}, {}
    for plane, shape in SHAPES.items():
        affine, motion, shading = phantom_affine(shape, plane, (0.6, 0.6, 3.6)), np.eye(4), 1.0
        if plane != "axial":
            shift, turn = rng.normal(size=(2, 3))
            angles = turn * 3 / np.linalg.norm(turn)
            motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
            motion[:3, 3] = shift * 4 / np.linalg.norm(shift)
            at = (np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]) / 45
            c = 0.06 * rng.normal(size=6)
            shading = np.exp(rng.uniform(-0.3, 0.3) + at @ c[:3] + np.square(at) @ c[3:])
        clean = phantom(shape, motion @ affine, seed=seed, dtype=np.float32)
        values = clean.array * shading
        real, imaginary = rng.normal(size=(2, *shape)) * 0.02 * RANGE * np.mean(shading)
        array = np.hypot(values + real, imaginary).astype(np.float32)
        stacks[plane] = replace(clean, array=array, affine=affine, name=plane, slice_thickness=3.6)
        motions[plane] = motion
    shape, affine = geometry.resampled_grid(SHAPES["axial"], stacks["axial"].affine, (1, 1, 6))
    truth = phantom(shape, affine, slice_thickness=SPACING, seed=seed, dtype=np.float32)
    return stacks, motions, truth


def psnr(found: Volume, truth: Volume) -> float:
    """PSNR in dB in the middle of the field."""
    inner = (slice(24, -24), slice(24, -24), slice(12, -12))
    error = found.array[inner] - truth.array[inner]
    return float(10 * np.log10(RANGE**2 / np.mean(np.square(error))))


def error_mm(a: geometry.Affine, b: geometry.Affine) -> float:
    """Root mean square distance of two motions ``RADIUS`` from the origin."""
    away = np.column_stack([np.vstack([np.eye(3), -np.eye(3)]) * RADIUS, np.ones(6)])
    return float(np.sqrt(np.square((away @ (a - b).T)[:, :3]).sum(1).mean()))


def phantom_table(model: Model) -> None:
    """Print a row for each of three phantoms."""
    print("| phantom | axial alone | three planes | gain | motion's error, coronal; sagittal |")
    print("|---|---|---|---|---|")
    for seed in range(2):
        stacks, motions, truth = exam(seed)
        made = joined(list(stacks.values()), model)
        alone, together = psnr(made.lead.volume, truth), psnr(made.volume, truth)
        errors = [error_mm(u.fit.matrix, motions[u.volume.plane]) for u in made.used if u.fit]
        away = "; ".join(f"{e:.2f} mm" for e in errors)
        gain = together - alone
        print(
            f"| {seed} | {alone:.2f} dB | {together:.2f} dB | {gain:+.2f} dB | {away} |", flush=True
        )


# --- patients -------------------------------------------------------------------------------------


def agreement(held: Volume, volume: Volume, centre: NDArray[np.float64]) -> dict[str, float]:
    """How well a volume predicts a stack around the gland, after registration of its own and a gain of second
    degree in space: PSNR, correlation of the differences along S-I, and of bands along S-I."""
    fit = register_slices(held, volume, centre)
    order = list(stack_order(held))
    operator = slice_operator(volume.shape, volume.affine, held, fit.matrix)
    shown = operator(torch.from_numpy(volume.array.astype(np.float32))).numpy()
    covered = operator(torch.ones(volume.shape)).numpy() > 0.99
    affine, spacing = held.affine[:, [*order, 3]], held.spacing[order]
    middle = (np.linalg.inv(affine) @ [*centre, 1.0])[:3]
    low, high = (np.round(middle + sign * BOX / 2 / spacing).astype(int) for sign in (-1, 1))
    box = tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))
    whole = [bool(c.all()) for c in covered[box]]
    wanted = held.array.transpose(order).astype(np.float32)[box][whole]
    found = shown[box][whole]
    at = np.moveaxis(np.indices(found.shape), 0, -1) * spacing
    gain = found[..., None] * _terms(at, at.reshape(-1, 3).mean(0))
    terms = np.concatenate([gain, np.ones_like(gain[..., :1])], -1).reshape(-1, 11)
    fitted = (terms @ np.linalg.lstsq(terms, wanted.ravel(), rcond=None)[0]).reshape(found.shape)
    brightest = np.percentile(held.array, 99.5)
    scores = {"PSNR": 10 * np.log10(brightest**2 / np.mean(np.square(fitted - wanted)))}
    along = geometry.world_axes(affine).index(2)
    a, b = (np.moveaxis(v, along, -1) for v in (fitted, wanted))
    scores["differences"] = np.corrcoef(np.diff(a).ravel(), np.diff(b).ravel())[0, 1]
    window = np.hanning(a.shape[1])[:, None] * np.hanning(a.shape[2])
    f, g = (np.fft.fft2((v - v.mean((1, 2), keepdims=True)) * window) for v in (a, b))
    frequency = np.abs(np.fft.fftfreq(a.shape[2], spacing[along]))
    across = np.abs(np.fft.fftfreq(a.shape[1], spacing[3 - along]))[:, None] < 1 / (2 * 3.6)
    for first, last in BANDS:
        of_band = across & (frequency >= first) & (frequency < last)
        p, q = f[:, of_band], g[:, of_band]
        power = np.sqrt(np.square(np.abs(p)).sum() * np.square(np.abs(q)).sum())
        scores[f"{first}-{last} /mm"] = float((p * q.conj()).sum().real / power)
    return {name: float(score) for name, score in scores.items()}


def patient_table(folder: Path, model: Model) -> None:
    """Print two rows for each patient: the axial stack alone, and with the sagittal one."""
    header = None
    for patient in sorted(folder.iterdir()):
        files = [patient / f"t2w_{plane}.nii.gz" for plane in ("ax", "sag", "cor")]
        if not all(file.exists() for file in files):
            continue
        axial, sagittal, coronal = (read_volume(file) for file in files)
        began = time.perf_counter()
        made = joined([axial, sagittal], model)
        seconds = time.perf_counter() - began
        centre, _ = planes.gland_centre([axial, coronal])
        rows = {"axial": made.lead.volume, "axial and sagittal": made.volume}
        for name, volume in rows.items():
            scores = agreement(coronal, volume, centre)
            slices = torch.from_numpy(
                volume.array.transpose(stack_order(axial)).astype(np.float32) * 2 / made.grid.scale
            )
            scores["noise, % of the range"] = 100 * grain(slices)
            if header is None:
                header = list(scores)
                print(f"| patient | stacks | {' | '.join(header)} |")
                print(f"|---|---|{'---|' * len(header)}")
            cells = (f"{score:.3f}" for score in scores.values())
            print(f"| {patient.name} | {name} | {' | '.join(cells)} |", flush=True)
        used = made.used[0]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        said = used.why or f"agreement {used.agreement:.2f}"
        print(f"<!-- {patient.name}: {said}; {seconds:.0f} s, {memory:.1f} GiB -->", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("patients", type=Path, nargs="?")
    parser.add_argument("--model", default="partdiff-throughplane")
    given = parser.parse_args()
    network = load_model(given.model)
    if given.patients is None:
        phantom_table(network)
    else:
        patient_table(given.patients, network)
