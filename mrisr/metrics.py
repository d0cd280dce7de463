"""Image metrics on intensities scaled to 0..1: PSNR and SSIM (MONAI's), two measures in the spectrum, and
LPIPS (Zhang et al. 2018, version 0.1 on AlexNet), where its weights lie on the disk.
"""

import hashlib
import os
from pathlib import Path

import torch
from monai.metrics.regression import PSNRMetric, SSIMMetric
from safetensors.torch import load_file
from torch import Tensor, nn

from mrisr.core.errors import InputError

#: Bands of :func:`spectrum_error` from 0 to the Nyquist frequency.
BANDS = 32
#: Amplitude that :func:`spectrum_error` takes for nothing: half a grey level of an 8-bit display.
INVISIBLE = 0.5 / 255
#: Folder with the weights: AlexNet's features (torchvision's names) and the five linear layers of LPIPS.
FOLDER_VARIABLE = "MRISR_LPIPS"
#: AlexNet's convolutions: input and output channels, kernel, stride, padding.
_CONVOLUTIONS = (
    (3, 64, 11, 4, 2),
    (64, 192, 5, 1, 2),
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
)
#: How LPIPS scales colours on -1..1 to what AlexNet was trained on.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


def psnr(result: Tensor, reference: Tensor) -> Tensor:
    """PSNR in dB per image, ``(b, 1, h, w)`` twice to ``(b,)``; data range 1."""
    return torch.as_tensor(PSNRMetric(max_val=1.0)(result, reference)).flatten()


def ssim(result: Tensor, reference: Tensor) -> Tensor:
    """SSIM per image (Gaussian window 11, sigma 1.5; Wang et al. 2004), shapes as :func:`psnr`."""
    metric = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=11, kernel_sigma=1.5)
    return torch.as_tensor(metric(result, reference)).flatten()


def texture(result: Tensor, reference: Tensor, factors: tuple[float, float]) -> Tensor:
    """Power above the low-resolution band against the reference's, in dB, per image ``(b,)``.

    0 dB is as much fine texture as the reference has; blur is negative. The band is what a grid
    coarser by ``factors`` (rows, columns) cannot hold.
    """
    fy, fx = _frequencies(result)
    above = (fy > 0.5 / factors[0]) | (fx > 0.5 / factors[1])
    powers = [(_power(x) * above).sum((-2, -1))[:, 0] for x in (result, reference)]
    return 10 * torch.log10(powers[0] / powers[1])


def spectrum_error(result: Tensor, reference: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Distance of two power spectra in dB per image: ``(b, 1, h, w)`` twice to ``(b,)``, 0 for equal ones.

    The root mean square, over 32 bands of equal width from 0 to the Nyquist frequency, of the difference
    of the bands' mean power in decibel. Blur and invented texture count alike, by how far the power
    is off, wherever the structures lie; PSNR and SSIM tell that. Bands are rings with ``dims=(-2, -1)``; with
    ``dims=(-2,)`` bands of frequency along the rows' axis, for images that are degraded along it alone. To
    both powers that of white noise of half an 8-bit grey level is added, so that bands in which
    neither image shows anything do not count.
    """
    fy, fx = _frequencies(result)
    squares = (f.square() for d, f in ((-2, fy), (-1, fx)) if d in dims)
    radius = sum(squares, torch.zeros_like(fy * fx)).sqrt()
    band = (radius * (2 * BANDS)).long().flatten()
    h, w = result.shape[-2:]
    window = _window(result).square().sum()
    count = torch.bincount(band, minlength=BANDS)[:BANDS].to(result)
    densities = []
    for image in (result, reference):
        power = _power(image).reshape(len(image), h * w)
        total = power.new_zeros(len(image), max(BANDS, int(band.max()) + 1))
        total.index_add_(1, band, power)
        densities.append(total[:, :BANDS] / count.clamp(min=1) + INVISIBLE**2 * window)
    difference = 10 * torch.log10(densities[0] / densities[1])
    return (difference.square() * (count > 0)).sum(1).div((count > 0).sum()).sqrt()


def band_correlation(
    result: Tensor,
    reference: Tensor,
    band: tuple[float, float],
    pixel_mm: tuple[float, float],
    dims: tuple[int, ...] = (-2, -1),
) -> Tensor:
    """Correlation of two images in a band of frequency, per image: ``(b, 1, h, w)`` twice to ``(b,)``.

    The Fourier ring correlation (Saxton and Baumeister 1982) within one wide ring; with ``dims=(-2,)`` within
    a band along the rows' axis. Between a result and another scan, whose noise is independent, what
    correlates was there.

    Args:
        band: cycles per mm, lower and upper end.
        pixel_mm: of rows and columns.
    """
    fy, fx = (f / mm for f, mm in zip(_frequencies(result), pixel_mm, strict=True))
    squares = [f.square() for d, f in ((-2, fy), (-1, fx)) if d in dims]
    radius = sum(squares, torch.zeros_like(fy * fx)).sqrt()
    inside = (radius >= band[0]) & (radius < band[1])
    a, b = (torch.fft.fft2(x * _window(x)) * inside for x in (result, reference))
    powers: Tensor = (a.abs().square().sum((-2, -1)) * b.abs().square().sum((-2, -1))).sqrt()
    shared: Tensor = (a * b.conj()).real.sum((-2, -1))
    return (shared / powers.clamp(min=1e-12))[:, 0]


def ring_correlation(result: Tensor, reference: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Fourier ring correlation of images (Saxton and Baumeister 1982): ``(b, 1, h, w)`` twice to
    ``(b, rings)``.

    Ring ``k`` holds the frequencies nearest to ``k`` cycles per shorter edge, up to the Nyquist frequency;
    with ``dims=(-2,)`` bands along the rows' axis, ``k`` cycles per ``h``. Means are taken off first.
    """
    fy, fx = _frequencies(result)
    edge = min(result.shape[-2:]) if -1 in dims else result.shape[-2]
    squares = [f.square() for d, f in ((-2, fy), (-1, fx)) if d in dims]
    ring = (sum(squares, torch.zeros_like(fy * fx)).sqrt() * edge).round().long().flatten()
    a, b = (
        torch.fft.fft2((x - x.mean((-2, -1), keepdim=True)) * _window(x)).flatten(1)
        for x in (result, reference)
    )
    sums = [
        part.new_zeros(len(part), int(ring.max()) + 1).index_add_(1, ring, part)
        for part in ((a * b.conj()).real, a.abs().square(), b.abs().square())
    ]
    found: Tensor = sums[0] / (sums[1] * sums[2]).sqrt().clamp(min=1e-12)
    return found[:, : edge // 2 + 1]


def _frequencies(image: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute frequencies of rows and of columns in cycles per pixel: ``(h, 1)`` and ``(1, w)``."""
    h, w = image.shape[-2:]
    fy, fx = (torch.fft.fftfreq(n, device=image.device).abs() for n in (h, w))
    return fy[:, None], fx[None, :]


def _window(image: Tensor) -> Tensor:
    """Hann's window ``(h, w)``, which keeps the edges of the image out of its spectrum."""
    h, w = image.shape[-2:]
    return (torch.hann_window(h)[:, None] * torch.hann_window(w)[None, :]).to(image)


def _power(image: Tensor) -> Tensor:
    """Power of each frequency of the windowed images, of their shape."""
    spectrum: Tensor = torch.fft.fft2(image * _window(image))
    return spectrum.abs().square()


class Lpips(nn.Module):
    """The distance LPIPS; ``digest`` is the SHA-256 of the files of its weights."""

    def __init__(self, digest: str = "") -> None:
        super().__init__()
        self.digest = digest
        self.features = nn.Sequential()
        for k, (inputs, outputs, kernel, stride, padding) in enumerate(_CONVOLUTIONS):
            self.features.extend([nn.MaxPool2d(3, 2)] if k in (1, 2) else [])
            self.features.append(nn.Conv2d(inputs, outputs, kernel, stride, padding))
            self.features.append(nn.ReLU())
            weigh = nn.Sequential(nn.Dropout(), nn.Conv2d(outputs, 1, 1, bias=False))
            self.add_module(f"lin{k}", nn.ModuleDict({"model": weigh}))

    @torch.no_grad()
    def forward(self, result: Tensor, reference: Tensor) -> Tensor:
        """LPIPS per image, ``(b, 1, h, w)`` on 0..1 twice to ``(b,)``; grey is taken as a colour."""
        total = torch.zeros(len(result))
        pairs = zip(self._activations(result), self._activations(reference), strict=True)
        for k, (a, b) in enumerate(pairs):
            unit = [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b)]
            weigh = self.get_submodule(f"lin{k}.model")
            total += weigh((unit[0] - unit[1]).square()).mean((1, 2, 3))
        return total

    def _activations(self, image: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(v)[None, :, None, None] for v in (_SHIFT, _SCALE))
        x = ((image.cpu().float() * 2 - 1).expand(-1, 3, -1, -1) - shift) / scale
        found = []
        for layer in self.features:
            x = layer(x)
            found += [x] if isinstance(layer, nn.ReLU) else []
        return found


def load_lpips() -> Lpips | None:
    """LPIPS with the weights in the folder that the environment variable ``MRISR_LPIPS`` names; none where it
    is not set.

    All ``.safetensors`` and ``.pth`` files of the folder are read, the latter as tensors only.

    Raises:
        InputError: the folder lacks weights, or has others than LPIPS on AlexNet.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return None
    folder = Path(named)
    paths = sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", ".pth"))
    weights = {name: tensor for path in paths for name, tensor in _read(path).items()}
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    found = Lpips(digest).eval()
    for name, own in found.state_dict().items():
        given = tuple(weights[name].shape) if name in weights else "none"
        if given != own.shape:
            expected = f"LPIPS weights {name} of {tuple(own.shape)}"
            raise InputError(folder, expected=expected, found=str(given))
    found.load_state_dict({name: weights[name] for name in found.state_dict()})
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the libraries have many ways to say that a file is damaged
        message = " ".join(str(error).split())[:200]
        raise InputError(path, expected="weights of LPIPS", found=message) from error
    return {k: v for k, v in found.items() if isinstance(v, Tensor)}
