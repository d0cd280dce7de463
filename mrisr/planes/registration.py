"""Rigid registration of two stacks of one patient by mutual information.

Scans of one session share the scanner's frame, so the search for a motion begins at the identity and a
result far from it is a failure, not a finding. Whole stacks register by the pelvis and its fat, which end
millimetres away from where the gland lies; so a ball around the gland decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

Points = NDArray[np.float64]

#: Largest shift (mm, at the centre of what is registered) and rotation (degrees) that are believed.
LIMITS = (10.0, 10.0)
#: Levels from coarse to fine: shrink factor, and standard deviation in units of the working voxel.
LEVELS = ((4, 2.0), (2, 1.0), (1, 0.0))
_FWHM = float(2 * np.sqrt(2 * np.log(2)))  # of a Gaussian with unit standard deviation


class Registration(NamedTuple):
    """A rigid motion and how much it is worth.

    Attributes:
        matrix: ``(4, 4)``, world RAS mm of the fixed scan to world RAS mm of the moving scan: where
            the tissue seen at a fixed point lies in the moving scan.
        shift_mm: ``(3,)`` towards R, A, S: displacement of the centre of what was registered.
        angles_deg: ``(3,)`` rotations about the R-L, A-P and S-I axes, applied in this order.
        information: Mattes mutual information (nats) at the identity and at the result.
    """

    matrix: geometry.Affine
    shift_mm: NDArray[np.float64]
    angles_deg: NDArray[np.float64]
    information: tuple[float, float]

    @property
    def doubt(self) -> str | None:
        """Why the result should not be believed, in one line; None if it should."""
        shift, angle = np.linalg.norm(self.shift_mm), np.abs(self.angles_deg).max()
        if shift > LIMITS[0]:
            return f"a shift of {shift:.1f} mm (at most {LIMITS[0]:g} is believed)"
        if angle > LIMITS[1]:
            return f"a rotation of {angle:.1f} degrees (at most {LIMITS[1]:g} is believed)"
        before, after = self.information
        if after < before:
            return f"mutual information that fell from {before:.4f} to {after:.4f}"
        return None


def register_rigid(
    fixed: Volume, moving: Volume, ball: tuple[NDArray[np.float64], float] | None = None
) -> Registration:
    """Find the rigid motion between two scans of one patient.

    Six parameters (3-D Euler) maximise Mattes' mutual information (Mattes et al. 2003) from coarse to
    fine, starting at the identity. Both scans are first blurred and resampled to the same isotropic
    resolution, that of the coarser slices, so that planes with different thick axes are compared
    by what both can see. All voxels are used, none at random: the same scans give the same motion.

    Args:
        fixed: the scan whose points are mapped.
        moving: the scan that they are mapped into.
        ball: where in the fixed scan to look, its centre in RAS mm and diameter in mm; by default everywhere.

    Raises:
        InputError: the scans do not overlap.
    """
    import SimpleITK as sitk
    from scipy.spatial.transform import Rotation

    resolution = float(max(fixed.spacing.max(), moving.spacing.max()))
    images = [_working_image(v, resolution) for v in (fixed, moving)]
    whole = (fixed.affine @ [*(np.asarray(fixed.shape) - 1) / 2, 1.0])[:3]
    centre = whole if ball is None else ball[0]
    start = sitk.Euler3DTransform()
    start.SetCenter((geometry.LPS_TO_RAS[:3, :3] @ centre).tolist())
    method = _method(resolution / 2)
    if ball is not None:
        method.SetMetricFixedMask(_mask(images[0], *ball))
    method.SetInitialTransform(start, inPlace=False)
    try:
        before = -method.MetricEvaluate(*images)
        found = sitk.Euler3DTransform(method.Execute(*images).GetNthTransform(0))
        method.SetInitialTransform(found, inPlace=False)
        after = -method.MetricEvaluate(*images)
    except RuntimeError as error:  # ITK: samples map outside of the moving image
        raise apart(fixed, moving, "too little overlap") from error
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(found.GetMatrix(), (3, 3))
    lps[:3, 3] = found.TransformPoint((0.0, 0.0, 0.0))
    matrix = geometry.LPS_TO_RAS @ lps @ geometry.LPS_TO_RAS
    angles = Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz", degrees=True)
    return Registration(matrix, (matrix @ [*centre, 1.0])[:3] - centre, angles, (before, after))


def _working_image(volume: Volume, resolution: float) -> sitk.Image:
    """The scan at an isotropic resolution (FWHM, mm) on a grid of half that, as float32."""
    import SimpleITK as sitk
    from scipy.ndimage import gaussian_filter

    from mrisr.io.itk import to_image

    own = volume.spacing  # a voxel is about as wide as its spacing
    sigma = np.sqrt(np.maximum(resolution**2 - own**2, 0)) / _FWHM / own
    blurred = gaussian_filter(volume.array.astype(np.float32), sigma, mode="nearest")
    image = to_image(replace(volume, array=blurred, storage=Storage()))
    factors = (own / (resolution / 2)).tolist()
    shape, affine = geometry.resampled_grid(volume.shape, volume.affine, factors)
    lps = geometry.LPS_TO_RAS @ affine
    directions = geometry.directions(lps).ravel().tolist()
    grid = (lps[:3, 3].tolist(), geometry.spacing(lps).tolist(), directions)
    outside = float(blurred.min())
    return sitk.Resample(image, shape, sitk.Transform(), sitk.sitkBSpline, *grid, outside)


def _method(voxel: float) -> sitk.ImageRegistrationMethod:
    """The optimiser and its levels; ``voxel`` is the working grid's spacing in mm."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=48)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=200, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink for shrink, _ in LEVELS])
    method.SetSmoothingSigmasPerLevel([sigma * voxel for _, sigma in LEVELS])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _mask(image: sitk.Image, centre: NDArray[np.float64], diameter: float) -> sitk.Image:
    """1 inside the ball, 0 elsewhere, on the image's grid."""
    import SimpleITK as sitk

    grid = (image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    points = sitk.PhysicalPointSource(sitk.sitkVectorFloat64, *grid)
    away = sitk.GetArrayFromImage(points) - geometry.LPS_TO_RAS[:3, :3] @ centre
    mask = sitk.GetImageFromArray((np.linalg.norm(away, axis=-1) <= diameter / 2).astype("u1"))
    mask.CopyInformation(image)
    return mask


def apart(reference: Volume, measured: Volume, found: str) -> InputError:
    """The error of a scan that does not overlap with another."""
    expected = f"a scan that overlaps with {measured.name}"
    return InputError(reference.name, expected=expected, found=found)
