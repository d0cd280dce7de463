"""What the voxels tell of the slice thickness: the figures of docs/how-to/adapt-to-a-scan.md.

``python docs/scripts/thickness.py VOLUME...`` prints the estimate for slices of the digital phantom whose
thickness is known, and for every volume, with the distance of the slices. All in mm.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.io import read_volume
from mrisr.physics.measurement import measure_through_plane
from mrisr.physics.thickness import estimated_thickness


def volumes(paths: list[str]) -> Iterator[tuple[str, Volume]]:
    """Names and volumes: the phantom's, then those of the files."""
    for mm in (1.5, 3.0, 4.5):
        scan = phantom((160, 160, 20), slice_thickness=mm, noise=0.02)
        yield f"phantom of {mm:g} mm", scan
    for path in map(Path, paths):
        yield f"{path.parent.name} {path.name}", read_volume(path)


def main() -> None:
    """Print the table."""
    print("| volume | distance | estimated | SD |\n|---|---|---|---|")
    for name, volume in volumes(sys.argv[1:]):
        measured = measure_through_plane(volume, 2.0).with_estimated_noise()
        spacing = [float(volume.spacing[a]) for a in measured.placed.order]
        found = estimated_thickness(measured.y, spacing, measured.noise)
        cells = ["-", "-"] if found is None else [f"{v * spacing[0]:.2f}" for v in found]
        print(f"| {name} | {spacing[0]:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
