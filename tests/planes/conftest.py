"""What the tests of several planes share."""

import numpy as np
from scipy.spatial.transform import Rotation

from mrisr.core import geometry


def motion_of(shift: tuple[float, ...], angles: tuple[float, ...]) -> geometry.Affine:
    """Rotations about the R-L, A-P and S-I axes in degrees, then a shift in mm."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = shift
    return motion
