"""Batches through a model: steps, shared noise, tiles, and what is absorbed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mrisr import engine as engines
from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.engine import Engine, ramp, tile_starts
from mrisr.models.store import load_model
from mrisr.networks import resolve_device, resolve_precision
from mrisr.physics.separable import in_plane_operator
from mrisr.restore import resolved

#: What tiles may change: RMS and maximum as a share of the intensity range.
TILE_RMS, TILE_MAX = 1e-3, 1e-2


def engine(name: str = "partdiff-inplane", **options: Any) -> Engine:
    options = {"device": "cpu", "precision": "fp32"} | options
    model = load_model(name)
    return Engine(model, resolved(Sampling(**options), model))


def waves(n: int, rows: int, columns: int) -> Tensor:
    """Smooth random images ``(n, rows, columns)`` in -1..1."""
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(n, 1, rows + 8, columns + 8, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 9, stride=1)[:, 0]
    return smooth / smooth.abs().max()


def differs(a: Tensor, b: Tensor) -> tuple[float, float]:
    """RMS and maximum of the difference as a share of the range (2)."""
    d = (a - b) / 2
    return float(d.square().mean().sqrt()), float(d.abs().max())


OPERATOR = in_plane_operator((24, 30), (48, 60), 2.0)


# --- what comes out -------------------------------------------------------------------------------


def test_a_network_that_adds_nothing_gives_the_interpolation(models: Path) -> None:
    y = waves(2, 24, 30)[:, None]
    for steps in (1, 4):
        x = engine("zero-inplane", steps=steps).restore(y, OPERATOR)
        assert x.dtype == torch.float32
        torch.testing.assert_close(x, OPERATOR.interpolate(y), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"steps": 4}, {"steps": 3, "eta": 1.0}])
def test_same_seed_same_bits(models: Path, options: dict[str, Any]) -> None:
    y = waves(3, 24, 30)[:, None]
    first, again, other = (engine(seed=seed, **options).restore(y, OPERATOR) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_slices_share_their_noise(models: Path) -> None:
    """Equal slices come out equal, whatever batch they are in."""
    y = waves(1, 24, 30)[:, None].expand(3, -1, -1, -1)
    e = engine(steps=4, eta=1.0)
    x = e.restore(y, OPERATOR)
    torch.testing.assert_close(x, x[:1].expand_as(x), rtol=0, atol=1e-5)
    assert e.noise((48, 60), 0).shape == (1, 1, 48, 60)
    assert not torch.equal(e.noise((48, 60), 0), e.noise((48, 60), 1))


def test_the_callers_model_stays_as_it_was(models: Path) -> None:
    model = load_model("partdiff-inplane")
    strides = [p.stride() for p in model.restorer.parameters()]
    e = Engine(model, resolved(Sampling(device="cpu"), model))
    assert e.restorer is not model.restorer
    assert [p.stride() for p in model.restorer.parameters()] == strides


def test_batches_make_no_difference(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = waves(5, 24, 30)[:, None]
    seen: list[int] = []
    whole = engine(steps=2).restore_all(images, OPERATOR)
    monkeypatch.setitem(engines.BATCH_PIXELS, "cpu", 2 * 48 * 60)
    parts = engine(steps=2).restore_all(images, OPERATOR, progress=seen.append)
    assert seen == [2, 4, 5]
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:x", "", "cuda:99"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="device"):
        resolve_device(name)


def test_a_precision_that_is_asked_for_is_taken() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == torch.float32
    assert resolve_precision("bf16", cpu) == torch.bfloat16


def test_an_image_larger_than_a_batch_is_one(models: Path) -> None:
    assert engine().batch_size((10_000, 10_000)) == 1


# --- tiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [128, 136, 192, 250])
@pytest.mark.parametrize("size", [100, 128, 129, 200, 256, 301, 512, 1000])
def test_tiles_cover_the_image(size: int, tile: int) -> None:
    starts = tile_starts(size, tile)
    assert all(s % 8 == 0 for s in starts)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] + tile >= size
    weight = torch.zeros(size)
    for start in starts:
        n = min(start + tile, size) - start
        assert n > 0
        share = ramp(n, start, size)
        assert float(share.min()) > 0
        assert float(share.max()) <= 1
        weight[start : start + n] += share
    assert float(weight.min()) > 0.5


def test_the_ramp_is_flat_at_the_images_border() -> None:
    assert torch.equal(ramp(100, 0, 100), torch.ones(100))
    share = ramp(200, 64, 500)
    assert share[0] == share[-1] == 0.5 / engines.OVERLAP
    assert torch.equal(share[64:136], torch.ones(72))


@pytest.mark.parametrize("options", [{}, {"steps": 3}, {"steps": 3, "eta": 1.0}])
def test_tiles_give_the_whole_image(models: Path, options: dict[str, Any]) -> None:
    operator = in_plane_operator((80, 66), (320, 264), 4.0)
    y = waves(1, 80, 66)[:, None]
    whole = engine(**options).restore(y, operator)
    tiled = engine(tile=128, **options).restore(y, operator)
    rms, largest = differs(whole, tiled)
    assert 0 < largest < TILE_MAX
    assert rms < TILE_RMS


def test_tiles_as_large_as_the_image_change_no_bit(models: Path) -> None:
    y = waves(1, 24, 30)[:, None]
    assert torch.equal(engine().restore(y, OPERATOR), engine(tile=128).restore(y, OPERATOR))


# --- what is absorbed -----------------------------------------------------------------------------


def limited(e: Engine, pixels: int, error: Exception) -> list[tuple[int, int]]:
    """Make the network fail on more than ``pixels``; returns the sizes it is then asked for."""
    asked: list[tuple[int, int]] = []
    forward = e.restorer.denoiser.forward

    def evaluate(x: Tensor, *more: Tensor) -> Tensor:
        asked.append((x.shape[-2], x.shape[-1]))
        if x.shape[-2] * x.shape[-1] > pixels:
            raise error
        return forward(x, *more)

    e.restorer.denoiser.forward = evaluate  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_tile(models: Path, error: Exception) -> None:
    operator = in_plane_operator((140, 150), (280, 300), 2.0)
    y = waves(1, 140, 150)[:, None]
    whole = engine().restore(y, operator)
    e = engine()
    asked = limited(e, 150 * 150, error)
    rms, _ = differs(whole, e.restore(y, operator))
    assert rms < TILE_RMS
    assert e.tile == 150
    assert e.notes == ["out of memory: tile reduced to 150"]
    assert asked[0] == (280, 300)
    assert max(asked[1:]) <= (150, 150)


def test_out_of_memory_at_the_smallest_tile_is_said(models: Path) -> None:
    e = engine()
    limited(e, 1, torch.OutOfMemoryError("no room"))
    with pytest.raises(UsageError, match="out of memory"):
        e.restore(waves(1, 24, 30)[:, None], OPERATOR)


def test_other_failures_are_not_absorbed(models: Path) -> None:
    e = engine()
    limited(e, 1, RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        e.restore(waves(1, 24, 30)[:, None], OPERATOR)
    assert e.notes == []


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_overflow_in_bf16_is_computed_again(models: Path, value: float) -> None:
    y = waves(2, 24, 30)[:, None]
    expected = engine(precision="fp32").restore(y, OPERATOR)
    e = engine(precision="bf16")
    forward = e.restorer.denoiser.forward

    def evaluate(*arguments: Tensor) -> Tensor:
        out = forward(*arguments)
        if torch.is_autocast_enabled("cpu"):
            out[..., 3, 3] = value
        return out

    e.restorer.denoiser.forward = evaluate  # type: ignore[method-assign]
    assert torch.equal(e.restore(y, OPERATOR), expected)
    assert e.notes == ["numbers overflowed in bf16; computed again in fp32"]


def test_bf16_is_as_good(models: Path) -> None:
    y = waves(2, 24, 30)[:, None]
    rms, largest = differs(
        engine(precision="bf16", steps=2).restore(y, OPERATOR),
        engine(precision="fp32", steps=2).restore(y, OPERATOR),
    )
    assert rms < 2e-3
    assert largest < 2e-2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_out_of_memory_on_the_device_continues_on_the_cpu(models: Path) -> None:
    y = waves(1, 24, 30)[:, None]
    e = engine(device="cuda")
    forward = e.restorer.denoiser.forward

    def evaluate(x: Tensor, *more: Tensor) -> Tensor:
        if x.device.type == "cuda":
            raise torch.OutOfMemoryError("no room")
        return forward(x, *more)

    e.restorer.denoiser.forward = evaluate  # type: ignore[method-assign]
    x = e.restore(y, OPERATOR)
    assert e.device.type == "cpu"
    assert "continued on the CPU" in e.notes[-1]
    torch.testing.assert_close(x, engine().restore(y, OPERATOR), rtol=0, atol=1e-4)


# --- the released model ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"steps": 2, "eta": 1.0}])
def test_tiles_of_the_released_model(options: dict[str, Any]) -> None:
    """Its neighbourhood is wider than the overlap, and yet a tile's border leaves no trace."""
    operator = in_plane_operator((72, 64), (288, 256), 4.0)
    y = waves(1, 72, 64)[:, None]
    whole = engine(**options).restore(y, operator)
    tiled = engine(tile=128, **options).restore(y, operator)
    rms, largest = differs(whole, tiled)
    assert 0 < largest < TILE_MAX
    assert rms < TILE_RMS
