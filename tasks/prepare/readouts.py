"""What a preparation step takes and gives: a matrix of readouts, what its rows are, and its scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Readouts:
    """A layer's rows before they meet wells.

    Parameters
    ----------
    values
        (m, T) float64; NaN is missing.
    names
        T names.
    rows
        m rows with the layer's ``Metadata_`` columns, as text.
    control
        (m,) bool, negative controls; None where nothing tells.
    scale
        ``counts``, ``log``, ``ratio`` or ``z``.
    panel
        ``all``, ``named`` or ``score-selected``: how the readouts were picked.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    rows: pd.DataFrame
    control: NDArray[np.bool_] | None
    scale: str
    panel: str = "all"

    def column(self, name: str, step: str) -> NDArray[np.str_]:
        """Return a metadata column as text.

        Raises
        ------
        TaskError
            When it is absent, or empty somewhere.
        """
        if name not in self.rows.columns:
            there = ", ".join(map(str, self.rows.columns)) or "none"
            raise TaskError(f"step {step!r} needs column {name} among the layer's rows, which have: {there}")
        column = self.rows[name]
        values = column.astype(object).where(column.notna(), "").astype(str).to_numpy()
        empty = np.flatnonzero(values == "")
        if empty.size:
            raise TaskError(
                f"step {step!r}: {name} is empty in row {empty[0] + 1} ({empty.size} such rows); fill it in"
            )
        return values.astype(np.str_)

    def with_columns(self, keep: NDArray[np.bool_]) -> Readouts:
        """Return the readouts that ``keep`` (T,) picks."""
        names = tuple(name for name, stays in zip(self.names, keep, strict=True) if stays)
        return replace(self, values=self.values[:, keep], names=names)


class Step(ABC):
    """One operation; a frozen dataclass of its settings."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    takes: ClassVar[tuple[str, ...]] = ("counts", "log", "ratio", "z")
    """Scales that it accepts."""

    @abstractmethod
    def apply(self, given: Readouts) -> tuple[Readouts, str]:
        """Return what it makes of ``given``, and one sentence that says what was done and what it used."""
