"""Two scans of one patient: registered rigidly, and one seen through the slices of the other.

Scans of one session share the scanner's frame, so the search for a motion begins at the identity and a
result far from it is a failure, not a finding. Where both show the same tissue, every voxel of the reference
is compared with the mean of the result at points spread along its slice thickness, moved by the registration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

Points = NDArray[np.float64]
#: A rectangle of one slice of an array: the slice, its rows, its columns.
Box = tuple[slice, slice, slice]

#: Largest shift (mm, at the centre of what is registered) and rotation (degrees) that are believed.
LIMITS = (10.0, 10.0)
#: Levels from coarse to fine: shrink factor, and standard deviation in units of the working voxel.
LEVELS = ((4, 2.0), (2, 1.0), (1, 0.0))
_FWHM = float(2 * np.sqrt(2 * np.log(2)))  # of a Gaussian with unit standard deviation
#: Rows and columns that a slice's share of the overlap has at least, or it is left out.
SMALLEST = 32
#: Voxels around the points that are sampled, enough for the spline's prefilter (0.27 per voxel).
_MARGIN = 12
_ROUNDING = 1e-3  # voxels


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
        raise _apart(fixed, moving, "too little overlap") from error
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


# --- overlap --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """The part of a reference scan that a measured stack covers.

    Attributes:
        reference: with array axes slices, rows (towards inferior), columns (towards the left); see
            :func:`upright`.
        motion: ``(4, 4)`` world RAS mm of the reference to that of the measured stack.
        rows: points along the reference's slice thickness that are averaged.
        boxes: what is compared of each slice.
    """

    reference: Volume
    motion: geometry.Affine
    rows: int
    boxes: tuple[Box, ...]

    def images(self) -> list[Points]:
        """The reference's voxels ``(h, w)`` in each box."""
        return [self.reference.array[box][0].astype(float) for box in self.boxes]

    def sample(self, volume: Volume) -> list[Points]:
        """The volume as the reference's slices would show it, in each box: cubic B-spline, then the mean over
        the slice thickness (a box profile).

        Raises:
            InputError: the volume does not cover the overlap.
        """
        from scipy.ndimage import map_coordinates, spline_filter

        low, high = self.extent(volume)
        if (np.minimum(low, np.array(volume.shape) - 1 - high) < -0.5 - _ROUNDING).any():
            needed = " to ".join(str(np.round(end, 1).tolist()) for end in (low, high))
            raise InputError(
                volume.name,
                expected="a volume that covers the measured stack",
                found=f"voxels 0..{[n - 1 for n in volume.shape]} where {needed} are needed",
            )
        start = np.maximum(np.floor(low).astype(int) - _MARGIN, 0)
        stop = np.ceil(high).astype(int) + _MARGIN
        part = volume.array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        spline = spline_filter(part.astype(np.float64), order=3, mode="mirror")
        places = (points - start[:, None, None, None] for points in self._places(volume))
        return [
            map_coordinates(spline, at, order=3, mode="mirror", prefilter=False).mean(axis=0)
            for at in places
        ]

    def extent(self, volume: Volume) -> tuple[Points, Points]:
        """Smallest and largest voxel index of the volume's grid that the overlap reaches, ``(3,)`` each."""
        every = np.hstack([points.reshape(3, -1) for points in self._places(volume)])
        return every.min(axis=1), every.max(axis=1)

    def _places(self, volume: Volume) -> list[Points]:
        matrix = np.linalg.inv(volume.affine) @ self.motion
        return [_places(self.reference, matrix, self.rows, box) for box in self.boxes]

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Extent of the overlap along the reference's slices, rows and columns."""
        _, *edges = zip(*self.boxes, strict=True)
        spans = [max(e.stop for e in each) - min(e.start for e in each) for each in edges]
        a, b, c = (np.array([len(self.boxes), *spans]) * self.reference.spacing).tolist()
        return a, b, c


def upright(volume: Volume) -> Volume:
    """The same scan with array axes slices, rows, columns: rows towards inferior (in axial stacks towards
    posterior) and columns towards the left (in sagittal ones towards posterior)."""
    slices = geometry.axis_codes(volume.affine)[volume.slice_axis]
    return volume.reoriented(slices + geometry.DISPLAYED[volume.plane][1:])


def overlap_centre(reference: Volume, measured: Volume) -> Points:
    """World centroid (RAS mm) of the reference's voxels that lie in the measured stack, before registration.

    Raises:
        InputError: the two do not overlap.
    """
    index = np.mgrid[tuple(slice(0, n, max(1, n // 64)) for n in reference.shape)].reshape(3, -1)
    world = _moved(reference.affine, index)
    inside = _inside(_moved(np.linalg.inv(measured.affine), world), measured)
    if not inside.any():
        raise _apart(reference, measured, "none of its voxels there")
    return np.asarray(world[:, inside].mean(axis=1))


def find_overlap(
    reference: Volume,
    measured: Volume,
    motion: geometry.Affine,
    rows: int,
    region: tuple[Points, float] | None = None,
) -> Overlap:
    """The largest rectangle of every slice of the reference whose points all lie between the outermost
    voxel centres of the measured stack, where every method interpolates and none extrapolates.

    Args:
        reference: from :func:`upright`.
        measured: the input of the methods.
        motion: world RAS mm of the reference to that of the measured stack.
        rows: points along the reference's slice thickness.
        region: world centre (of the reference, RAS mm) and edge in mm of a cube along the
            reference's axes that bounds the overlap.

    Raises:
        InputError: nothing, or too little, remains.
    """
    low, high = np.zeros(3), np.asarray(reference.shape, dtype=float) - 1
    if region is not None:
        centre = _moved(np.linalg.inv(reference.affine), region[0])
        half = region[1] / 2 / reference.spacing
        low, high = np.maximum(np.ceil(centre - half), 0), np.minimum(np.floor(centre + half), high)
    slices, *edges = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    matrix = np.linalg.inv(measured.affine) @ motion
    boxes = []
    for index in range(slices.start, slices.stop):
        box = (slice(index, index + 1), edges[0], edges[1])
        inside = _inside(_places(reference, matrix, rows, box), measured)
        inner = _full_rectangle(np.all(inside, axis=0), box)
        if min(edge.stop - edge.start for edge in inner[1:]) >= SMALLEST:
            boxes.append(inner)
    if not boxes:
        raise _apart(reference, measured, f"no slice with {SMALLEST} x {SMALLEST} voxels inside it")
    return Overlap(reference, motion, rows, tuple(boxes))


def _full_rectangle(mask: NDArray[np.bool_], box: Box) -> Box:
    """The part of a box that is left when edges with voxels outside the mask are cut off, the worst first."""
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while top < bottom and left < right:
        inner = mask[top:bottom, left:right]
        shares = [edge.mean() for edge in (inner[0], inner[-1], inner[:, 0], inner[:, -1])]
        worst = int(np.argmin(shares))
        if shares[worst] == 1:
            break
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    one, rows, columns = box
    first = rows.start, columns.start
    return one, slice(first[0] + top, first[0] + bottom), slice(first[1] + left, first[1] + right)


def _places(reference: Volume, matrix: geometry.Affine, rows: int, box: Box) -> Points:
    """World points ``(3, rows, h, w)`` of a box's voxels, along the slice thickness, mapped by a matrix."""
    step = float(reference.spacing[0])
    spread = ((np.arange(rows) + 0.5) / rows - 0.5) * (reference.slice_thickness or step) / step
    index = np.repeat(np.mgrid[box].astype(float), rows, axis=1)
    index[0] += spread[:, None, None]
    return _moved(matrix @ reference.affine, index)


def _moved(matrix: NDArray[np.floating[Any]], points: NDArray[Any]) -> Points:
    """Points ``(3, ...)`` mapped by a matrix ``(4, 4)``."""
    offset = matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))
    return np.asarray(np.tensordot(matrix[:3, :3], points, 1) + offset)


def _inside(index: Points, volume: Volume) -> NDArray[np.bool_]:
    """Whether indices ``(3, ...)`` lie between the outermost voxel centres."""
    last = np.asarray(volume.shape).reshape(3, *[1] * (index.ndim - 1)) - 1
    return np.asarray(((index >= -_ROUNDING) & (index <= last + _ROUNDING)).all(axis=0))


def _apart(reference: Volume, measured: Volume, found: str) -> InputError:
    expected = f"a scan that overlaps with {measured.name}"
    return InputError(reference.name, expected=expected, found=found)
