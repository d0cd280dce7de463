"""Cuts of several volumes through the same points of the world, as pictures for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.batch.report.outlines import zone_paths
from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.view import qc

PLANES = qc.ROWS
#: What lies at the left, right, upper and lower edge of a picture.
LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
#: Side in mm of the field shown where the gland is not known.
FIELD_MM = 90.0
#: The field is wider than the gland by this factor, within these limits in mm.
_MARGIN, _NARROW, _WIDE = 1.4, 64.0, 110.0
#: Share of the gland's voxels that may lie outside its box at either end.
_STRAY = 0.003
#: Axial slices to browse, and pictures in all.
SLICES, PICTURES = 9, 60
#: Of the JPEG files.
QUALITY = 85

Panel = NDArray[np.float32]
Box = tuple[slice, slice]
Point = NDArray[np.float64]


class Position(NamedTuple):
    """Where a cut lies: mm from the centre towards the head, the left or the front, and that in words."""

    offset_mm: float
    label: str


@dataclass(frozen=True)
class Frame:
    """Place of the cuts: along ``directions`` (columns right, anterior, superior) about ``centre``."""

    directions: NDArray[np.float64]
    centre: Point
    extent_mm: float
    positions: tuple[Position, ...]

    def at(self, offset_mm: float) -> Point:
        """The centre of the axial cut at an offset."""
        return self.centre + offset_mm * self.directions[:, 2]

    def cut(
        self, volume: Volume, plane: str, offset_mm: float, spline: Panel | None = None
    ) -> Panel:
        """A cut, as :func:`mrisr.view.qc.panel` makes it."""
        where = plane, self.at(offset_mm), self.extent_mm
        return qc.panel(volume, *where, directions=self.directions, spline=spline)

    def central(self, volume: Volume, plane: str, extent_mm: float, pixel_mm: float) -> Panel:
        """The central cut by the nearest voxels, of another extent and pixel size."""
        offset = _middle(self.positions) if plane == "axial" else 0.0
        return qc.panel(volume, plane, self.at(offset), extent_mm, pixel_mm, self.directions)


@dataclass(frozen=True)
class Layer:
    """A volume as it is shown.

    Attributes:
        key: tells it from others on the page.
        side: on which side of the slider it may be chosen.
        spline: of a volume that is shown interpolated, not by its nearest voxels.
        zones: labels whose outlines are drawn.
    """

    key: str
    title: str
    side: str
    volume: Volume
    window: tuple[float, float]
    spline: Panel | None = None
    zones: Volume | None = None


@dataclass(frozen=True)
class Shown:
    """A layer at a position: its image as a data URI and outlines by zone."""

    layer: str
    position: int
    image: str
    outlines: dict[str, str]


@dataclass(frozen=True)
class Figure:
    """All layers at all positions of a plane; sizes in pixels."""

    plane: str
    width: int
    height: int
    positions: tuple[Position, ...]
    start: int
    pictures: list[Shown]
    reference: list[dict[str, str]] = field(default_factory=list)
    lines: tuple[float, ...] = ()  # rows of the axial positions, on the other planes


def gland_frame(source: Volume, zones: Volume | None, slices: int = SLICES) -> Frame:
    """The frame around the gland, or in the middle of the source where there are no zones."""
    d = qc.anatomical_directions(source.affine)
    to_frame = np.asarray(np.linalg.inv(d), dtype=np.float64)
    low, high = _extent(source, None, to_frame)
    extent, reach = FIELD_MM, (-FIELD_MM / 2, FIELD_MM / 2)
    found = zones is not None and np.asarray(zones.array).any()
    if zones is not None and found:
        low, high = _extent(zones, zones.array != 0, to_frame)
        extent = float(np.clip(_MARGIN * (high - low).max(), _NARROW, _WIDE))
        reach = (-(high - low)[2] / 2, (high - low)[2] / 2)
    centre = d @ ((low + high) / 2)
    positions = _positions(source, to_frame, centre, reach, slices)
    return Frame(d, centre, 2 * round(extent / 2), positions)


def cut(frame: Frame, layers: Sequence[Layer], labels: Volume | None = None) -> list[Figure]:
    """The figures of the three planes: axial at all positions, the others through the centre.

    Args:
        layers: the first is the measured volume; what it covers is shown.
        labels: a reader's, whose outlines are drawn over all layers.
    """
    figures = []
    for plane in PLANES:
        axial = plane == "axial"
        positions = frame.positions if axial else (Position(0.0, "through the centre"),)
        box = _box(frame.cut(layers[0].volume, plane, _middle(positions)))
        pictures = [
            picture
            for layer in layers
            for picture in _pictures(frame, layer, plane, positions, box)
        ]
        figures.append(
            Figure(
                plane,
                box[1].stop - box[1].start,
                box[0].stop - box[0].start,
                positions,
                _start(positions),
                pictures,
                _outlines(frame, labels, plane, positions, box),
                () if axial else tuple(_row(frame, p.offset_mm, box) for p in frame.positions),
            )
        )
    return figures


def data_uri(panel: Panel, window: tuple[float, float], quality: int = QUALITY) -> str:
    """Values ``(h, w)`` as a grey JPEG in the text of a link; NaN is black."""
    from PIL import Image

    low, high = window
    levels = np.clip((np.nan_to_num(panel, nan=low) - low) / (high - low), 0, 1) * 255
    file = io.BytesIO()
    Image.fromarray(np.rint(levels).astype(np.uint8)).save(
        file, format="JPEG", quality=quality, optimize=True
    )
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _pictures(
    frame: Frame, layer: Layer, plane: str, positions: Sequence[Position], box: Box
) -> Iterator[Shown]:
    outlines = _outlines(frame, layer.zones, plane, positions, box)
    for index, position in enumerate(positions):
        panel = frame.cut(layer.volume, plane, position.offset_mm, layer.spline)
        drawn = outlines[index] if outlines else {}
        yield Shown(layer.key, index, data_uri(panel[box], layer.window), drawn)


def _outlines(
    frame: Frame, labels: Volume | None, plane: str, positions: Sequence[Position], box: Box
) -> list[dict[str, str]]:
    if labels is None:
        return []
    return [zone_paths(frame.cut(labels, plane, p.offset_mm)[box]) for p in positions]


def _extent(
    volume: Volume, mask: NDArray[np.bool_] | None, to_frame: NDArray[np.float64]
) -> tuple[Point, Point]:
    """Lowest and highest coordinate, in the frame's axes, of the box of voxels that are set but for a few
    stray ones, or of all."""
    low, high = np.zeros(3), np.array(volume.shape, dtype=np.float64)
    if mask is not None:
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            share = np.cumsum(np.count_nonzero(mask, axis=others)) / np.count_nonzero(mask)
            low[axis], high[axis] = np.searchsorted(share, (_STRAY, 1 - _STRAY)) + (0, 1)
    ends = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1) - 0.5
    corners = to_frame @ (volume.affine[:3, :3] @ ends + volume.affine[:3, 3:])
    return corners.min(axis=1), corners.max(axis=1)


def _positions(
    source: Volume,
    to_frame: NDArray[np.float64],
    centre: Point,
    reach: tuple[float, float],
    slices: int,
) -> tuple[Position, ...]:
    """Slices of the source within reach, evenly spread; each is a whole slice of an axial stack."""
    axis = geometry.world_axes(source.affine).index(2)
    count = source.shape[axis]
    index = np.tile((np.array(source.shape)[:, None] - 1) / 2, count)
    index[axis] = np.arange(count)
    world = source.affine[:3, :3] @ index + source.affine[:3, 3:]
    offsets = np.sort((to_frame @ (world - centre[:, None]))[2])
    near = np.flatnonzero((offsets >= reach[0]) & (offsets <= reach[1]))
    if not near.size:
        near = np.array([np.abs(offsets).argmin()])
    chosen = near[np.unique(np.rint(np.linspace(0, near.size - 1, slices)).astype(int))]
    what = "slice" if source.slice_axis == axis else "row"
    return tuple(
        Position(float(offsets[n]), f"{what} {n + 1} of {count}, counted from the feet")
        for n in chosen
    )


def _start(positions: Sequence[Position]) -> int:
    return int(np.abs([p.offset_mm for p in positions]).argmin())


def _middle(positions: Sequence[Position]) -> float:
    return positions[_start(positions)].offset_mm


def _box(panel: Panel) -> Box:
    """Rows and columns that hold anything; all where none does."""
    seen = np.isfinite(panel)
    if not seen.any():
        return slice(0, panel.shape[0]), slice(0, panel.shape[1])
    rows, columns = (np.flatnonzero(seen.any(axis=a)) for a in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _row(frame: Frame, offset_mm: float, box: Box) -> float:
    """The row of a coronal or sagittal picture at which an axial cut crosses it."""
    return (frame.extent_mm / 2 - offset_mm) / qc.PIXEL_MM - float(box[0].start)
