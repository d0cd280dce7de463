"""Metrics against closed forms and against each other; LPIPS with weights made up on the disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torch import Tensor

from mrisr.core.errors import InputError
from mrisr.metrics import Lpips, band_correlation, load_lpips, psnr, spectrum_error, ssim, texture


def images(n: int = 2, size: int = 48) -> Tensor:
    values = np.random.default_rng(0).random((n, 1, size, size))
    return torch.from_numpy(gaussian_filter(values, (0, 0, 1, 1))).float()


def test_psnr_is_per_image() -> None:
    x = images() * 0.5
    y = x.clone()
    y[0] += 0.1
    y[1] += 0.01
    torch.testing.assert_close(psnr(y, x), torch.tensor([20.0, 40.0]), rtol=0, atol=1e-3)
    assert psnr(y, x).shape == (2,)


def reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004: Gaussian window of 11 voxels and sigma 1.5, range 1, no padding."""

    def smooth(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    mx, my = smooth(x), smooth(y)
    vx, vy, cov = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(value.mean())


def test_ssim_is_the_published_one() -> None:
    x = images()
    y = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    expected = [
        reference_ssim(a[0].double().numpy(), b[0].double().numpy())
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ssim(y, x).numpy(), expected, atol=1e-3)
    torch.testing.assert_close(ssim(x, x), torch.ones(2))


def wave(cycles: int, dim: int, size: int = 64) -> Tensor:
    phase = torch.cos(2 * torch.pi * cycles * torch.arange(size) / size)
    return (phase[:, None] if dim == -2 else phase[None, :]).expand(size, size)[None, None]


@pytest.mark.parametrize("dim", [-2, -1])
def test_texture_counts_what_the_coarse_grid_cannot_hold(dim: int) -> None:
    """At factor 4, 64 pixels keep up to 8 cycles. Through-plane, only the degraded axis counts."""
    reference = wave(4, dim) + wave(20, dim)
    both, neither = reference, wave(4, dim)
    assert float(texture(both, reference, (4, 4))) == pytest.approx(0, abs=1e-3)
    assert float(texture(neither, reference, (4, 4))) < -60
    halved = texture(reference * 0.5, reference, (4, 4))
    assert float(halved) == pytest.approx(-6.0206, abs=1e-3)
    rows_only = float(texture(wave(20, dim), wave(20, dim) + wave(24, -2), (4, 1)))
    assert (rows_only < -2) if dim == -2 else (rows_only < -60)


# --- spectrum error ---------------------------------------------------------------------------------


def noise(n: int = 2, size: tuple[int, int] = (64, 64), seed: int = 2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, 1, *size))).float()


@pytest.mark.parametrize("dims", [(-2, -1), (-2,), (-1,)])
@pytest.mark.parametrize("size", [(64, 64), (50, 71)])
def test_spectrum_error_of_half_the_amplitude_is_6_db(
    dims: tuple[int, ...], size: tuple[int, int]
) -> None:
    x = noise(size=size)
    torch.testing.assert_close(spectrum_error(x, x, dims), torch.zeros(2))
    for other in (x * 0.5, x * 2):  # too little and too much are the same
        found = spectrum_error(other, x, dims)
        torch.testing.assert_close(found, torch.full((2,), 6.0206), rtol=0, atol=0.02)


def test_spectrum_error_grows_with_blur_and_does_not_ask_where_texture_lies() -> None:
    x = noise()
    blurred = [
        torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, s, s))).float() for s in (0.5, 1.0, 2.0)
    ]
    errors = [float(spectrum_error(b, x).mean()) for b in blurred]
    assert 1 < errors[0] < errors[1] < errors[2]
    elsewhere = noise(seed=9)
    assert float(spectrum_error(elsewhere, x).mean()) < 1.5
    assert float(psnr(elsewhere, x).mean()) < float(psnr(blurred[2], x).mean())


@pytest.mark.parametrize(("dim", "other"), [(-2, -1), (-1, -2)])
def test_spectrum_error_of_one_axis_looks_along_it_only(dim: int, other: int) -> None:
    x = noise(1, (96, 96))
    blurred = torch.from_numpy(gaussian_filter(x.numpy(), 1.5, axes=(dim,)))
    along, across = (float(spectrum_error(blurred, x, (d,))) for d in (dim, other))
    assert along > 15
    assert along > 2 * across


def test_bands_in_which_nothing_is_seen_do_not_count() -> None:
    smooth = torch.from_numpy(gaussian_filter(noise().numpy(), (0, 0, 3, 3))).float()
    unseen = smooth + 1e-4 * (noise(seed=4) - 0.5)  # far below half a grey level of 255
    assert float(spectrum_error(unseen, smooth).max()) < 0.05
    seen = smooth + 0.05 * (noise(seed=4) - 0.5)
    assert float(spectrum_error(seen, smooth).min()) > 3


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, own in Lpips().state_dict().items():
        made[name] = torch.randn(own.shape, generator=generator) * 0.05
        if name.startswith("lin"):
            made[name] = made[name].abs()
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = weights()
    torch.save({k: v for k, v in made.items() if k[0] == "f"}, tmp_path / "alexnet.pth")
    save_file({k: v for k, v in made.items() if k[0] == "l"}, tmp_path / "linear.safetensors")
    monkeypatch.setenv("MRISR_LPIPS", str(tmp_path))
    return tmp_path


def test_none_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MRISR_LPIPS", raising=False)
    assert load_lpips() is None
    monkeypatch.setenv("MRISR_LPIPS", str(tmp_path))
    with pytest.raises(InputError, match=r"features\.0\.weight.*none"):
        load_lpips()


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / "alexnet.pth").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"alexnet\.pth"):
        load_lpips()


def test_a_distance(folder: Path) -> None:
    lpips = load_lpips()
    assert lpips is not None
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(3, 1, 64, 64, generator=generator)
    near = (x + 0.02 * torch.rand_like(x)).clamp(0, 1)
    far = torch.rand(x.shape, generator=generator)
    torch.testing.assert_close(lpips(x, x), torch.zeros(3))
    assert bool((lpips(near, x) < lpips(far, x)).all())
    torch.testing.assert_close(lpips(far, x), lpips(x, far))
    one = torch.cat([lpips(far[k : k + 1], x[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(lpips(far, x), one)


def test_it_is_linear_in_the_last_layers_and_knows_its_files(folder: Path) -> None:
    x = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(2))
    lpips = load_lpips()
    assert lpips is not None
    before = lpips(x, 1 - x)
    doubled = {k: 2 * v for k, v in weights().items() if k[0] == "l"}
    save_file(doubled, folder / "linear.safetensors")
    again = load_lpips()
    assert again is not None
    torch.testing.assert_close(again(x, 1 - x), 2 * before)
    assert again.digest != lpips.digest


def test_band_correlation_tells_which_frequencies_two_images_share() -> None:
    generator = torch.Generator().manual_seed(0)
    shared, own, other = torch.randn(3, 2, 1, 96, 80, generator=generator)
    low = torch.nn.functional.avg_pool2d(shared, 5, 1, 2)
    a, b = low + 0.5 * own, low + 0.5 * other
    found = [band_correlation(a, b, band, (0.5, 0.5)) for band in ((0.0, 0.1), (0.7, 1.0))]
    assert found[0].shape == (2,)
    assert float(found[0].min()) > 0.6
    assert float(found[1].abs().max()) < 0.3
    rows = band_correlation(a, -3 * a + 1, (0.1, 0.3), (0.5, 2.0), dims=(-2,))
    torch.testing.assert_close(rows, -torch.ones(2), rtol=0, atol=1e-3)
