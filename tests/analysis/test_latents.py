"""Latent convergence, against closed forms: what two noisy images have in common is known exactly."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mrisr.analysis.latents import (
    BAND,
    BANDS,
    analyze_latents,
    band_power,
    latent_psnr,
    measure_latents,
    shares,
    smallest_k,
    suggest,
)
from mrisr.analysis.options import LatentSettings
from mrisr.analysis.scoring import read_slices
from mrisr.core.errors import UsageError
from mrisr.diffusion import INFERENCE

G = INFERENCE.noise_scales().numpy()


def test_psnr_between_latents_is_that_of_drawn_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    x_high, x_low, first, second = torch.randn(4, 256, 256, generator=generator).double()
    x_low = x_high + 0.2 * x_low
    square = (x_high - x_low).square().mean().numpy()[None]
    for g, same, independent in zip(G, *(p[0] for p in latent_psnr(square, G)), strict=True):
        sigma = np.sqrt(1 - g * g)
        high = g * x_high + sigma * first
        for noise, psnr, within in ((first, same, 1e-6), (second, independent, 0.05)):
            error = (high - g * x_low - sigma * noise).square().mean()
            assert psnr == pytest.approx(10 * np.log10(4 / float(error)), abs=within)


def test_white_noise_has_its_variance_in_every_band() -> None:
    noise = 0.3 * torch.randn(8, 1, 160, 120, generator=torch.Generator().manual_seed(2))
    for job in ("inplane", "throughplane"):
        power = band_power(noise, job)
        assert power.shape == (BANDS,)
        assert power.numpy() == pytest.approx(0.09, rel=0.15)


@pytest.mark.parametrize(("job", "dim", "band"), [
    ("inplane", -1, 10), ("inplane", -2, 10), ("throughplane", -2, 10), ("throughplane", -1, 0),
])  # fmt: skip
def test_a_wave_lies_in_its_band(job: str, dim: int, band: int) -> None:
    shape = [100, 100]
    along = torch.cos(2 * torch.pi * 0.21 * torch.arange(100.0))
    wave = along[:, None].expand(shape) if dim == -2 else along[None, :].expand(shape)
    power = band_power(wave[None, None], job)
    assert int(power.argmax()) == band == (int(0.21 / BAND) if band else 0)
    assert power[band] > 0.99 * power.sum()


def test_the_share_is_wieners() -> None:
    power = np.array([0.1, 1.0])
    found = shares(power, np.array([1.0, np.sqrt(0.5)]))
    assert found.tolist() == [[1.0, 1.0], pytest.approx([0.1 / 1.1, 0.5])]
    assert shares(np.zeros(1), np.array([1.0]))[0, 0] == 1.0


@pytest.mark.parametrize("k", [25, 50, 75])
def test_k_is_where_the_share_falls_to_the_threshold(k: int) -> None:
    signal = (1 - G[k] ** 2) / G[k] ** 2  # the noise's own power: a share of one half
    power = np.array([signal * 0.999, 0.2 * signal])
    assert smallest_k(power, G, 0.5) == k
    assert smallest_k(power * 1.01, G, 0.5) == k + 1
    assert smallest_k(power * 1e9, G, 0.5) == 100  # never: all of the noise


def test_a_larger_factor_needs_a_later_start(data: Path) -> None:
    found = []
    for factor in (1.5, 3.0, 6.0):
        slices = read_slices(data, "inplane", [], factor=factor, count=2)
        found.append(suggest(measure_latents(slices, "inplane", factor), 0.01))
    assert found[0].k < found[1].k < found[2].k
    for s in found:
        assert s.lowest <= s.k <= s.highest
        assert s.g == pytest.approx(float(G[s.k]))


def test_the_command_s_files(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = LatentSettings(job="inplane", factor=4.0, cases="unseen", slices=1)
    text = analyze_latents(data, out, settings)
    assert sorted(p.name for p in out.iterdir()) == [
        "latents.csv", "latents.json", "latents.md", "latents.png", "latents_picture.png",
    ]  # fmt: skip
    content = json.loads((out / "latents.json").read_text())
    assert content["patients"] == ["unseen"]
    assert "--job inplane --factor 4 --cases unseen" in content["command"]
    assert f"Suggested: K = {content['suggestion']['k']} " in text
    assert all(f"| {k} (published) |" in text for k in (25, 50, 75))
    rows = content["curve"]
    first, last = rows[0], rows[100]
    assert first["psnr_one_image_twice"] is None  # JSON has no infinity
    assert first["psnr_same_noise_low"] is None  # one patient has no interval
    assert first["psnr_same_noise"] == pytest.approx(first["psnr_independent_noise"], abs=1e-3)
    assert last["psnr_one_image_twice"] == pytest.approx(10 * np.log10(2), abs=1e-3)
    assert last["kl_per_slice"] == pytest.approx(last["kl_per_pixel"] * 64 * 60, rel=1e-4)
    with (out / "latents.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert float(table[50]["psnr_same_noise"]) == rows[50]["psnr_same_noise"]
    for name in ("latents.png", "latents_picture.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 1000


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_is_a_share(threshold: float) -> None:
    with pytest.raises(UsageError, match="threshold"):
        LatentSettings(job="inplane", factor=4.0, threshold=threshold)
