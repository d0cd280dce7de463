"""How far the estimate of the noise is off: the table of docs/explanation/consistency.md.

    python docs/scripts/noise.py

The digital phantom is scanned without noise, Rician noise of known level and spectrum is added, and both
estimators are asked: mrisr's and Immerkaer's.
"""

from __future__ import annotations

import torch

from mrisr.core.statistics import seeded
from mrisr.data.phantom import phantom
from mrisr.physics.measurement import measure_in_plane
from mrisr.physics.noise import Colour, estimated_level, grain, with_rician_noise

LEVELS = (0.0, 0.003, 0.01, 0.02, 0.04, 0.08)
COLOURS = {
    "white": Colour(),
    "k-space filled to 1/0.7 of its width": Colour(0.7, 0.7),
    "an ellipse of 0.8 of it": Colour(0.8, 0.8, True),
}


def main() -> None:
    """Print the table: estimates in percent of the intensity range."""
    study = phantom((320, 320, 12), spacing=(0.55, 0.55, 3.0), seed=1)
    clean = measure_in_plane(study, 2.0).y[:, None]
    print("| noise | estimator | " + " | ".join(f"{100 * level:g}%" for level in LEVELS) + " |")
    print("|---" * (len(LEVELS) + 2) + "|")
    for name, colour in COLOURS.items():
        found = []
        for level in LEVELS:
            levels = torch.full((len(clean),), level)
            noisy = with_rician_noise(clean, levels, seeded("cpu", 1), colour)[:, 0]
            found.append((100 * estimated_level(noisy), 100 * grain(noisy)))
        for title, column in (("mrisr", 0), ("Immerkaer", 1)):
            cells = " | ".join(f"{pair[column]:.2f}" for pair in found)
            print(f"| {name} | {title} | {cells} |")


if __name__ == "__main__":
    main()
