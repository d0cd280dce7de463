"""From a prepared cache to training pairs: what is drawn, what is degraded, and that it replays."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mrisr.config import DataSettings, Job, Kind
from mrisr.core.errors import InputError
from mrisr.core.statistics import scaling, seeded
from mrisr.data import cache, pairs
from mrisr.physics.noise import Colour
from mrisr.physics.separable import in_plane_operator, through_plane_operator


def make_stack(
    case: str = "a",
    plane: str = "axial",
    shape: tuple[int, int, int] = (4, 96, 80),
    spacing: tuple[float, float, float] = (3.0, 0.5, 0.5),
    seed: int = 0,
) -> cache.Stack:
    levels = np.random.default_rng(seed).integers(0, 6000, shape, dtype=np.int16)
    return cache.Stack(case, f"t2w_{plane}", plane, spacing, levels)


def write_cache(folder: Path, stacks: list[cache.Stack]) -> Path:
    cache.write_index(folder, [cache.write_stack(folder, s, i) for i, s in enumerate(stacks)])
    return folder


def settings(**changes: object) -> DataSettings:
    content: dict[str, object] = {
        "crop": 32,
        "margin": 8,
        "degradations": [{"kind": "bicubic", "factors": [2, 4]}],
    }
    return DataSettings.model_validate(content | changes)


def drawn(kind: Kind, factor: float, sigma: float = 0.0, thickness: float = 1.0) -> pairs.Drawn:
    return pairs.Drawn(kind, factor, thickness, sigma)


def smooth_image(size: tuple[int, int]) -> torch.Tensor:
    """A few waves in -1..1, ``(1, 1, h, w)``, with detail at every scale."""
    r, c = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    waves = [torch.sin(r / p + q * c / p) for p, q in ((2.1, 0.3), (5.0, -1.2), (17.0, 0.7))]
    return torch.stack(waves).mean(0)[None, None]


# --- cache ----------------------------------------------------------------------------------------


def test_cache_round_trip(tmp_path: Path) -> None:
    stacks = [make_stack(), make_stack("b", "coronal", (3, 20, 30), (4.0, 0.6, 0.7), 1)]
    folder = write_cache(tmp_path, stacks)
    for found, written in zip(cache.read_stacks(folder), stacks, strict=True):
        assert found[:4] == written[:4]
        np.testing.assert_array_equal(found.levels, written.levels)
    assert [s.case for s in cache.read_stacks(folder, ["coronal"])] == ["b"]


def test_levels_span_the_percentile_range_and_keep_what_is_above() -> None:
    values = np.random.default_rng(0).gamma(2.0, 200.0, (5, 40, 40)) - 50
    low, high = np.percentile(values, [0, 99.5])
    levels = cache.quantise(values)
    assert levels.dtype == np.int16
    assert levels.min() == 0
    assert levels.max() > cache.LEVELS
    np.testing.assert_allclose(
        levels / cache.LEVELS, (values - low) / (high - low), atol=0.6 / cache.LEVELS
    )


def test_extreme_volumes_do_not_wrap() -> None:
    """Nine times the percentile is more than 16 bits hold: clipped, never wrapped."""
    bright = np.tile(np.arange(100.0), (4, 16, 1))
    bright[0, 0, 0] = 900
    bright[0, 0, 1] = 0
    assert cache.quantise(bright).max() == np.iinfo(np.int16).max
    assert not cache.quantise(np.full((2, 4, 4), 7.0)).any()


def test_a_small_object_on_an_empty_background_is_scaled_by_itself() -> None:
    sparse = np.zeros((4, 32, 32))
    sparse[0, 0, :8] = [1, 2, 3, 4, 5, 6, 6, 6]
    low, span = scaling(sparse)
    assert (low, span) == pytest.approx((0, 6), abs=0.03)
    assert cache.quantise(sparse).max() >= cache.LEVELS


@pytest.mark.parametrize("value", [40000, -500, -32768])
def test_a_hot_or_cold_voxel_does_not_scale_the_others(value: int) -> None:
    values = np.random.default_rng(0).uniform(0, 700, (19, 64, 64))
    usual = scaling(values)
    values[3, 4, 5] = value
    assert scaling(values) == pytest.approx(usual, rel=1e-3, abs=0.2)
    values[3:5] = -500  # no few voxels any more
    assert scaling(values)[0] == -500


def test_broken_caches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.json"):
        cache.read_stacks(tmp_path)
    folder = write_cache(tmp_path, [make_stack()])
    np.savez_compressed(folder / "volumes" / "0000.npz", levels=np.zeros((1, 2, 3), np.int16))
    with pytest.raises(InputError, match=r"0000\.npz"):
        cache.read_stacks(folder)
    write_cache(tmp_path, [make_stack()])
    whole = (folder / "volumes" / "0000.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (whole[:-100], bytes(flipped), b"PK\x03\x04 cut short", b""):
        (folder / "volumes" / "0000.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"0000\.npz"):
            cache.read_stacks(folder)
    (folder / "index.json").write_text(json.dumps({"format": 99, "series": []}))
    with pytest.raises(InputError, match="99"):
        cache.read_stacks(folder)


# --- crops ----------------------------------------------------------------------------------------


def test_same_seed_same_crops() -> None:
    crops = pairs.Crops([make_stack()], settings(), "inplane")
    first, again, other = (crops.draw(6, seeded("cpu", 1, step)) for step in (0, 0, 1))
    assert (first.shape, first.dtype) == ((6, 1, 48, 48), torch.int16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_generators_depend_on_every_number() -> None:
    numbers = [(a, b, c) for a in (0, 1, 7) for b in (0, 1, 250) for c in (1, 2)]
    first = {n: float(torch.rand(1, generator=seeded("cpu", *n))) for n in numbers}
    assert len(set(first.values())) == len(numbers)


def test_crops_are_pieces_of_slices() -> None:
    """Flipped or transposed, every crop lies somewhere in the stack."""
    levels = np.arange(2 * 60 * 70, dtype=np.int16).reshape(2, 60, 70)
    stack = make_stack()._replace(levels=levels)
    crops = pairs.Crops([stack], settings(), "inplane").draw(40, seeded("cpu", 0))
    steps = set()
    for crop in crops[:, 0].int():
        steps.add((int(crop[0, 1] - crop[0, 0]), int(crop[1, 0] - crop[0, 0])))
        corner = int(crop.min())
        k, r, c = np.unravel_index(corner, levels.shape)
        piece = np.sort(levels[k, r : r + 48, c : c + 48], axis=None)
        np.testing.assert_array_equal(np.sort(crop.numpy(), axis=None), piece)
    assert steps == {
        (a * x, b * y) for x, y in ((1, 70), (70, 1)) for a in (1, -1) for b in (1, -1)
    }


def test_coronal_slices_are_not_transposed_unless_asked_for() -> None:
    levels = np.arange(60 * 70, dtype=np.int16).reshape(1, 60, 70)
    stack = make_stack(plane="coronal")._replace(levels=levels)
    planes = {"planes": {"coronal": 1.0}}
    crops = pairs.Crops([stack], settings(**planes), "throughplane")
    drawn_crops = crops.draw(30, seeded("cpu", 0))[:, 0].int()
    assert {abs(int(c[0, 1] - c[0, 0])) for c in drawn_crops} == {1}


def test_planes_are_drawn_by_weight() -> None:
    """Whatever the number of slices; planes without a weight are not drawn."""
    stacks = [
        make_stack(plane="axial", shape=(30, 48, 48))._replace(
            levels=np.full((30, 48, 48), 1, "i2")
        ),
        make_stack(plane="coronal")._replace(levels=np.full((2, 48, 48), 2, "i2")),
        make_stack(plane="sagittal")._replace(levels=np.full((9, 48, 48), 3, "i2")),
    ]
    chosen = settings(planes={"axial": 1.0, "coronal": 3.0})
    crops = pairs.Crops(stacks, chosen, "inplane").draw(2000, seeded("cpu", 0))
    values, counts = crops[:, 0, 0, 0].unique(return_counts=True)
    assert values.tolist() == [1, 2]
    assert float(counts[1] / counts.sum()) == pytest.approx(0.75, abs=0.04)


def test_split_is_by_patient() -> None:
    stacks = [
        make_stack(case, plane) for case in "abcd" for plane in ("axial", "coronal", "sagittal")
    ]
    training, held_out = pairs.split(stacks, settings(validation=["b"], exclude=["c"]))
    assert {s.case for s in training} == {"a", "d"}
    assert {s.case for s in held_out} == {"b"}
    assert (len(training), len(held_out)) == (6, 3)


@pytest.mark.parametrize("pixel", [0.4, 1.0])
def test_stacks_on_other_pixels(pixel: float) -> None:
    stack = make_stack(spacing=(3.0, 0.6, 0.5))
    stack.levels[0, :, 40:] = 0  # an edge, at which the interpolation overshoots
    found = pairs.on_pixels(stack, pixel)
    assert found.spacing == (3.0, pixel, pixel)
    assert found.levels.dtype == np.int16
    assert found.levels.shape == (4, round(96 * 0.6 / pixel), round(80 * 0.5 / pixel))
    assert found.levels.min() == 0
    assert pairs.on_pixels(stack, None) is stack


# --- degradation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0, 4.0, 6.0])
@pytest.mark.parametrize(("job", "kind"), [("inplane", "bicubic"), ("throughplane", "gaussian")])
def test_pairs_are_the_operators(job: Job, kind: Kind, factor: float) -> None:
    x = smooth_image((48, 48))
    y, operator = pairs.measure(x, job, drawn(kind, factor, thickness=1.2))
    size = round(48 / factor)
    if job == "inplane":
        op = in_plane_operator((size, size), (48, 48), factor, kind)
    else:
        op = through_plane_operator(size, 48, factor, kind=kind, thickness=1.2)
    assert operator.axes == op.axes
    assert torch.equal(y, op(x))


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_the_margin_hides_the_border(factor: float) -> None:
    """A pair from a crop equals the same place of a whole degraded image."""
    whole = smooth_image((192, 192))
    y, operator = pairs.measure(whole, "inplane", drawn("bicubic", factor))
    low = operator.interpolate(y)
    crop = ((whole[..., 64:128, 64:128] + 1) / 2 * cache.LEVELS).round().short()
    pair = pairs.make_pairs(crop, [drawn("bicubic", factor)], "inplane", 16)
    inner = (..., slice(80, 112), slice(80, 112))
    torch.testing.assert_close(pair.x_high, whole[inner], rtol=0, atol=1e-3)
    torch.testing.assert_close(pair.x_low, low[inner], rtol=0, atol=1e-3)
    (group,) = pair.measured
    again = group.operator.interpolate(group.y)[..., 16:-16, 16:-16]
    assert torch.equal(again, pair.x_low)


def test_a_batch_is_shared_out_among_the_draws() -> None:
    crops = (torch.rand(6, 1, 48, 48, generator=seeded("cpu", 0)) * cache.LEVELS).short()
    draws = [drawn("bicubic", 2.0), drawn("kspace", 4.0), drawn("bicubic", 3.0, sigma=1.0)]
    pair = pairs.make_pairs(crops, draws, "inplane", 8)
    assert pair.x_high.shape == pair.x_low.shape == (6, 1, 32, 32)
    assert (2 ** pair.condition[:, 0]).tolist() == pytest.approx([2, 2, 4, 4, 3, 3])
    alone = pairs.make_pairs(crops[2:4], draws[1:2], "inplane", 8)
    assert torch.equal(alone.x_low, pair.x_low[2:4])
    assert float(pair.x_high.min()) >= -1
    assert float(pair.x_high.max()) <= 1


def test_draws_follow_the_settings_and_replay() -> None:
    chosen = settings(
        degradations=[
            {"kind": "bicubic", "factors": [2, 4], "weight": 3},
            {"kind": "kspace", "range": [1.5, 8.0], "weight": 1},
        ],
        blur_probability=0.25,
    )
    generator = seeded("cpu", 0)
    found = [pairs.draw_degradation(chosen, 2, generator) for _ in range(3000)]
    again = pairs.draw_degradation(chosen, 2, seeded("cpu", 0))
    assert found[0] == again
    exact = [d.factor for d in found if d.kind == "bicubic"]
    free = np.array([d.factor for d in found if d.kind == "kspace"])
    assert len(exact) / len(found) == pytest.approx(0.75, abs=0.03)
    assert exact.count(2) / len(exact) == pytest.approx(0.5, abs=0.04)
    assert set(exact) == {2, 4}
    assert (free.min() >= 1.5, free.max() <= 8) == (True, True)
    assert np.median(free) == pytest.approx(np.sqrt(1.5 * 8), abs=0.25)
    sigma = np.array([d.blur_sigma for d in found])
    assert (sigma > 0).mean() == pytest.approx(0.25, abs=0.03)
    assert sigma[sigma > 0].mean() == pytest.approx(0.75, abs=0.05)


def test_noise_is_drawn_for_each_crop_and_told_to_the_network() -> None:
    chosen = settings(noise=0.08, noise_free=0.25, coloured=0.5, bandwidth=(0.6, 0.9))
    generator = seeded("cpu", 0)
    draws = [pairs.draw_degradation(chosen, 4, generator) for _ in range(500)]
    levels = np.array([d.noise for d in draws])
    assert levels.shape == (500, 4)
    assert (levels == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert 0.07 < levels.max() <= 0.08
    assert np.median(levels[levels > 0]) == pytest.approx(0.02, abs=0.003)
    coloured = [d.colour for d in draws if d.colour != Colour()]
    assert len(coloured) / len(draws) == pytest.approx(0.5, abs=0.06)
    assert all(0.6 <= share <= 0.9 for c in coloured for share in c[:2])
    assert {c.elliptic for c in coloured} == {True, False}

    crops = (torch.rand(2, 1, 48, 48, generator=seeded("cpu", 0)) * cache.LEVELS).short()
    quiet = drawn("bicubic", 2.0)._replace(noise=(0.0, 0.02))
    pair, again = (pairs.make_pairs(crops, [quiet], "inplane", 8, seeded("cpu", 3)) for _ in "ab")
    clean = pairs.make_pairs(crops, [drawn("bicubic", 2.0)], "inplane", 8)
    assert torch.equal(pair.x_low, again.x_low)
    assert torch.equal(pair.x_low[0], clean.x_low[0])
    assert not torch.equal(pair.x_low[1], clean.x_low[1])
    assert torch.equal(pair.x_high, clean.x_high)
    assert torch.equal(pair.condition[:, :-1], clean.condition)
    assert pair.condition[:, -1].tolist() == [0, 0.5]


@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_at_factor_1_only_the_noise_is_to_be_found(job: Job) -> None:
    x = smooth_image((48, 48))
    y, operator = pairs.measure(x, job, drawn("bicubic", 1.0))
    torch.testing.assert_close(y, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(operator.interpolate(y), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_blur_is_as_wide_as_it_says(sigma: float) -> None:
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[..., 15, 15] = 1
    found = pairs.blurred(point, sigma)
    index = torch.arange(31, dtype=torch.float64) - 15
    variance = float((found.sum(-1)[0, 0] * index**2).sum())
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
    assert variance == pytest.approx(sigma**2 + 1 / 12, rel=0.03)


def test_validation_images_are_centred_scaled_and_clipped() -> None:
    stack = make_stack(shape=(3, 50, 40))
    coronal = make_stack(plane="coronal")
    ((found, images),) = pairs.validation_images([stack, coronal], ["axial"], crop=44)
    assert found.case == "a"
    assert images.shape == (3, 1, 44, 40)
    expected = np.clip(stack.levels[:, 3:47] / cache.LEVELS, 0, 1) * 2 - 1
    np.testing.assert_allclose(images[:, 0], expected, atol=1e-6)
