"""The pictures of a study: its volumes read, and cut the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mrisr.batch.names import LABELS, SOURCE, VOLUME
from mrisr.batch.report import view
from mrisr.batch.report.study import Study
from mrisr.batch.report.words import look
from mrisr.core.errors import MrisrError
from mrisr.core.volume import Volume
from mrisr.io import read_volume
from mrisr.view import qc

#: Pictures of a viewer in all.
PICTURES = 60
#: Side in pixels of the pictures in the table of all studies, and their JPEG quality.
THUMBNAIL, _THUMBNAIL_QUALITY = 96, 75
_THUMBNAIL_MM = {"axial": 24.0, "coronal": 48.0}
Read = Callable[..., Volume]


@dataclass(frozen=True)
class Viewer:
    """The volumes made of one stack, beside it.

    Attributes:
        plane: of the stack.
        left, right: what may be chosen for either side; the first of each is shown at first.
        outlined: whether any volume has zones.
        referenced: whether there are reference labels.
    """

    plane: str
    left: list[view.Layer]
    right: list[view.Layer]
    figures: list[view.Figure]
    outlined: bool
    referenced: bool


@dataclass
class Pictures:
    """Pictures of the volumes of a study.

    Attributes:
        thumbnails: measured and first upsampled volume, as small data URIs; empty where either is missing.
        problems: volumes that could not be read, in words.
    """

    viewers: list[Viewer] = field(default_factory=list)
    thumbnails: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)


def make_pictures(study: Study, read: Read = read_volume) -> Pictures:
    """Cut the study's volumes. What cannot be read is left out and told."""
    pictures = Pictures()

    def found(room: str, *names: str, labels: bool = False) -> dict[str, Volume]:
        volumes = {}
        for name in names:
            path = study.folder / room / f"{name}{VOLUME}"
            try:
                if path.exists():
                    volumes[name] = read(path, allow_constant=labels)
            except MrisrError as error:
                told = str(error).replace(f"{study.folder}/", "")
                pictures.problems.append(f"Not shown, it cannot be read: {told}")
        return volumes

    stacks = found("source", *qc.ROWS)
    zones = found("zones", *study.zones, labels=True)
    labels = found("source", LABELS, labels=True).get(LABELS)
    for plane, names in _by_stack(study, stacks).items():
        made = found("upsampled", *names)
        if not made:
            continue
        layers = _layers(study, plane, stacks, made, zones)
        slices = min(view.SLICES, max(3, PICTURES // len(layers) - 2))
        glands = (g for g in (zones.get(SOURCE), labels) if g is not None and g.array.any())
        frame = view.gland_frame(stacks[plane], next(glands, None), slices)
        left, right = ([x for x in layers if x.side == side] for side in ("left", "right"))
        figures = list(view.cut(frame, layers, labels))
        outlined = any(layer.zones is not None for layer in layers)
        viewer = Viewer(plane, left, right, figures, outlined, labels is not None)
        pictures.viewers.append(viewer)
        if not pictures.thumbnails:
            job = study.records[right[0].key].get("job")
            shown = "coronal" if job == "throughplane" else "axial"
            pictures.thumbnails = tuple(_thumbnail(frame, x[0], shown) for x in (left, right))
    return pictures


def _layers(
    study: Study,
    plane: str,
    stacks: dict[str, Volume],
    made: dict[str, Volume],
    zones: dict[str, Volume],
) -> list[view.Layer]:
    """The measured stack, the same interpolated, the volumes made of it, the patient's other stacks."""
    source = stacks[plane]
    window, own = qc.display_window(source), zones.get(SOURCE)
    spline = qc.spline_of(source)
    layers = [
        view.Layer("measured", "measured", "left", source, window, zones=own),
        view.Layer("interpolated", "interpolated", "left", source, window, spline, own),
    ]
    for name, volume in made.items():
        title = study.title(name)
        layers.append(view.Layer(name, title, "right", volume, window, zones=zones.get(name)))
    for other, volume in stacks.items():
        if other != plane:
            key, brightness = f"scan:{other}", qc.display_window(volume)
            layers.append(view.Layer(key, f"{other} scan", "left", volume, brightness))
    return layers


def _by_stack(study: Study, stacks: dict[str, Volume]) -> dict[str, list[str]]:
    """The upsampled volumes of each measured stack, which is that of the plane in their record."""
    found: dict[str, list[str]] = {}
    for name, record in study.records.items():
        stated = look(record, "input", "plane")
        plane = stated if stated in stacks else next(iter(stacks), None)
        if plane is not None:
            found.setdefault(plane, []).append(name)
    return found


def _thumbnail(frame: view.Frame, layer: view.Layer, plane: str) -> str:
    """A small part of the central cut, on which single voxels can be told."""
    size = _THUMBNAIL_MM[plane]
    centre = frame.at(frame.positions[frame.start].offset_mm if plane == "axial" else 0.0)
    panel = qc.panel(layer.volume, plane, centre, size, size / THUMBNAIL, frame.directions)
    return view.data_uri(panel, layer.window, _THUMBNAIL_QUALITY)
