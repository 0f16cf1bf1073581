"""A named panel of readouts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from tasks.base import TaskError
from tasks.prepare.readouts import Readouts, Step


@dataclass(frozen=True)
class Panel(Step):
    """Keep the listed readouts.

    Parameters
    ----------
    title
        What the panel is called (``L1000 landmarks``).
    readouts
        Names, each once; all must be in the layer.
    selected_by
        The score that picked them, where one did: scores of such a panel are flagged, because a new panel
        would do worse. Empty for a panel that was fixed beforehand.
    """

    title: str = ""
    readouts: tuple[str, ...] = ()
    selected_by: str = ""

    name = "panel"

    def __post_init__(self) -> None:
        if not self.title or not self.readouts:
            raise TaskError(f"step {self.name!r} needs a title and readouts")
        if len(set(self.readouts)) < len(self.readouts):
            twice = next(r for i, r in enumerate(self.readouts) if r in self.readouts[:i])
            raise TaskError(f"step {self.name!r} lists readout {twice!r} twice")

    @property
    def hash(self) -> str:
        """Sha256 (hex) of the names, whatever their order."""
        return hashlib.sha256("\x1f".join(sorted(self.readouts)).encode()).hexdigest()

    def apply(self, given: Readouts) -> tuple[Readouts, str]:
        """Return the panel's readouts in the layer's order."""
        absent = [name for name in self.readouts if name not in set(given.names)]
        if absent:
            raise TaskError(
                f"step {self.name!r} ({self.title}): the layer has no readout {absent[0]!r} ({len(absent)} "
                f"of {len(self.readouts)} are absent); correct the list"
            )
        out = given.with_columns(np.isin(given.names, self.readouts))
        how = f"selected by a score ({self.selected_by})" if self.selected_by else "fixed beforehand"
        out = replace(out, panel="score-selected" if self.selected_by else "named")
        return out, (
            f"{self.name}: {self.title}, {len(self.readouts)} of {len(given.names)} readouts, {how} "
            f"({self.hash[:12]})"
        )
