"""One picture that says whether a result can be trusted: what was measured beside what was made.

Rows are the planes in which something has changed: the slice itself and a part of it enlarged, or three
planes where slices were made thinner. Columns are the measured voxels, the interpolation, the result and,
where they are given, a reference, the residual and the result's standard deviation. All panels of a row
sample the same points of the world, so the same structure lies at the same place in each.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.view.cuts import (
    EXTENT_MM,
    ROWS,
    SCREEN,
    PanelRow,
    anatomical_directions,
    cuts,
    display_window,
    middle_slice,
    page_pixel,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: By how much a second row enlarges the middle, at least.
_ZOOM = 3
#: Standard deviations of the noise, or percent of the range, at which a residual has its full colour.
_REACH = 3.0
#: Red, green, blue of the outlines of zones: as the DICOM segmentations recommend for display, told apart
#: with any kind of colour vision and on grey.
ZONE_COLOURS = {"PZ": (230, 159, 0), "TZ": (86, 180, 233)}
_EDGE = 4.0  # standard deviation in pixels of the blur under which edges are found
_DPI = 100
_MARGIN, _HEADER, _GAP = 26, 24, 4  # of the page, in pixels
#: Colours of differences: below nothing blue, nothing black as the page, above it orange.
_DIFFERENCE = ("#4fb3ff", "black", "#ffa24f")
_LETTERS = ("RL", "AP", "SI")  # at the positive and the negative end of each world axis


class Column(NamedTuple):
    """A column of the picture: its label, a panel for each row, and its window unless the common one."""

    label: str
    panels: list[NDArray[np.float32]]
    window: tuple[float, float] | None = None


def qc_png(
    result: Volume,
    source: Volume,
    interpolation: Volume | None,
    *,
    title: str = "",
    reference: Volume | None = None,
    residual: tuple[Volume, str] | None = None,
    uncertainty: Volume | None = None,
    extent_mm: float = EXTENT_MM,
) -> bytes:
    """The picture as the bytes of a PNG.

    Args:
        source: the measured volume; its middle slice, its axes and its window serve for all panels.
        interpolation: the source on the result's grid by interpolation, or `None` to leave it out.
        title: one line above the picture, after the slice's number. It is all the text that depends on the
            caller; neither names nor paths of the volumes are shown.
        reference: a volume of the same scale to compare with; adds itself and result minus reference.
        residual: a map on the source's grid, and its unit.
        uncertainty: standard deviation of the result's voxels, on its grid, in its units.
        extent_mm: side of the square shown, mm.
    """
    directions = anatomical_directions(source.affine)
    centre, number = middle_slice(source)
    rows = _rows(result, source, extent_mm)

    def column(label: str, volume: Volume, window: tuple[float, float] | None = None) -> Column:
        return Column(label, cuts(volume, rows, centre, directions), window)

    columns = [column("measured", source)]
    if interpolation is not None:
        columns.append(column("interpolated", interpolation))
    columns.append(made := column("super-resolved", result))
    window = low, high = display_window(source, centre, extent_mm)
    if reference is not None:
        columns.append(wanted := column("reference", reference))
        reach = (high - low) / 4
        apart = [m - w for m, w in zip(made.panels, wanted.panels, strict=True)]
        columns.append(Column(f"difference (±{reach:.3g})", apart, (-reach, reach)))
    if residual is not None:
        label = f"residual (±{_REACH:g} {residual[1]})"
        columns.append(column(label, residual[0], (-_REACH, _REACH)))
    if uncertainty is not None:
        top = display_window(uncertainty, centre, extent_mm)[1]
        columns.append(column(f"standard deviation (to {top:.3g})", uncertainty, (-top, top)))
    return page_png(columns, rows, window, " - ".join(part for part in (number, title) if part))


def _rows(result: Volume, source: Volume, extent_mm: float) -> list[PanelRow]:
    """The planes in which a result differs from its source: the slices' own, whole and enlarged, or three."""
    pixel = page_pixel(result, extent_mm)
    axis = geometry.world_axes(source.affine)[source.slice_axis]
    between = [
        float(v.spacing[geometry.world_axes(v.affine).index(axis)]) for v in (source, result)
    ]
    if between[1] < 0.9 * between[0] or not source.is_stack:
        return [PanelRow(plane, extent_mm, pixel) for plane in ROWS]
    voxels = max(1, round(pixel / float(result.spacing.min())))
    zoom = voxels * int(np.ceil(_ZOOM / voxels))  # voxels stay whole
    return [
        PanelRow(source.plane, extent_mm, pixel),
        PanelRow(source.plane, extent_mm / zoom, pixel / zoom),
    ]


def planes_png(
    result: Volume,
    measured: Sequence[Volume],
    alone: Volume,
    *,
    title: str = "",
    extent_mm: float = EXTENT_MM,
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
    centre, number = middle_slice(first)
    planes = {volume.plane: volume for volume in reversed(measured)}
    rows = [PanelRow(plane, extent_mm, page_pixel(result, extent_mm)) for plane in ROWS]

    def shown(volumes: Sequence[Volume]) -> list[NDArray[np.float32]]:
        pairs = zip(volumes, rows, strict=True)
        return [cuts(volume, [row], centre, directions)[0] for volume, row in pairs]

    own = shown([planes.get(plane, first) for plane in ROWS])
    made = shown([result] * 3)
    window = low, high = display_window(first, centre, extent_mm)
    overlaid = []
    for a, b in zip(own, made, strict=True):
        grey = np.clip((np.nan_to_num(b, nan=low) - low) / (high - low), 0, 1)
        picture = np.repeat(grey[..., None], 3, axis=2)
        picture[_edges(a)] = np.array(ZONE_COLOURS["PZ"]) / 255
        overlaid.append(picture.astype(np.float32))
    columns = [
        Column("measured", own),
        Column(f"{first.plane} alone", shown([alone] * 3)),
        Column("all planes", made),
        Column("edges of measured", overlaid),
    ]
    return page_png(columns, rows, window, f"{first.plane} {number} - {title}")


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
    columns: Sequence[Column], rows: Sequence[PanelRow], window: tuple[float, float], title: str
) -> bytes:
    """Lay the panels out so that one array element is one pixel of the page, as the bytes of a PNG.

    All panels have one size; ``(n, n, 3)`` from 0 to 1 is shown in colour. The title may have lines.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    side = columns[0].panels[0].shape[0]
    width = _MARGIN + len(columns) * (side + _GAP)
    lines = title.split("\n") if title else []
    height = len(rows) * (side + _GAP) + _HEADER + _MARGIN * len(lines)
    size = 9 if side < 450 else 14
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    differences = LinearSegmentedColormap.from_list("differences", _DIFFERENCE)
    lefts = [_MARGIN + c * (side + _GAP) for c in range(len(columns))]
    bottoms = [_GAP + r * (side + _GAP) for r in reversed(range(len(rows)))]
    for left, column in zip(lefts, columns, strict=True):
        for bottom, row, values in zip(bottoms, rows, column.panels, strict=True):
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            axes.set_axis_off()
            low, high = column.window or window
            cmap = differences if column.window else "gray"
            shown = np.ma.masked_invalid(values)  # what lies outside the volume stays black
            axes.imshow(shown, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
            _annotate(axes, row.plane, side, row.extent_mm, size)
        top = len(rows) * (side + _GAP) + _HEADER / 2
        _text(figure, (left + side / 2) / width, top / height, column.label, fontsize=size)
    for bottom, row in zip(bottoms, rows, strict=True):
        name = f"{row.plane}, {row.extent_mm:g} mm"
        _text(
            figure,
            _MARGIN / 2 / width,
            (bottom + side / 2) / height,
            name,
            rotation=90,
            fontsize=size,
        )
    for number, line in enumerate(lines):
        _text(figure, 0.5, 1 - _MARGIN * (number + 0.5) / height, line, fontsize=size)
    picture = io.BytesIO()
    canvas.print_png(picture, metadata={"Software": "mrisr"})
    return picture.getvalue()


def _annotate(axes: Axes, plane: str, side: int, extent_mm: float, size: int) -> None:
    """Orientation letters on the edges and a scale bar."""
    across, along = (_LETTERS[axis] for axis in SCREEN[plane])
    edges = (0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03)
    for (x, y), letter in zip(edges, across + along, strict=True):
        _text(axes, x, y, letter, transform=axes.transAxes, fontsize=size)
    bar = next((b for b in (20, 10, 5, 2) if b <= extent_mm / 3), 1)
    start, length, row = 0.05 * side, bar / extent_mm * side, 0.95 * side
    for colour, wide in (("black", 4.5), ("white", 2.5)):
        axes.plot([start, start + length], [row, row], color=colour, linewidth=wide)
    _text(
        axes,
        0.05 + bar / extent_mm / 2,
        0.085,
        f"{bar} mm",
        transform=axes.transAxes,
        fontsize=size,
    )


def _text(where: Axes | Figure, x: float, y: float, text: str, **options: Any) -> None:
    """White text with a dark edge, centred on ``(x, y)`` as fractions of the axes or the page."""
    from matplotlib.patheffects import withStroke

    drawn = where.text(x, y, text, color="white", ha="center", va="center", **options)
    drawn.set_path_effects([withStroke(linewidth=2, foreground="black")])
    drawn.set_parse_math(False)
