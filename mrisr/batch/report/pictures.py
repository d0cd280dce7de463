"""The pictures of a study: its volumes cut through the same points of the world, and outlines of zones."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.batch.names import LABELS, SOURCE, VOLUME
from mrisr.core import geometry
from mrisr.core.errors import MrisrError
from mrisr.core.volume import Volume
from mrisr.io import read_volume
from mrisr.view import cuts
from mrisr.zones.labels import ZONES
from mrisr.zones.plausibility import doubts

if TYPE_CHECKING:
    from mrisr.batch.report.page import StudyResults

#: Side in mm of the field shown where the gland is not known.
FIELD_MM = 90.0
#: The field is wider than the gland by this factor, within these limits in mm.
_MARGIN, _NARROW, _WIDE = 1.4, 64.0, 110.0
#: Share of the gland's voxels that may lie outside its box at either end.
_STRAY = 0.003
#: Axial slices to browse.
SLICES = 9
#: Units of the outlines' paths in a pixel, so that they are written in whole numbers.
UNITS = 10
#: Standard deviation in pixels of the smoothing that takes the stairs off, and vertices to a step.
_SMOOTHING, _STRIDE = 1.0, 3
#: Pictures of a viewer in all.
PICTURES = 60

Read = Callable[..., Volume]
Panel = NDArray[np.float32]
Box = tuple[slice, slice]
Point = NDArray[np.float64]


class Position(NamedTuple):
    """Place of a cut: mm from the centre towards the head, the left or the front, and that in words."""

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
        """A cut, as :func:`mrisr.view.cuts.panel` makes it."""
        where = plane, self.at(offset_mm), self.extent_mm
        return cuts.panel(volume, *where, directions=self.directions, spline=spline)


@dataclass(frozen=True)
class Layer:
    """A volume as it is shown, on a side of the slider; ``spline`` of one that is shown interpolated."""

    key: str
    title: str
    side: str
    volume: Volume
    window: tuple[float, float]
    spline: Panel | None = None
    zones: Volume | None = None


class Shown(NamedTuple):
    """A layer at a position: its image as a data URI and outlines by zone."""

    layer: Layer
    position: int
    image: str
    outlines: dict[str, str]


class Figure(NamedTuple):
    """All layers at all positions of a plane; sizes in pixels.

    ``reference`` are the outlines of the reference labels, ``lines`` the rows at which axial cuts cross.
    """

    plane: str
    width: int
    height: int
    positions: tuple[Position, ...]
    start: int
    pictures: list[Shown]
    reference: list[dict[str, str]]
    lines: list[float]


class Viewer(NamedTuple):
    """The volumes made of a stack of a plane, beside it.

    ``left`` and ``right`` is what may be chosen for either side, the first of each shown at first;
    ``referenced`` whether there are reference labels; ``thumbnails`` a small part of the measured and of the
    first upsampled volume as data URIs, on which single voxels can be told.
    """

    plane: str
    left: list[Layer]
    right: list[Layer]
    figures: list[Figure]
    referenced: bool
    thumbnails: list[str]


def make_pictures(study: StudyResults, read: Read = read_volume) -> tuple[list[Viewer], list[str]]:
    """Cut the study's volumes: a viewer for each stack, and in words what could not be read."""
    viewers: list[Viewer] = []
    problems: list[str] = []

    def found(room: str, *names: str, labels: bool = False) -> dict[str, Volume]:
        volumes = {}
        for name in names:
            path = study.folder / room / f"{name}{VOLUME}"
            try:
                if path.exists():
                    volumes[name] = read(path, allow_constant=labels)
            except MrisrError as error:
                told = str(error).replace(f"{study.folder}/", "")
                problems.append(f"Not shown, it cannot be read: {told}")
        return volumes

    stacks = found("source", *cuts.ROWS)
    zones = found("zones", *study.zones, labels=True)
    labels = found("source", LABELS, labels=True).get(LABELS)
    for plane, names in study.by_stack(stacks).items():
        made, unsure = (found(room, *names) for room in ("upsampled", "uncertainty"))
        if not made:
            continue
        slices = min(SLICES, max(3, PICTURES // (1 + len(made) + len(unsure) + len(stacks)) - 2))
        segmented = zones.get(SOURCE)  # in doubt, they may lie anywhere
        own = None if segmented is None or doubts(segmented) else segmented
        glands = (g for g in (own, labels) if g is not None and g.array.any())
        frame = gland_frame(stacks[plane], next(glands, None), slices)
        layers = _layers(study, plane, stacks, made, unsure, zones, frame)
        left, right = ([x for x in layers if x.side == side] for side in ("left", "right"))
        figures = [figure(frame, shown, layers, labels) for shown in cuts.ROWS]
        through = study.records[right[0].key].get("job") == "throughplane"
        thumbnails = [thumbnail(frame, layer, through) for layer in (left[0], right[0])]
        viewers.append(Viewer(plane, left, right, figures, labels is not None, thumbnails))
    return viewers, problems


def _layers(
    study: StudyResults,
    plane: str,
    stacks: dict[str, Volume],
    made: dict[str, Volume],
    unsure: dict[str, Volume],
    zones: dict[str, Volume],
    frame: Frame,
) -> list[Layer]:
    """The measured stack, the same interpolated, the volumes made of it with the maps of their standard
    deviation, the patient's other stacks."""
    source = stacks[plane]
    shown = frame.centre, frame.extent_mm
    window, own = cuts.display_window(source, *shown), zones.get(SOURCE)
    spline = cuts.spline_of(source)
    layers = [
        Layer("measured", "measured", "left", source, window, zones=own),
        Layer("interpolated", "interpolated", "left", source, window, spline, own),
    ]
    for name, volume in made.items():
        title = study.title(name)
        layers.append(Layer(name, title, "right", volume, window, zones=zones.get(name)))
        if name in unsure:
            top = cuts.display_window(unsure[name], *shown)[1]
            title = f"standard deviation of {title} (white: {top:.3g})"
            layers.append(Layer(f"sd:{name}", title, "right", unsure[name], (0.0, top)))
    for other, volume in stacks.items():
        if other != plane:
            key, brightness = f"scan:{other}", cuts.display_window(volume, *shown)
            layers.append(Layer(key, f"{other} scan", "left", volume, brightness))
    return layers


def gland_frame(source: Volume, gland: Volume | None, slices: int = SLICES) -> Frame:
    """The frame around the labels of the gland, or in the middle of the source where there are none."""
    d = cuts.anatomical_directions(source.affine)
    to_frame = np.asarray(np.linalg.inv(d), dtype=np.float64)
    if gland is None:
        corners = np.array(np.meshgrid(*((0, n - 1) for n in source.shape))).reshape(3, -1)
        points, stray = source.affine[:3, :3] @ corners + source.affine[:3, 3:], 0.0
    else:
        found = np.array(np.nonzero(gland.array))
        points, stray = gland.affine[:3, :3] @ found + gland.affine[:3, 3:], _STRAY
    low, high = np.quantile(to_frame @ points, (stray, 1 - stray), axis=1)
    centre, size = d @ ((low + high) / 2), high - low
    if gland is None:
        extent, reach = FIELD_MM, FIELD_MM / 2
    else:
        extent, reach = float(np.clip(_MARGIN * size.max(), _NARROW, _WIDE)), size[2] / 2
    positions = _positions(source, to_frame, centre, reach, slices)
    return Frame(d, centre, 2 * round(extent / 2), positions)


def _positions(
    source: Volume, to_frame: NDArray[np.float64], centre: Point, reach: float, slices: int
) -> tuple[Position, ...]:
    """Slices of the source within reach, evenly spread; each is a whole slice of an axial stack."""
    axis = geometry.world_axes(source.affine).index(2)
    count = source.shape[axis]
    index = np.tile((np.array(source.shape)[:, None] - 1) / 2, count)
    index[axis] = np.arange(count)
    world = source.affine[:3, :3] @ index + source.affine[:3, 3:]
    offsets = np.sort((to_frame @ (world - centre[:, None]))[2])
    near = np.flatnonzero(np.abs(offsets) <= max(reach, np.abs(offsets).min()) + 1e-6)
    chosen = near[np.unique(np.rint(np.linspace(0, near.size - 1, slices)).astype(int))]
    what = "slice" if source.slice_axis == axis else "row"
    return tuple(
        Position(float(offsets[n]), f"{what} {n + 1} of {count}, counted from the feet")
        for n in chosen
    )


def figure(
    frame: Frame, plane: str, layers: Sequence[Layer], labels: Volume | None = None
) -> Figure:
    """The figure of a plane: axial at all positions, the others through the centre.

    Args:
        layers: the first is the measured volume; what it covers is shown.
        labels: a reader's, whose outlines are drawn over all layers.
    """
    axial = plane == "axial"
    positions = frame.positions if axial else (Position(0.0, "through the centre"),)
    start = int(np.abs([p.offset_mm for p in positions]).argmin())
    box = _box(frame.cut(layers[0].volume, plane, positions[start].offset_mm))

    def outlines(zones: Volume | None, offset_mm: float) -> dict[str, str]:
        return {} if zones is None else zone_paths(frame.cut(zones, plane, offset_mm)[box])

    pictures = []
    for layer in layers:
        for number, (offset, _) in enumerate(positions):
            panel = frame.cut(layer.volume, plane, offset, layer.spline)[box]
            image = data_uri(panel, layer.window)
            pictures.append(Shown(layer, number, image, outlines(layer.zones, offset)))
    reference = [] if labels is None else [outlines(labels, p.offset_mm) for p in positions]
    top = frame.extent_mm / 2 - float(box[0].start) * cuts.PIXEL_MM
    lines = [(top - p.offset_mm) / cuts.PIXEL_MM for p in frame.positions if not axial]
    height, width = (side.stop - side.start for side in box)
    return Figure(plane, width, height, positions, start, pictures, reference, lines)


def thumbnail(frame: Frame, layer: Layer, through: bool) -> str:
    """The middle of the central cut as a data URI; the coronal one shows what is gained between slices."""
    plane, extent_mm = ("coronal", 48.0) if through else ("axial", 24.0)
    panel = replace(frame, extent_mm=extent_mm).cut(layer.volume, plane, 0.0)
    return data_uri(panel, layer.window, quality=75)


def data_uri(panel: Panel, window: tuple[float, float], quality: int = 85) -> str:
    """Values ``(h, w)`` as a grey JPEG in the text of a link; NaN is black."""
    from PIL import Image

    low, high = window
    levels = np.clip((np.nan_to_num(panel, nan=low) - low) / (high - low), 0, 1) * 255
    file = io.BytesIO()
    picture = Image.fromarray(np.rint(levels).astype(np.uint8))
    picture.save(file, format="JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def zone_paths(labels: Panel) -> dict[str, str]:
    """SVG paths around the zones of a cut, by the zones' short names; those that occur.

    Args:
        labels: ``(h, w)``, NaN outside the volume.
    """
    paths = {zone: outline(labels == label) for zone, label in ZONES.items()}
    return {zone: path for zone, path in paths.items() if path}


def outline(mask: NDArray[np.bool_]) -> str:
    """The borders of a mask ``(h, w)`` as an SVG path, closed, holes included; ``""`` without any.

    A pixel is ``UNITS`` wide, and the upper left corner of the first one is the origin.

    >>> outline(np.zeros((4, 4), dtype=bool))
    ''
    """
    if not mask.any():
        return ""
    from contourpy import contour_generator
    from scipy.ndimage import gaussian_filter

    margin = 4
    smooth = gaussian_filter(np.pad(mask, margin).astype(np.float32), _SMOOTHING)
    path = ""
    for line in contour_generator(z=smooth).lines(0.5):
        if len(line) <= 2 * _STRIDE:
            continue
        points = (np.asarray(line)[:-1:_STRIDE] + 0.5 - margin) * UNITS
        at = np.rint(points).astype(int)
        steps = np.diff(at, axis=0)
        told = " ".join(f"{x} {y}" for x, y in steps[np.any(steps != 0, axis=1)])
        path += f"M{at[0, 0]} {at[0, 1]}l{told}z"
    return path


def _box(panel: Panel) -> Box:
    """Rows and columns that hold anything; all where none does."""
    seen = np.isfinite(panel)
    if not seen.any():
        return slice(0, panel.shape[0]), slice(0, panel.shape[1])
    rows, columns = (np.flatnonzero(seen.any(axis=a)) for a in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
