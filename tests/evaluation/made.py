"""Results made up for tests of what becomes of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrisr.evaluation.case import Scale, Scored, ScoredResult


def scored(psnr: Sequence[float] = (20.0, 22.0), **changes: Any) -> Scored:
    """A score with these slices; everything else follows from ``psnr``."""
    picture = np.linspace(0, 1, 24 * 20, dtype=np.float32).reshape(24, 20)
    cost = {"seconds": 0.5, "cpu_seconds": 0.4, "evaluations": 1.0}
    fields: dict[str, Any] = {
        "figures": {"residual": 1e-3, "consistency": 0.1, **cost},
        "slices": {
            "psnr": list(psnr),
            "ssim": [v / 40 for v in psnr],
            "spectrum": [40 - v for v in psnr],
            "texture": [v - 30 for v in psnr],
        },
        "pictures": {"result": picture * 0.9, "reference": picture},
    }
    return Scored(**fields | changes)


def result(
    method: str, case: str, psnr: Sequence[float], series: str = "t2w", factor: float = 4.0
) -> ScoredResult:
    return ScoredResult(case, series, Scale("degraded", factor), method, scored(psnr))
