"""The pictures of a study: its volumes read, and cut the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mrisr.batch.names import LABELS, SOURCE
from mrisr.batch.report import view
from mrisr.batch.report.tree import Study, mapping
from mrisr.batch.report.words import volume_title
from mrisr.core.errors import MrisrError
from mrisr.core.volume import Volume
from mrisr.io import read_volume
from mrisr.view import qc
from mrisr.zones.score import zone_volumes_ml

#: Side in pixels of the pictures in the table of all studies, and their JPEG quality.
THUMBNAIL, _THUMBNAIL_QUALITY = 96, 75
_THUMBNAIL_MM = {"axial": 24.0, "coronal": 48.0}
Read = Callable[..., Volume]


@dataclass(frozen=True)
class Choice:
    """A layer that may be chosen for a side of the slider."""

    key: str
    title: str


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
    left: tuple[Choice, ...]
    right: tuple[Choice, ...]
    figures: tuple[view.Figure, ...]
    outlined: bool
    referenced: bool


@dataclass
class Pictures:
    """Pictures and curves of the volumes of a study.

    Attributes:
        thumbnails: measured and first upsampled volume, as small data URIs; empty where either is missing.
        volumes_ml: segmented volume -> zone -> ml.
        problems: volumes that could not be read, in words.
    """

    viewers: list[Viewer] = field(default_factory=list)
    thumbnails: tuple[str, ...] = ()
    volumes_ml: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Reader:
    """Reads volumes of a study; what cannot be read is a problem in words."""

    def __init__(self, study: Study, read: Read) -> None:
        self.study, self.read = study, read
        self.problems: list[str] = []

    def __call__(self, room: str, name: str, *, labels: bool = False) -> Volume | None:
        """A volume; `None` where it is missing or cannot be read."""
        path = self.study.volume(room, name)
        if not path.exists():
            return None
        try:
            return self.read(path, allow_constant=labels)
        except MrisrError as error:
            told = str(error).replace(f"{self.study.folder}/", "")
            self.problems.append(f"Not shown, it cannot be read: {told}")
            return None


def make_pictures(study: Study, read: Read = read_volume) -> Pictures:
    """Cut the study's volumes. What cannot be read is left out and told."""
    reader = _Reader(study, read)
    stacks = {p: v for p in view.PLANES if (v := reader("source", p)) is not None}
    found = {name: reader("zones", name, labels=True) for name in study.zones}
    zones = {name: volume for name, volume in found.items() if volume is not None}
    labels = reader("source", LABELS, labels=True)
    pictures = Pictures(volumes_ml={name: zone_volumes_ml(v) for name, v in zones.items()})
    for plane, names in _by_stack(study, stacks).items():
        made = {n: v for n in names if (v := reader("upsampled", n)) is not None}
        if made:
            _show(pictures, study, (plane, stacks), made, (zones, labels))
    pictures.problems = reader.problems
    return pictures


def _show(
    pictures: Pictures,
    study: Study,
    scan: tuple[str, dict[str, Volume]],
    made: dict[str, Volume],
    labelled: tuple[dict[str, Volume], Volume | None],
) -> None:
    """Add the viewer of one stack's volumes, and what else needs its frame."""
    (plane, stacks), (zones, labels) = scan, labelled
    source = stacks[plane]
    layers = _layers(study, plane, stacks, made, zones)
    slices = min(view.SLICES, max(3, view.PICTURES // len(layers) - 2))
    gland = next((g for g in (zones.get(SOURCE), labels) if _holds(g)), None)
    frame = view.gland_frame(source, gland, slices)
    figures = view.cut(frame, layers, labels)
    pictures.viewers.append(
        Viewer(
            plane,
            tuple(Choice(x.key, x.title) for x in layers if x.side == "left"),
            tuple(Choice(x.key, x.title) for x in layers if x.side == "right"),
            tuple(figures),
            any(layer.zones is not None for layer in layers),
            labels is not None,
        )
    )
    if not pictures.thumbnails:
        first = next(x for x in layers if x.side == "right")
        shown = "coronal" if study.records[first.key].get("job") == "throughplane" else "axial"
        pictures.thumbnails = tuple(_thumbnail(frame, x, shown) for x in (layers[0], first))


def _layers(
    study: Study,
    plane: str,
    stacks: dict[str, Volume],
    made: dict[str, Volume],
    zones: dict[str, Volume],
) -> list[view.Layer]:
    """The measured stack, the same interpolated, the volumes made of it, the patient's other stacks."""
    source = stacks[plane]
    window = qc.display_window(source)
    of_source = zones.get(SOURCE)
    layers = [
        view.Layer("measured", "measured", "left", source, window, zones=of_source),
        view.Layer(
            "interpolated", "interpolated", "left", source, window, qc.spline_of(source), of_source
        ),
    ]
    for name, volume in made.items():
        title = volume_title(name, study.records[name])
        layers.append(view.Layer(name, title, "right", volume, window, zones=zones.get(name)))
    for other, volume in stacks.items():
        if other != plane:
            key, own = f"scan:{other}", qc.display_window(volume)
            layers.append(view.Layer(key, f"{other} scan", "left", volume, own))
    return layers


def _by_stack(study: Study, stacks: dict[str, Volume]) -> dict[str, list[str]]:
    """The upsampled volumes of each measured stack, which is that of the plane in their record."""
    found: dict[str, list[str]] = {}
    for name, record in study.records.items():
        stated = mapping(record.get("input")).get("plane")
        plane = stated if stated in stacks else next(iter(stacks), None)
        if plane is not None:
            found.setdefault(str(plane), []).append(name)
    return found


def _holds(labels: Volume | None) -> bool:
    return labels is not None and bool(labels.array.any())


def _thumbnail(frame: view.Frame, layer: view.Layer, plane: str) -> str:
    """A small part of the central cut, on which single voxels can be told."""
    field_mm = _THUMBNAIL_MM[plane]
    panel = frame.central(layer.volume, plane, field_mm, field_mm / THUMBNAIL)
    return view.data_uri(panel, layer.window, _THUMBNAIL_QUALITY)
