"""What several planes are worth: on a moving phantom, and where one of a patient's stacks is held out.

``python docs/scripts/planes.py`` prints the table of the phantom, ``python docs/scripts/planes.py PATIENTS``
that of every patient with an axial, a coronal and a sagittal stack (t2w_ax, t2w_cor, t2w_sag) in a folder
each, both in docs/how-to/join-planes.md. ``--hold sagittal`` holds out that stack instead of the coronal one,
``--model NAME`` names another through-plane model, ``--total-variation`` adds what the prior of UniRes makes
of the same stacks.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from mrisr.core import geometry
from mrisr.core.options import Sampling, Segmenting
from mrisr.core.statistics import scaling
from mrisr.core.volume import Volume
from mrisr.data.phantom import RANGE, phantom, phantom_affine
from mrisr.io import read_volume
from mrisr.models.store import Model, load_model
from mrisr.physics.measurement import measure_through_plane, stack_order
from mrisr.physics.noise import estimated_level, grain
from mrisr.physics.operator import (
    LinearOperator,
    Sloped,
    Stacked,
    Weighted,
    conjugate_gradients,
)
from mrisr.planes import joint as planes
from mrisr.planes.intensities import monomials
from mrisr.planes.reconstruction import brought, slice_operator
from mrisr.planes.registration import Points
from mrisr.planes.slices import RADIUS, register_slices
from mrisr.zones.segmenter import load_segmenter

SPACING = 0.6  # mm, of all joint volumes here
BOX = 36.0  # mm around the gland that are compared
#: Distance in mm from the gland up to which total variation reconstructs, and its iterations.
AROUND, ROUNDS = 42.0, 15
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
    """Print a row for each of two phantoms."""
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


def matched(found: Points, wanted: Points, at: Points) -> Points:
    """``found`` under the gain of second degree in space and the offset that bring it nearest to ``wanted``;
    values ``(n,)`` at positions ``(n, 3)`` in mm."""
    terms = np.column_stack([found[:, None] * monomials(at, at.mean(0)), np.ones(len(found))])
    return np.asarray(terms @ np.linalg.lstsq(terms, wanted, rcond=None)[0])


def agreement(
    held: Volume, volume: Volume, centre: NDArray[np.float64], gland: Volume
) -> dict[str, float]:
    """How well a volume predicts a stack in a box around the gland and in the gland (1 in ``gland``) alone,
    after registration of its own and a gain of second degree in space: PSNR, correlation of the differences
    along S-I, and of bands along S-I. ``less noise`` is PSNR with the variance of the stack's own noise taken
    off the squared error: against the anatomy, not one noisy scan of it."""
    fit = register_slices(held, volume, centre)
    order = list(stack_order(held))
    operator = slice_operator(volume.shape, volume.affine, held, fit.matrix)
    shown = operator(torch.from_numpy(volume.array.astype(np.float32))).numpy().astype(float)
    covered = operator(torch.ones(volume.shape)).numpy() > 0.99
    affine, spacing = held.affine[:, [*order, 3]], held.spacing[order]
    wanted = held.array.transpose(order).astype(float)
    at = np.moveaxis(np.indices(wanted.shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    middle = (np.linalg.inv(affine) @ [*centre, 1.0])[:3]
    low, high = (np.round(middle + sign * BOX / 2 / spacing).astype(int) for sign in (-1, 1))
    slices = np.zeros(len(wanted), bool)
    slices[max(0, low[0]) : high[0]] = True
    box = tuple(slice(max(0, a), b) for a, b in zip(low[1:], high[1:], strict=True))
    slices &= covered[(slice(None), *box)].all((1, 2))
    whole = np.zeros(wanted.shape, bool)
    whole[(slices, *box)] = True
    inside = brought(gland, wanted.shape, affine, np.linalg.inv(fit.matrix), linear=True) > 0.5
    brightest = np.percentile(held.array, 99.5)
    offset, span = scaling(held.array)
    scaled = torch.from_numpy((wanted - offset) * (2 / span) - 1).float()
    noise = estimated_level(scaled) * span
    along = geometry.world_axes(affine).index(2)
    scores: dict[str, float] = {}
    for name, region in (("gland", inside.numpy() & covered), ("box", whole)):
        fitted = np.full(wanted.shape, np.nan)
        fitted[region] = matched(shown[region], wanted[region], at[region])
        error = np.mean(np.square(fitted - wanted)[region])
        scores[f"PSNR, {name}"] = 10 * np.log10(brightest**2 / error)
        scores[f"less noise, {name}"] = 10 * np.log10(brightest**2 / (error - noise**2))
        slopes = np.diff(fitted, axis=along), np.diff(wanted, axis=along)
        pairs = np.isfinite(slopes[0])
        scores[f"differences, {name}"] = np.corrcoef(*(d[pairs] for d in slopes))[0, 1]
    a, b = (np.moveaxis(v[(slices, *box)], along, -1) for v in (fitted, wanted))
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


def surroundings(held: Volume, volume: Volume, centre: NDArray[np.float64]) -> str:
    """How far along S-I what lies around the gland is off the gland's pose: the shift of best correlation."""
    fit = register_slices(held, volume, centre)
    order = list(stack_order(held))
    affine, shape = held.affine[:, [*order, 3]], [held.shape[a] for a in order]
    at = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    away = np.linalg.norm(at - centre, axis=-1)
    wanted = held.array.transpose(order).astype(np.float32)
    found = {}
    for shift in np.arange(-7.5, 7.6, 1.5):
        moved = fit.matrix.copy()
        moved[2, 3] += shift
        operator = slice_operator(volume.shape, volume.affine, held, moved)
        shown = operator(torch.from_numpy(volume.array.astype(np.float32))).numpy()
        inside = (operator(torch.ones(volume.shape)).numpy() > 0.99) & (away > 35) & (away < 70)
        found[shift] = float(np.corrcoef(shown[inside], wanted[inside])[0, 1])
    best = max(found, key=lambda shift: found[shift])
    return (
        f"{held.plane}, 35 to 70 mm from the gland: correlation {found[0.0]:.2f}, "
        f"{found[best]:.2f} with {best:+.1f} mm along S"
    )


def nearby(
    shape: Sequence[int], affine: geometry.Affine, centre: NDArray[np.float64], reach: float
) -> tuple[tuple[slice, ...], geometry.Affine]:
    """The part of a grid within some mm of a point along each of its axes, and where it lies."""
    index = (np.linalg.inv(affine) @ [*centre, 1.0])[:3]
    away = reach / geometry.spacing(affine)
    low = np.clip(np.floor(index - away), 0, None).astype(int)
    high = np.minimum(np.ceil(index + away).astype(int), shape)
    placed = affine.copy()
    placed[:3, 3] = (affine @ [*low, 1.0])[:3]
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), placed


def total_variation(made: planes.Joint, centre: NDArray[np.float64]) -> Volume:
    """What total variation, the prior of UniRes, makes of the same stacks around the gland.

    Minimises ``sum_i |A_i x - y_i|^2 / 2 sigma_i^2 + lambda sum |grad x|`` by alternating directions of
    multipliers, ``lambda`` and step size as UniRes sets them (Brudfors et al. 2018, "MRI super-resolution
    using multi-channel total variation"). Operators, noise, motion, matched intensities and trust are ours.
    """
    grid, spacing = made.grid, SPACING
    near, affine = nearby(grid.shape, grid.affine, centre, AROUND)
    shape = tuple(part.stop - part.start for part in near)
    tissue = np.mean([float((s.y[s.y > -0.8] + 1).mean()) for s in made.stacks])
    weight = 32 * spacing**3 / tissue  # UniRes sums over voxels of 1 mm
    step = float(np.sqrt(np.mean([s.noise**-2 for s in made.stacks]))) / weight
    along = torch.tensor([0.0, 1, 1, 1]).reshape(4, 1, 1, 1) * (weight / spacing)
    slopes = Weighted(Sloped(), along * step**0.5)
    operators: list[LinearOperator[Tensor]] = [slopes]
    measured = []
    for stack in made.stacks:
        volume = stack.volume
        order = list(stack_order(volume))
        part, place = nearby(volume.shape, stack.motion @ volume.affine, centre, AROUND)
        thin = volume.with_array(volume.array[part], np.linalg.inv(stack.motion) @ place)
        part = tuple(part[axis] for axis in order)
        seen = slice_operator(shape, affine, thin, stack.motion)
        trust = stack.trust.expand(stack.y.shape)[part]
        trust = (trust * (seen(torch.ones(shape)) > 0.99)).sqrt() / stack.noise
        operators.append(Weighted(seen, trust))
        measured.append(trust * stack.y[part])
    joint = Stacked(operators)
    shares = [s.share.expand(grid.shape)[near] for s in made.stacks]
    own = [s.restored[near] for s in made.stacks]
    x = sum(o * w for o, w in zip(own, shares, strict=True)) / sum(shares)
    split = torch.zeros(3, *shape)
    dual = torch.zeros_like(split)
    for _ in range(ROUNDS):
        wanted = torch.cat([torch.zeros(1, *shape), split - dual]) * step**0.5
        x = conjugate_gradients(joint, (wanted, *measured), x, tolerance=1e-3, rounds=6)
        found = slopes(x)[1:] / step**0.5 + dual
        length = found.square().sum(0).sqrt()
        split = found * ((length - 1 / step).clamp(min=0) / length.clamp(min=1e-9))
        dual = found - split
    return grid.measured.with_array(((x + 1) * (grid.scale / 2) + grid.offset).numpy(), affine)


def patient_table(folder: Path, model: Model, hold: str, peer: bool) -> None:
    """Print two rows for each patient, the axial stack alone and with the one that is not held out, on
    request a third by total variation."""
    other = "sagittal" if hold == "coronal" else "coronal"
    header = None
    for patient in sorted(folder.iterdir()):
        files = [patient / f"t2w_{plane}.nii.gz" for plane in ("ax", "sag", "cor")]
        if not all(file.exists() for file in files):
            continue
        axial, sagittal, coronal = (read_volume(file) for file in files)
        held, added = (coronal, sagittal) if hold == "coronal" else (sagittal, coronal)
        began = time.perf_counter()
        made = joined([axial, added], model)
        seconds = time.perf_counter() - began
        centre, _ = planes.gland_centre([axial, held])
        zones = load_segmenter(Segmenting())(axial).labels
        gland = zones.with_array((zones.array > 0).astype(np.float32))
        rows = {"axial": made.lead.volume, f"axial and {other}": made.volume}
        if peer:
            rows[f"axial and {other}, total variation"] = total_variation(made, centre)
        for name, volume in rows.items():
            scores = agreement(held, volume, centre, gland)
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
        for stack in (coronal, sagittal):
            around = surroundings(stack, made.lead.volume, centre)
            print(f"<!-- {patient.name}: {around} -->", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("patients", type=Path, nargs="?")
    parser.add_argument("--model", default="partdiff-throughplane")
    parser.add_argument("--hold", choices=("coronal", "sagittal"), default="coronal")
    parser.add_argument("--total-variation", action="store_true", help="a row of it (minutes)")
    given = parser.parse_args()
    network = load_model(given.model)
    if given.patients is None:
        phantom_table(network)
    else:
        patient_table(given.patients, network, given.hold, given.total_variation)
