"""The picture at the head of the README and of the docs.

    python docs/scripts/before_after.py docs/_static/before-after.png

The demo's phantom with coarse pixels and with thick slices: measured, interpolated, restored.
"""

import io
import sys
from pathlib import Path

from PIL import Image

from mrisr.core.volume import VolumeFile
from mrisr.demo import study_of, truths
from mrisr.physics.measurement import Measurement
from mrisr.runs.results import upsample
from mrisr.view.cuts import PanelRow, anatomical_directions, cuts, display_window, middle_slice
from mrisr.view.qc import Column, page_png

SIDE = 250  # pixels of a panel
ROWS = {"inplane-x4": ("axial", 40.0), "throughplane-x6": ("coronal", 60.0)}


def main(path: Path) -> None:
    """Make the picture."""
    panels, rows = [], []
    for name, truth, settings in truths():
        study = study_of(truth, settings)
        made = upsample(VolumeFile(study), settings)
        measurement = made.measurement
        assert isinstance(measurement, Measurement)
        plane, extent = ROWS[name]
        rows.append(PanelRow(plane, extent, extent / SIDE))
        centre, _ = middle_slice(study)
        window = display_window(study, centre, extent)
        interpolated = measurement.placed.volume(measurement.interpolated())
        directions = anatomical_directions(study.affine)
        low, high = window
        for volume in (study, interpolated, made.volume):
            (panel,) = cuts(volume, rows[-1:], centre, directions)
            panels.append((panel - low) / (high - low))
    labels = ("measured", "interpolated", "mrisr")
    columns = [Column(label, [panels[n], panels[n + 3]]) for n, label in enumerate(labels)]
    page = page_png(
        columns, rows, (0.0, 1.0), "a digital phantom: pixels / 4 above, slices / 6 below"
    )
    Image.open(io.BytesIO(page)).convert("L").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
