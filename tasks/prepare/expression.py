"""Low-expression filter: a readout must be seen in enough wells of a plate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.base import TaskError
from tasks.prepare.readouts import Readouts, Step


@dataclass(frozen=True)
class LowExpression(Step):
    """Keep readouts above zero in at least ``min_wells`` rows per plate, or in a share of them.

    Image2Omics keeps what is above zero in at least 50 of the 384 wells of each plate (Mehrizi et al. 2023).
    No label and no score is used, but every row is, tested ones included.

    Parameters
    ----------
    min_wells
        Rows of a plate in which a readout must be above zero.
    min_share
        Share of a plate's rows instead, where it is above 0 (50 of 384 is 0.13).
    plates
        ``every``: on every plate; ``any``: on one at least (the text allows both readings).
    plate_column
        Which column says what a plate is; omics plates need not be image plates.
    """

    min_wells: int = 50
    min_share: float = 0.0
    plates: Literal["every", "any"] = "every"
    plate_column: str = "Metadata_Plate"

    name = "low-expression"
    takes = ("counts", "ratio")

    def apply(self, given: Readouts) -> tuple[Readouts, str]:
        """Return the readouts that are seen often enough."""
        plate = given.column(self.plate_column, self.name)
        names = np.unique(plate)
        enough = np.zeros((len(names), len(given.names)), bool)
        for i, name in enumerate(names):
            own = given.values[plate == name]
            need = self.min_share * len(own) if self.min_share > 0 else self.min_wells
            if need > len(own):
                raise TaskError(
                    f"step {self.name!r}: plate {name} has {len(own)} rows, fewer than min_wells = "
                    f"{self.min_wells}; set min_share instead (50 of 384 is 0.13)"
                )
            enough[i] = (own > 0).sum(axis=0) >= need
        keep = np.asarray(enough.all(axis=0) if self.plates == "every" else enough.any(axis=0), np.bool_)
        if not keep.any():
            raise TaskError(f"step {self.name!r} keeps none of {len(keep)} readouts; lower its setting")
        least = f"{self.min_share:.3g} of the rows" if self.min_share > 0 else f"{self.min_wells} rows"
        which = "every plate" if self.plates == "every" else "at least one plate"
        return given.with_columns(keep), (
            f"{self.name}: {int(keep.sum())} of {len(keep)} readouts kept, above zero in at least {least} of "
            f"{which} (all rows count, tested ones too; no score is used)"
        )
