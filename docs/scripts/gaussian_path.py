"""Plain and aligned paths, published and corrected steps, where the answer is known in closed form.

The low-resolution image is the number 0.3, and x_HR given it is normal with mean 0.8 and standard
deviation 0.5. The best possible denoiser is then a straight line, so whatever a sampler gets wrong
is its own doing. Run it with ``python docs/scripts/gaussian_path.py``; it takes a few seconds and
prints the tables of docs/explanation/alignment-and-the-moving-mean.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrisr.core.options import SamplerName
from mrisr.diffusion import (
    INFERENCE,
    SAMPLERS,
    AlignedPath,
    Denoise,
    Path,
    PlainPath,
    sampling_levels,
    start_latent,
)

LOW, MEAN, SD = 0.3, 0.8, 0.5
SAMPLES = 200_000

#: A row of the first table: path, sampler, eta.
Way = tuple[str, SamplerName, float]
WAYS: list[Way] = [
    ("plain", "corrected", 0.0),
    ("plain", "corrected", 1.0),
    ("aligned", "published", 0.0),
    ("aligned", "published", 1.0),
    ("aligned", "corrected", 0.0),
    ("aligned", "corrected", 1.0),
]


def exact_denoiser(path: Path) -> Denoise:
    """E[x_HR | x_t]: regress x_HR on x_t = g (lambda x_HR + (1 - lambda) x_LR) + noise."""

    def denoise(x: Tensor, g: Tensor) -> Tensor:
        share = path.mixing(g.double())
        slope = g * share * SD**2 / (g**2 * share**2 * SD**2 + 1 - g**2)
        centre = g * (share * MEAN + (1 - share) * LOW)
        return (MEAN + slope * (x - centre)).float()

    return denoise


def run(way: Way, last: int, steps: int) -> str:
    """Mean and deviation of many samples from the partial start at level ``last``."""
    kind, sampler, eta = way
    start = float(INFERENCE.noise_scales()[last])
    path: Path = PlainPath(start) if kind == "plain" else AlignedPath(start)
    generator = torch.Generator().manual_seed(0)
    levels = sampling_levels(INFERENCE, start, steps)
    x_low = torch.full((SAMPLES, 1, 1, 1), LOW)

    def noise(step: int) -> Tensor:
        return torch.randn(SAMPLES, 1, 1, 1, generator=generator)

    first = start_latent(x_low, levels[0], noise(0))
    x = SAMPLERS[sampler](exact_denoiser(path), first, x_low, levels, path, noise, eta)
    return f"{float(x.mean()):.3f} / {float(x.std()):.3f}"


def name(way: Way) -> str:
    """A row's first cells."""
    kind, sampler, eta = way
    named = "either" if kind == "plain" else sampler
    return f"{kind} | {named} | {'ancestral' if eta else 'deterministic'}"


def main() -> None:
    """Print both tables as Markdown."""
    print("| path | sampler | steps are | K = 50 | K = 25 |")
    print("|---|---|---|---|---|")
    for way in WAYS:
        print(f"| {name(way)} | {run(way, 50, 50)} | {run(way, 25, 25)} |")
    print()
    counts = (1, 2, 4, 10, 50, 200)
    print(f"| path | sampler | steps are | {' | '.join(str(n) for n in counts)} |")
    print(f"|---|---|---|{'---|' * len(counts)}")
    for way in WAYS:
        print(f"| {name(way)} | {' | '.join(run(way, 50, n) for n in counts)} |")


if __name__ == "__main__":
    main()
