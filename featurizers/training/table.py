"""What a training table holds besides metadata: readouts of wells, and which wells are negative controls.

The table has one row per training well: ``Metadata_*`` of the well, ``perturbation``, and after that the
readouts (NaN where missing). Negative controls are marked by ``control`` or by ``Metadata_pert_type``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.chemistry import PERTURBATION

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

PLATE, WELL = "Metadata_Plate", "Metadata_Well"
CONTROL = "control"


def readouts(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return (n, T) of the columns after ``perturbation``; ``control`` and metadata are none."""
    columns = list(table.columns)
    after = [str(c) for c in columns[columns.index(PERTURBATION) + 1 :]]
    return table[[c for c in after if c != CONTROL and not c.startswith("Metadata_")]].to_numpy(np.float64)


def check_finite(name: str, table: pd.DataFrame, values: NDArray[np.float64]) -> None:
    """Refuse an infinite readout (n, T) by its well; NaN is missing. ``name`` is the entrant's."""
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        place = "/".join(str(table[own].iloc[row]) for own in (PLATE, WELL))
        msg = f"{name}: value {column} of well {place} is infinite; leave it empty where it is missing"
        raise FeaturizerError(msg)


def controls(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) which rows are negative controls."""
    if CONTROL in table.columns:
        return table[CONTROL].to_numpy(bool)
    if "Metadata_pert_type" in table.columns:
        return (table["Metadata_pert_type"].astype(str) == "negcon").to_numpy()
    return np.zeros(len(table), bool)
