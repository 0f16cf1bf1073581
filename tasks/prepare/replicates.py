"""Labels for image wells whose omics come from other wells: a seeded draw of replicates per group."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks.base import TaskError
from tasks.prepare.readouts import Readouts, Step

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

DRAW = "Metadata_Draw"
"""Column that says which draw a row is of, 1 to ``draws``."""


@dataclass(frozen=True)
class DrawReplicates(Step):
    """Average ``wells`` rows drawn at random per group, ``draws`` times.

    Image2Omics groups omics wells by perturbation and stimulus, draws two and averages them into a label, and
    does so twice because there are two image plates per omics plate (Mehrizi et al. 2023). Image plates take
    the draws in turn, in natural order. The rows of a group are drawn in the order of sha256(seed, draw,
    group, row), without replacement within a draw; draws may share rows. A group with fewer rows uses all of
    them. All rows of a group share a perturbation, so no label mixes perturbations.

    Parameters
    ----------
    by
        Columns that make a group; they become the layer's key.
    """

    by: tuple[str, ...] = ()
    wells: int = 2
    draws: int = 2
    seed: int = 0

    name = "draw-replicates"

    def __post_init__(self) -> None:
        if not self.by or DRAW in self.by:
            raise TaskError(f"step {self.name!r}: by must name the columns that make a group")
        for name in ("wells", "draws"):
            if getattr(self, name) < 1:
                raise TaskError(f"step {self.name!r}: {name} must be at least 1")

    def apply(self, given: Readouts) -> tuple[Readouts, str]:
        """Return one row per group and draw, with column ``Metadata_Draw``."""
        keys = pd.DataFrame({name: given.column(name, self.name) for name in self.by})
        identity = ["\x1f".join(map(str, row)) for row in given.rows.itertuples(index=False, name=None)]
        # Rows that no column tells apart are numbered in their order.
        twin = pd.Series(identity).groupby(identity).cumcount()
        marks = [f"{text}\x1f{n}" for text, n in zip(identity, twin, strict=True)]
        groups = keys.groupby(list(self.by), sort=True).indices
        rows, values, control = [], [], []
        short = 0
        for group, found in groups.items():
            members = np.asarray(found, np.int64)
            named = group if isinstance(group, tuple) else (group,)
            short += len(members) < self.wells
            for draw in range(1, self.draws + 1):
                taken = self._draw(named, members, marks, draw)
                rows.append((*named, str(draw)))
                own = given.values[taken]
                known = ~np.isnan(own)
                total = np.where(known, own, 0.0).sum(axis=0)
                count = known.sum(axis=0)
                values.append(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
                if given.control is not None:
                    control.append(bool(given.control[taken].all()))
        out = replace(
            given,
            values=np.stack(values),
            rows=pd.DataFrame(rows, columns=[*self.by, DRAW], dtype=object),
            control=np.array(control, dtype=np.bool_) if given.control is not None else None,
        )
        told = f"; {short} groups have fewer rows and use all" if short else ""
        return out, (
            f"{self.name}: {len(groups)} groups by {', '.join(self.by)}, {self.wells} of a group's rows "
            f"averaged, {self.draws} draws (seed {self.seed}){told}"
        )

    def _draw(
        self, group: tuple[Hashable, ...], members: NDArray[np.int64], marks: list[str], draw: int
    ) -> NDArray[np.int64]:
        """Return the rows taken, ascending."""
        name = "\x1f".join(map(str, group))

        def order(row: int) -> bytes:
            return hashlib.sha256(f"{self.seed}\x1f{draw}\x1f{name}\x1e{marks[row]}".encode()).digest()

        return np.sort(np.array(sorted(members.tolist(), key=order)[: self.wells]))
