"""Paths of the latent's mean: where they start, where they end, and that they invert."""

from __future__ import annotations

import pytest
import torch

from mrisr.diffusion.path import AlignedPath, Path, PlainPath, diffuse, implied_high, mean
from mrisr.diffusion.schedule import INFERENCE, TRAINING
from tests.diffusion.images import images, scale

G = [float(g) for g in INFERENCE.noise_scales()]
PATHS: list[Path] = [PlainPath(G[50]), AlignedPath(G[50]), AlignedPath(G[25])]


@pytest.mark.parametrize("last", [25, 50, 75, 100])
def test_aligned_share_falls_linearly_in_time(last: int) -> None:
    """``lambda_t = (K - t) / K`` at the published levels."""
    path = AlignedPath(G[last])
    for t in range(last + 1):
        assert float(path.mixing(scale(G[t]))) == pytest.approx((last - t) / last, abs=1e-7)


def test_aligned_path_runs_from_low_to_high() -> None:
    high, low, _ = images()
    path = AlignedPath(0.25)
    torch.testing.assert_close(mean(path, high, low, scale(0.25)), low, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean(path, high, low, scale(1.0)), high, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean(path, high, low, scale(0.1)), low, rtol=0, atol=0)


def test_share_keeps_shape_and_dtype() -> None:
    g = torch.tensor([0.3, 0.9])[:, None, None, None]
    for path in PATHS:
        share = path.mixing(g)
        assert (share.shape, share.dtype) == (g.shape, torch.float32)


def test_the_clock_is_the_paths_own() -> None:
    """Another sampling or training schedule does not change the path; another clock does."""
    g = scale(0.6)
    share = float(AlignedPath(0.25).mixing(g))
    assert share == pytest.approx(1 - float(INFERENCE.time(g)) / float(INFERENCE.time(scale(0.25))))
    assert float(AlignedPath(0.25, TRAINING).mixing(g)) != pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("g", [0.8, 0.9, 0.999])
def test_implied_high_inverts_the_mean(path: Path, g: float) -> None:
    high, low, _ = images()
    back = implied_high(path, mean(path, high, low, scale(g)), low, scale(g))
    torch.testing.assert_close(back, high, rtol=0, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_diffuse_by_its_definition(path: Path) -> None:
    high, low, noise = images()
    g = torch.tensor([0.75, 1.0], dtype=torch.float64)[:, None, None, None]
    x = diffuse(path, high, low, g, noise)
    share = path.mixing(g)
    expected = g * (share * high + (1 - share) * low) + (1 - g**2).sqrt() * noise
    torch.testing.assert_close(x, expected)
    assert torch.equal(x[1], high[1])
