"""A picture of the image and of the zones outlined on it, to see whether they lie where they should."""

import numpy as np
from numpy.typing import NDArray

from mrisr.core.volume import Volume
from mrisr.view import qc
from mrisr.view.cuts import ROWS, PanelRow, anatomical_directions, cuts, display_window, page_pixel
from mrisr.zones.labels import ZONES

#: Side of the square shown, mm.
EXTENT_MM = 90.0
#: Red, green, blue of each zone, from 0 to 1.
COLOURS = {zone: (r / 255, g / 255, b / 255) for zone, (r, g, b) in qc.ZONE_COLOURS.items()}


def zones_png(image: Volume, labels: Volume, *, title: str = "") -> bytes:
    """Axial, coronal and sagittal cuts through the middle of the gland, as the bytes of a PNG.

    Args:
        image: the segmented image.
        labels: its zones, on the same grid. Without any, the cuts go through the middle of the image.
        title: one line above the picture; all the text that depends on the caller.
    """
    centre = gland_centre(labels)
    where = centre, anatomical_directions(image.affine)
    rows = [PanelRow(plane, EXTENT_MM, page_pixel(image, EXTENT_MM)) for plane in ROWS]
    window = display_window(image, centre, EXTENT_MM)
    plain, zones = cuts(image, rows, *where), cuts(labels, rows, *where)
    outlined = [_outlined(p, z, window) for p, z in zip(plain, zones, strict=True)]
    columns = [qc.Column("measured", plain), qc.Column("zones: PZ orange, TZ blue", outlined)]
    return qc.page_png(columns, rows, window, title)


def _outlined(
    panel: NDArray[np.float32], labels: NDArray[np.float32], window: tuple[float, float]
) -> NDArray[np.float32]:
    """A panel in colour, ``(n, n, 3)`` from 0 to 1, each zone's inner edge drawn on it, 2 pixels wide."""
    from scipy.ndimage import binary_erosion

    low, high = window
    grey = np.nan_to_num(np.clip((panel - low) / (high - low), 0, 1))
    colour = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for zone, label in ZONES.items():
        inside = labels == label
        edge = inside & ~binary_erosion(inside, iterations=2, border_value=True)
        colour[edge] = COLOURS[zone]
    return colour


def gland_centre(labels: Volume) -> NDArray[np.float64]:
    """The middle of what is labelled, else of the grid, world mm."""
    found = np.argwhere(np.asarray(labels.array, dtype=np.uint8) > 0)
    middle = found.mean(axis=0) if len(found) else (np.array(labels.shape) - 1) / 2
    return labels.affine[:3, :3] @ middle + labels.affine[:3, 3]
