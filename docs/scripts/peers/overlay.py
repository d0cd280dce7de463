"""Does a super-resolved volume lie where its input lies? Measured, in mm, from the voxels.

The volume is averaged over the input's slices (a Gaussian of one slice spacing) and compared with the
input at the input's own voxel centres, through both files' affines. The shift at which the two agree
best is found by least squares, with a free gain and offset of the intensities. It is good to 0.01 mm where
the volume is right and to about 0.1 mm where it is blurred. Needs numpy, scipy and nibabel, which ECLARE's
environment has; nothing of mrisr.

    python overlay.py INPUT VOLUME                       prints the shift as JSON
    python overlay.py INPUT VOLUME --write CORRECTED     and writes the volume with its origin corrected
"""

import argparse
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from scipy import ndimage

#: A slice profile's full width at half maximum over its standard deviation.
FWHM = float(np.sqrt(8 * np.log(2)))
#: Shifts tried at first along the slices, in slice spacings; refined from the best.
COARSE = np.linspace(-1, 1, 17)
#: Every second pixel is enough, and the borders (here the share of each side) have artefacts.
STEP, BORDER = 2, 0.1


class Doubt(Exception):
    """The two files cannot be compared; says why in one line."""


class Comparison:
    """The input's voxels, and the volume averaged over slices, sampled anywhere near them.

    Args:
        reference: the input, affine and (slices thick, anywhere among its axes) voxels.
        volume: the result on its finer grid.
    """

    def __init__(self, reference: nib.Nifti1Image, volume: nib.Nifti1Image) -> None:
        if len(reference.shape) != 3 or len(volume.shape) != 3:
            raise Doubt(f"expected 3D volumes, found {reference.shape} and {volume.shape}")
        self.spacing = nib.affines.voxel_sizes(reference.affine)
        self.axis = int(np.argmax(self.spacing))
        self.to_volume = np.linalg.inv(volume.affine) @ reference.affine
        # Not the borders, not the outer slices.
        ranges = [np.arange(int(BORDER * n), n - int(BORDER * n), STEP) for n in reference.shape]
        slices = reference.shape[self.axis]
        edge = min(1, (slices - 1) // 2)
        ranges[self.axis] = np.arange(edge, slices - edge)
        self.points = np.stack(np.meshgrid(*ranges, indexing="ij")).reshape(3, -1)
        values = np.asarray(reference.dataobj, dtype=np.float32)
        self.values = values[tuple(self.points)].astype(np.float64)
        inside = self._coordinates(np.zeros(3))
        size = np.array(volume.shape)[:, None]
        if np.mean(np.all((inside >= -0.5) & (inside <= size - 0.5), axis=0)) < 0.9:
            raise Doubt("the volume's affine does not put it over the input")
        through = self.to_volume[:3, self.axis]
        sigma, fine = float(np.linalg.norm(through)) / FWHM, int(np.argmax(np.abs(through)))
        thin = np.asarray(volume.dataobj, dtype=np.float32)
        blurred = ndimage.gaussian_filter1d(thin, sigma, axis=fine, mode="nearest")
        self.coefficients = ndimage.spline_filter(blurred, order=3, output=np.float32)

    def _coordinates(self, shift: np.ndarray) -> np.ndarray:
        moved = self.points + (shift / self.spacing)[:, None]
        return self.to_volume[:3, :3] @ moved + self.to_volume[:3, 3:]

    def sample(self, shift: np.ndarray) -> np.ndarray:
        """The slice-averaged volume at the input's voxels moved by ``shift`` mm along the input's axes."""
        return ndimage.map_coordinates(
            self.coefficients, self._coordinates(shift), order=3, mode="nearest", prefilter=False
        ).astype(np.float64)

    def correlation(self, shift: np.ndarray) -> float:
        """Pearson's, between the input and the volume moved by ``shift``."""
        return float(np.corrcoef(self.values, self.sample(shift))[0, 1])

    def refine(self, shift: np.ndarray) -> np.ndarray:
        """One Gauss-Newton step: input = offset + gain * volume(shift + step), for the step."""
        centre = self.sample(shift)
        steps = np.diag(0.2 * self.spacing)
        slopes = [(self.sample(shift + s) - self.sample(shift - s)) / (2 * s.max()) for s in steps]
        columns = np.stack([np.ones_like(centre), centre, *slopes], axis=1)
        fit = np.linalg.lstsq(columns, self.values, rcond=None)[0]
        return shift + np.clip(fit[2:] / fit[1], -0.5 * self.spacing, 0.5 * self.spacing)


def position(reference: nib.Nifti1Image, volume: nib.Nifti1Image) -> dict[str, Any]:
    """Where the volume's structures lie, less where the input's lie.

    Returns:
        ``shift_mm`` along the input's three array axes, ``slice_axis``, and the correlation of the
        slice-averaged volume with the input as written and after the shift is undone.

    Raises:
        Doubt: the volume is not over its input, or no shift makes the two alike.
    """
    pair = Comparison(reference, volume)
    unit = np.eye(3)[pair.axis] * pair.spacing
    shift = max((c * unit for c in COARSE), key=pair.correlation)
    for _ in range(6):
        before, shift = shift, pair.refine(shift)
        if np.abs(shift - before).max() < 1e-3:
            break
    best = pair.correlation(shift)
    if not best > 0.5:
        raise Doubt(f"the volume does not resemble its input (correlation {best:.3f})")
    return {
        "shift_mm": [round(float(s), 4) for s in shift],
        "slice_axis": pair.axis,
        "correlation_as_written": round(pair.correlation(np.zeros(3)), 6),
        "correlation_unshifted": round(best, 6),
    }


def recentred(image: nib.Nifti1Image, reference: nib.Nifti1Image, shift: list[float]) -> bytes:
    """Make an image's ``.nii.gz`` anew with its affine moved by minus ``shift`` mm along the input's axes;
    the stored voxels and their scaling stay as they are."""
    directions = reference.affine[:3, :3] / nib.affines.voxel_sizes(reference.affine)
    affine = image.affine.copy()
    affine[:3, 3] -= directions @ np.asarray(shift)
    stored = cast(nib.arrayproxy.ArrayProxy, image.dataobj)
    moved = nib.Nifti1Image(stored.get_unscaled(), affine, image.header)
    moved.header.set_slope_inter(stored.slope, stored.inter)
    moved.set_sform(affine, code=1)
    moved.set_qform(affine, code=1)
    return gzip.compress(moved.to_bytes(), 6, mtime=0)


def main() -> int:
    """The command line; exit code 1 and one line where the files cannot be compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--write", type=Path, metavar="CORRECTED")
    asked = parser.parse_args()
    try:
        reference, volume = (nib.Nifti1Image.from_filename(p) for p in (asked.input, asked.volume))
        found = position(reference, volume)
        if asked.write:
            beside = asked.write.with_name(f".{asked.write.name}.part")
            beside.write_bytes(recentred(volume, reference, found["shift_mm"]))
            os.replace(beside, asked.write)
    except (Doubt, OSError, ValueError, nib.filebasedimages.ImageFileError) as problem:
        print(f"{asked.volume.name}: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
