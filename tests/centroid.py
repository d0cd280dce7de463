"""Where something lies in the world, for tests that it stays there."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import center_of_mass

from mrisr.core.geometry import Affine


def world_centroid(weights: ArrayLike, affine: Affine) -> NDArray[np.float64]:
    """Weighted centroid of a volume in world coordinates, mm RAS, shape ``(3,)``."""
    index = center_of_mass(np.asarray(weights, dtype=np.float64))
    return (affine @ [*index, 1.0])[:3]
