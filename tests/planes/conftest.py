"""What the tests of several planes share."""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom, phantom_affine


def motion_of(shift: tuple[float, ...], angles: tuple[float, ...]) -> geometry.Affine:
    """Rotations about the R-L, A-P and S-I axes in degrees, then a shift in mm."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = shift
    return motion


SPACING = (1.4, 1.4, 4.2)
SHAPE = (52, 52, 16)
MOTIONS = {
    "axial": np.eye(4),
    "coronal": motion_of((2.0, -3.0, 1.5), (1.0, -2.0, 2.0)),
    "sagittal": motion_of((-1.0, 2.0, 3.0), (-2.0, 1.0, 1.0)),
}


def stack(plane: str, seed: int = 0) -> Volume:
    """A noisy stack of the phantom, moved; across the axial one the tissue is also brighter to one side."""
    affine = phantom_affine(SHAPE, plane, SPACING)
    found = phantom(SHAPE, MOTIONS[plane] @ affine, noise=0.01, seed=seed, dtype=np.float32)
    shading = np.linspace(0.9, 1.3, SHAPE[0])[:, None, None] if plane != "axial" else 1.0
    array = (found.array * shading).astype(np.float32)
    return replace(found, array=array, affine=affine, name=plane)
