"""Plate centring on negative controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tasks.base import TaskError
from tasks.prepare.readouts import Readouts, Step


@dataclass(frozen=True)
class PlateCentre(Step):
    """Subtract, per plate and readout, the mean (or median) of the plate's negative controls.

    Controls are never tested, so no tested row is used. A readout that no control of a plate has becomes
    missing on it.

    Parameters
    ----------
    min_controls
        Fewest control rows of a plate.
    """

    statistic: Literal["mean", "median"] = "mean"
    min_controls: int = 2
    plate_column: str = "Metadata_Plate"

    name = "plate-centre"
    takes = ("log", "z")

    def apply(self, given: Readouts) -> tuple[Readouts, str]:
        """Return differences from the controls."""
        plate = given.column(self.plate_column, self.name)
        if given.control is None:
            raise TaskError(
                f"step {self.name!r} needs to know which rows are negative controls: no row meets a "
                "well of the wells table (Metadata_pert_type = negcon)"
            )
        values = given.values.copy()
        lost = 0
        for name in np.unique(plate):
            own = plate == name
            controls = given.values[own & given.control]
            if len(controls) < self.min_controls:
                raise TaskError(
                    f"step {self.name!r}: plate {name} has {len(controls)} negative-control rows with "
                    f"readouts, {self.min_controls} are needed; leave the step out or lower min_controls"
                )
            known = ~np.isnan(controls).all(axis=0)
            centre = np.full(controls.shape[1], np.nan)
            take = np.nanmean if self.statistic == "mean" else np.nanmedian
            centre[known] = take(controls[:, known], axis=0)
            lost += int((~np.isnan(values[own][:, ~known])).sum())
            values[own] -= centre
        told = f"; {lost} values without a control on their plate became missing" if lost else ""
        return replace(given, values=values), (
            f"{self.name}: minus the {self.statistic} of each plate's negative controls{told}"
        )
