"""napari: studies as layers, with all checks of the readers, and a widget that super-resolves one.

The axes of a layer's world are S, P and L in mm: axial slices under the slider, the front of the body above,
its left on the right. napari itself is imported when the widget runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.options import InPlane, ThroughPlane
from mrisr.core.volume import Volume
from mrisr.runs.run import run
from mrisr.view.cuts import display_window, middle_slice

if TYPE_CHECKING:
    import napari

#: Values, options of the layer and its kind, as napari takes them.
LayerData = tuple[Any, dict[str, Any], str]
#: R, A, S to S, P, L.
_WORLD = np.array([[0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
#: Key of a layer's metadata under which its volume lies.
VOLUME = "mrisr"


def as_layer(volume: Volume, name: str) -> LayerData:
    """Turn a volume into a layer: its array axes in the order of the world's."""
    order = np.argsort([(2, 1, 0)[axis] for axis in geometry.world_axes(volume.affine)])
    affine = _WORLD @ volume.affine[:, [*order, 3]]
    centre, _ = middle_slice(volume)
    options = {
        "name": name,
        "affine": affine,
        "contrast_limits": display_window(volume, centre, 90.0),
        "colormap": "gray",
        "metadata": {VOLUME: volume},
    }
    return volume.array.transpose(order), options, "image"


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Find the reader of a file or of the folder of a DICOM series; ``None`` for several."""
    return read if isinstance(path, str) else None


def read(path: str) -> list[LayerData]:
    """Read a study as one layer. Raises InputError, which says what is wrong with it."""
    from mrisr.io import read_volume

    volume = read_volume(path)
    return [as_layer(volume, volume.name or "study")]


def restored(
    metadata: dict[str, Any], name: str, job: Literal["inplane", "throughplane"], factor: float
) -> LayerData:
    """Super-resolve the study of a layer.

    Raises:
        UsageError: the layer was not read by mrisr, so slice thickness and geometry are not known.
    """
    volume = metadata.get(VOLUME)
    if not isinstance(volume, Volume):
        raise UsageError(f"layer {name}: expected one that mrisr has read (File, Open, with mrisr)")
    settings = InPlane(scale=factor) if job == "inplane" else ThroughPlane(factor=factor)
    return as_layer(run(volume, settings).image, f"{name} {job} x{factor:g}")


def super_resolve(
    image: napari.layers.Image,
    job: Literal["inplane", "throughplane"] = "inplane",
    factor: float = 2.0,
) -> napari.qt.threading.FunctionWorker[napari.types.LayerDataTuple]:
    """Super-resolve the study of a layer in the background; the result is a new layer over it."""
    from napari.qt.threading import create_worker

    return create_worker(restored, image.metadata, image.name, job, factor)
