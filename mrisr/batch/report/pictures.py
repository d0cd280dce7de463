"""The pictures of a study: its volumes read, and cut the same way."""

from __future__ import annotations

from dataclasses import dataclass, field

from mrisr.batch.report import view
from mrisr.batch.report.tree import MEASURED, UNCERTAINTY, Study, mapping
from mrisr.batch.report.words import volume_title
from mrisr.core.errors import MrisrError
from mrisr.core.volume import Volume
from mrisr.io import read_volume
from mrisr.view import qc
from mrisr.zones.labels import ZONES

#: Side in pixels of the pictures in the table of all studies, and their JPEG quality.
THUMBNAIL, _THUMBNAIL_QUALITY = 96, 75
_THUMBNAIL_MM = {"axial": 24.0, "coronal": 48.0}
_STACKS = view.PLANES


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
    extent_mm: float
    outlined: bool
    referenced: bool


@dataclass(frozen=True)
class Map:
    """How sure a volume is: its three central cuts, light where it is less sure, and the scale's ends."""

    title: str
    images: dict[str, str]
    low: float
    high: float


@dataclass
class Pictures:
    """What the volumes of a study gave.

    Attributes:
        thumbnails: measured and first upsampled volume, as small data URIs; none where either is missing.
        volumes_ml: segmented volume -> zone -> ml.
        maps: of uncertainty.
        problems: volumes that could not be read, in words.
    """

    viewers: list[Viewer] = field(default_factory=list)
    thumbnails: tuple[str, ...] = ()
    volumes_ml: dict[str, dict[str, float]] = field(default_factory=dict)
    maps: list[Map] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(
        self, study: Study, room: str, name: str, *, allow_constant: bool = False
    ) -> Volume | None:
        """A volume of the study; None where it is missing, or a problem noted."""
        path = study.volume(room, name)
        if not path.exists():
            return None
        try:
            return read_volume(path, allow_constant=allow_constant)
        except MrisrError as error:
            told = str(error).replace(f"{study.folder}/", "")
            self.problems.append(f"Not shown, it cannot be read: {told}")
            return None


def make_pictures(study: Study) -> Pictures:
    """Read the study's volumes and cut them. What cannot be read is left out and told."""
    pictures = Pictures()
    stacks = {p: v for p in _STACKS if (v := pictures.read(study, "source", p)) is not None}
    zones = {}
    for name in study.zones:
        found = pictures.read(study, "zones", name, allow_constant=True)
        if found is not None:
            zones[name] = found
            pictures.volumes_ml[name] = _volumes_ml(found)
    labels = pictures.read(study, "source", "labels", allow_constant=True)
    for plane, names in _by_stack(study, stacks).items():
        made = {n: v for n in names if (v := pictures.read(study, "upsampled", n)) is not None}
        if made:
            _show(pictures, study, (plane, stacks), made, (zones, labels))
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
    gland = next((g for g in (zones.get(MEASURED), labels) if _holds(g)), None)
    frame = view.gland_frame(source, gland, slices)
    figures = view.cut(frame, layers, labels)
    pictures.viewers.append(
        Viewer(
            plane,
            tuple(Choice(x.key, x.title) for x in layers if x.side == "left"),
            tuple(Choice(x.key, x.title) for x in layers if x.side == "right"),
            tuple(figures),
            frame.extent_mm,
            any(layer.zones is not None for layer in layers),
            labels is not None,
        )
    )
    if not pictures.thumbnails:
        first = next(x for x in layers if x.side == "right")
        shown = "coronal" if study.records[first.key].get("job") == "throughplane" else "axial"
        pictures.thumbnails = tuple(_thumbnail(frame, x, shown) for x in (layers[0], first))
    for name in made:
        uncertainty = pictures.read(study, "upsampled", f"{name}{UNCERTAINTY}", allow_constant=True)
        if uncertainty is not None:
            title = volume_title(name, study.records[name])
            pictures.maps.append(_map(frame, uncertainty, title))


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
    of_source = zones.get(MEASURED)
    layers = [
        view.Layer("measured", "measured", "left", source, window, zones=of_source),
        view.Layer("interpolated", "interpolated", "left", source, window, True, of_source),
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


def _volumes_ml(labels: Volume) -> dict[str, float]:
    voxel = float(labels.spacing.prod()) / 1000
    return {zone: voxel * int((labels.array == n).sum()) for zone, n in ZONES.items()}


def _thumbnail(frame: view.Frame, layer: view.Layer, plane: str) -> str:
    """A small part of the central cut, on which single voxels can be told."""
    field_mm = _THUMBNAIL_MM[plane]
    panel = view.central_panel(frame, layer.volume, plane, field_mm, field_mm / THUMBNAIL)
    return view.data_uri(panel, layer.window, _THUMBNAIL_QUALITY)


def _map(frame: view.Frame, volume: Volume, title: str) -> Map:
    window = qc.display_window(volume)
    images = {p: view.data_uri(view.central_panel(frame, volume, p), window) for p in view.PLANES}
    return Map(title, images, *window)
