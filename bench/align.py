"""Rows by well, in the order of other wells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def to_wells(wells: pd.DataFrame, X: NDArray[np.float32], wanted: pd.DataFrame) -> NDArray[np.float32]:
    """Return (N, D) rows of ``X`` in the order of the N wells ``wanted``.

    Parameters
    ----------
    wells
        ``Metadata_Plate`` and ``Metadata_Well`` of each of the M rows (M, D) of ``X``.
    wanted
        A table with the same columns. A well that has no row gets a row of NaN.
    """
    plate, well = "Metadata_Plate", "Metadata_Well"
    place = {key: i for i, key in enumerate(zip(wells[plate], wells[well], strict=True))}
    found = np.array([place.get(key, -1) for key in zip(wanted[plate], wanted[well], strict=True)], np.int64)
    rows = np.full((len(wanted), X.shape[1]), np.nan, np.float32)
    rows[found >= 0] = X[found[found >= 0]]
    return rows
