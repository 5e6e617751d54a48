"""LiDAR rows that measured nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def no_return(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(N,) bool: rows (N, 3 or more) whose x, y and z are exactly 0.

    Drivers of Livox, SICK, Ouster and others write the origin for a beam that came back from nothing; a surface cannot be there.
    """
    return np.asarray((points[:, 0] == 0) & (points[:, 1] == 0) & (points[:, 2] == 0))
