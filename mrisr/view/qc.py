"""One picture that says whether a result can be trusted: what was measured beside what was made.

Rows are the axial, coronal and sagittal cut through the centre of the source; columns are the
measured voxels, the interpolation, the result and, where there is one, a reference. All panels of
a row sample the same points of the world, so the same structure lies at the same place in each.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Side of a pixel of the pictures, mm.
PIXEL_MM = 0.25
#: Red, green, blue of the outlines of zones: as the DICOM segmentations recommend for display, told apart
#: with any kind of colour vision and on grey.
ZONE_COLOURS = {"PZ": (230, 159, 0), "TZ": (86, 180, 233)}
_EDGE = 4.0  # standard deviation in pixels of the blur under which edges are found
_DPI = 100
_MARGIN, _HEADER, _GAP = 26, 24, 4  # of the page, in pixels
ROWS = ("axial", "coronal", "sagittal")
# World axes that run to the right and down the screen, both against their positive direction:
# radiological convention, the patient's left on the right; sagittal cuts seen from the left.
_SCREEN = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
_LETTERS = ("RL", "AP", "SI")  # at the positive and the negative end of each world axis


class Column(NamedTuple):
    """A column of the picture: its label, its three panels, and its window unless the common one."""

    label: str
    panels: list[NDArray[np.float32]]
    window: tuple[float, float] | None = None


def panel(
    volume: Volume,
    plane: str,
    centre: ArrayLike,
    extent_mm: float,
    pixel_mm: float = PIXEL_MM,
    directions: ArrayLike | None = None,
    spline: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """A square cut through a volume as a radiologist sees it, each pixel the nearest voxel's value.

    The cut follows the volume's own axes, not the world's, so an oblique stack shows whole slices.
    The order and the direction of the array axes make no difference: a point midway between two
    voxels takes the one nearer to right, anterior, superior.

    Args:
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
        centre: the middle of the panel, world mm, RAS.
        extent_mm: length of the panel's sides, mm.
        pixel_mm: pixel size, mm.
        directions: 3x3, columns along right, anterior, superior; cuts along these instead, for
            panels that are compared.
        spline: from :func:`spline_of`; the cut is then interpolated, as far as the nearest voxels reach.

    Returns:
        ``(n, n)`` with ``n = round(extent_mm / pixel_mm)``; rows run down the screen, columns to
        the right. NaN lies outside the volume.

    Raises:
        UsageError: the plane is none of the three, or no pixel fits into the panel.
    """
    count = round(extent_mm / pixel_mm)
    if plane not in _SCREEN or count < 1:
        raise UsageError(
            f"panel: expected a plane of {', '.join(ROWS)} and pixels smaller than the panel, "
            f"found {plane!r}, {extent_mm} mm and {pixel_mm} mm"
        )
    d = anatomical_directions(volume.affine) if directions is None else np.asarray(directions)
    to_index = np.linalg.inv(volume.affine)
    right, down = (-to_index[:3, :3] @ d[:, axis] for axis in _SCREEN[plane])
    steps = (np.arange(count) - (count - 1) / 2) * pixel_mm
    middle = np.asarray(centre, dtype=np.float64) + d.sum(axis=1) * 1e-3  # never midway
    start = to_index[:3, :3] @ middle + to_index[:3, 3]
    points = [
        s + steps[:, None] * u + steps * v for s, u, v in zip(start, down, right, strict=True)
    ]
    index = [np.rint(p).astype(np.intp) for p in points]
    inside = np.all([(i >= 0) & (i < n) for i, n in zip(index, volume.shape, strict=True)], axis=0)
    ends = [n - 1 for n in volume.shape]
    if spline is not None:
        from scipy.ndimage import map_coordinates

        at = [np.clip(p, 0, n) for p, n in zip(points, ends, strict=True)]
        values = map_coordinates(spline, at, order=3, mode="mirror", prefilter=False)
    else:
        at = [np.clip(i, 0, n) for i, n in zip(index, ends, strict=True)]
        values = volume.array[tuple(at)].astype(np.float32)
    return np.where(inside, values, np.float32(np.nan))


def spline_of(volume: Volume) -> NDArray[np.float32]:
    """Coefficients of the cubic spline through a volume's voxels, mirrored at its ends."""
    from scipy.ndimage import spline_filter

    values = np.asarray(volume.array, dtype=np.float32)
    return np.asarray(spline_filter(values, order=3, output=np.float32, mode="mirror"))


def anatomical_directions(affine: geometry.Affine) -> NDArray[np.float64]:
    """Unit vectors of the array axes, sorted and turned to right, anterior, superior; columns."""
    return geometry.directions(geometry.reoriented(np.empty((1, 1, 1)), affine, "RAS")[1])


def display_window(volume: Volume) -> tuple[float, float]:
    """Darkest and brightest value to show: the 0.5th and 99.5th percentile of the finite voxels."""
    values = np.asarray(volume.array, dtype=np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 1.0)
    return float(low), float(high if high > low else low + 1.0)


def qc_png(
    result: Volume,
    source: Volume,
    interpolation: Volume | None,
    *,
    title: str = "",
    reference: Volume | None = None,
    extent_mm: float = 90.0,
) -> bytes:
    """The picture as the bytes of a PNG.

    Args:
        source: the measured volume; its centre, its axes and its window serve for all panels.
        interpolation: the source on the result's grid by interpolation, or `None` to leave it out.
        title: one line above the picture. It is all the text that depends on the caller; neither
            names nor paths of the volumes are shown.
        reference: a volume of the same scale to compare with; adds itself and result minus reference.
        extent_mm: side of the square shown, mm.
    """
    directions = anatomical_directions(source.affine)
    middle = (np.array(source.shape) - 1) / 2
    centre = (source.affine @ [*middle, 1.0])[:3]

    def cuts(volume: Volume) -> list[NDArray[np.float32]]:
        return [panel(volume, p, centre, extent_mm, PIXEL_MM, directions) for p in ROWS]

    columns = [Column("measured", cuts(source))]
    if interpolation is not None:
        columns.append(Column("interpolated", cuts(interpolation)))
    made = cuts(result)
    columns.append(Column("super-resolved", made))
    window = low, high = display_window(source)
    if reference is not None:
        wanted = cuts(reference)
        reach = (high - low) / 4
        columns.append(Column("reference", wanted))
        difference = [m - w for m, w in zip(made, wanted, strict=True)]
        columns.append(Column(f"difference (±{reach:.3g})", difference, (-reach, reach)))
    return page_png(columns, window, title, extent_mm)


def planes_png(
    result: Volume,
    measured: Sequence[Volume],
    alone: Volume,
    *,
    title: str = "",
    extent_mm: float = 90.0,
) -> bytes:
    """The picture of a volume of several planes: each stack in its own plane beside the result.

    The last column draws the edges of what was measured over the result: where stacks were moved rightly,
    they lie on the result's own.

    Args:
        measured: the stacks as they lie in the result's frame and units; the first gives centre and window.
        alone: what was made of the first stack by itself.
        title, extent_mm: as for :func:`qc_png`.
    """
    first = measured[0]
    directions = anatomical_directions(first.affine)
    centre = (first.affine @ [*((np.array(first.shape) - 1) / 2), 1.0])[:3]
    planes = {volume.plane: volume for volume in reversed(measured)}

    def cuts(volumes: Sequence[Volume]) -> list[NDArray[np.float32]]:
        return [
            panel(volume, p, centre, extent_mm, PIXEL_MM, directions)
            for volume, p in zip(volumes, ROWS, strict=True)
        ]

    own = cuts([planes.get(plane, first) for plane in ROWS])
    made = cuts([result] * 3)
    window = low, high = display_window(first)
    overlaid = []
    for a, b in zip(own, made, strict=True):
        grey = np.clip((np.nan_to_num(b, nan=low) - low) / (high - low), 0, 1)
        picture = np.repeat(grey[..., None], 3, axis=2)
        picture[_edges(a)] = np.array(ZONE_COLOURS["PZ"]) / 255
        overlaid.append(picture.astype(np.float32))
    columns = [
        Column("measured", own),
        Column(f"{first.plane} alone", cuts([alone] * 3)),
        Column("all planes", made),
        Column("edges of measured", overlaid),
    ]
    return page_png(columns, window, title, extent_mm)


def _edges(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The strongest edges of a panel: zero crossings of its Laplacian (Marr and Hildreth 1980)."""
    from scipy.ndimage import gaussian_gradient_magnitude, gaussian_laplace

    filled = np.nan_to_num(image, nan=float(np.nanmin(image)))
    slope = gaussian_gradient_magnitude(filled, _EDGE)
    positive = gaussian_laplace(filled, _EDGE) > 0
    crossing = np.zeros(image.shape, dtype=bool)
    crossing[1:] |= positive[1:] != positive[:-1]
    crossing[:, 1:] |= positive[:, 1:] != positive[:, :-1]
    crossing &= (slope > np.quantile(slope, 0.85)) & np.isfinite(image)
    return np.asarray(crossing)


def page_png(
    columns: Sequence[Column], window: tuple[float, float], title: str, extent_mm: float
) -> bytes:
    """Lay the panels out so that one array element is one pixel of the page, as the bytes of a PNG.

    A column's panels are axial, coronal and sagittal; ``(n, n, 3)`` from 0 to 1 is shown in colour.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = columns[0].panels[0].shape[0]
    width = _MARGIN + len(columns) * (side + _GAP)
    height = 3 * (side + _GAP) + _HEADER + (_MARGIN if title else 0)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    lefts = [_MARGIN + c * (side + _GAP) for c in range(len(columns))]
    bottoms = [_GAP + (2 - r) * (side + _GAP) for r in range(3)]
    for left, column in zip(lefts, columns, strict=True):
        for bottom, plane, values in zip(bottoms, ROWS, column.panels, strict=True):
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            axes.set_axis_off()
            low, high = column.window or window
            cmap = "seismic" if column.window else "gray"
            shown = np.ma.masked_invalid(values)  # what lies outside the volume stays black
            axes.imshow(shown, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
            _annotate(axes, plane, side, extent_mm)
        top = 3 * (side + _GAP) + _HEADER / 2
        _text(figure, (left + side / 2) / width, top / height, column.label)
    for bottom, plane in zip(bottoms, ROWS, strict=True):
        _text(figure, _MARGIN / 2 / width, (bottom + side / 2) / height, plane, rotation=90)
    _text(figure, 0.5, 1 - _MARGIN / 2 / height, title)
    picture = io.BytesIO()
    canvas.print_png(picture, metadata={"Software": "mrisr"})
    return picture.getvalue()


def _annotate(axes: Axes, plane: str, side: int, extent_mm: float) -> None:
    """Orientation letters on the edges and a scale bar."""
    across, along = (_LETTERS[axis] for axis in _SCREEN[plane])
    edges = (0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03)
    for (x, y), letter in zip(edges, across + along, strict=True):
        _text(axes, x, y, letter, transform=axes.transAxes)
    bar = next((b for b in (20, 10, 5, 2) if b <= extent_mm / 3), 1)
    start, length, row = 0.05 * side, bar / extent_mm * side, 0.95 * side
    axes.plot([start, start + length], [row, row], color="white", linewidth=2.5)
    _text(axes, 0.05 + bar / extent_mm / 2, 0.085, f"{bar} mm", transform=axes.transAxes)


def _text(where: Axes | Figure, x: float, y: float, text: str, **options: Any) -> None:
    """White text with a dark edge, centred on ``(x, y)`` as fractions of the axes or the page."""
    from matplotlib.patheffects import withStroke

    drawn = where.text(x, y, text, color="white", fontsize=9, ha="center", va="center", **options)
    drawn.set_path_effects([withStroke(linewidth=2, foreground="black")])
    drawn.set_parse_math(False)
