"""The tables that the leaderboard takes: one :class:`Entry` per run, over plain arrays and frames.

Shapes: T readouts, P perturbations, R repeats, K outer folds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Role = Literal["entrant", "control", "ceiling", "floor", "permuted"]


class BoardError(ValueError):
    """A table that cannot be ranked, said in one sentence with the remedy."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One run: an entrant with a head on one layer of one dataset version under one protocol.

    Parameters
    ----------
    run
        Identifier of the run.
    name, label
        Registry name (``mae``) and the name shown (``mae[tiny, 0.4 % of the paper's training]``).
    role
        ``entrant``; ``control``; ``ceiling`` (an oracle); ``floor`` (the training mean); ``permuted`` (the
        entrant named in ``permutes`` with readouts permuted between perturbations, whole pipeline).
    e, e0
        (R, P, T) float32: squared error of the run and of the floor per repeat, perturbation and readout,
        averaged over the perturbation's rows; NaN where it has none observed. (R, P, 0) where
        ``fold_values`` stand in their place.
    folds
        (R, P) int: outer fold in which each perturbation was tested; -1 where it was not.
    scores
        One row per readout and stratum with further estimands (``stratum == "all"`` for the whole).
    coverage
        Share of what was asked (units under test, and their readouts) that the run predicted; a run below 1
        is shown and not ranked, but for small gaps (:mod:`leaderboard.gaps`).
    variance_measured
        Whether the protocol's error rates have been measured (else no interval is shown).
    fold_values
        (R, K, T) float32 scores of a task whose score exists per fold only (ROC AUC over the pairs within a
        fold), larger is better, NaN where undefined; see :mod:`leaderboard.folded`.
    metric
        What ``skill`` means on the board.
    """

    run: str
    name: str
    label: str
    role: Role
    task: str
    head: str
    layer: str
    dataset: str
    dataset_version: str
    protocol: str
    protocol_hash: str
    folds_hash: str
    readouts: tuple[str, ...]
    perturbations: tuple[str, ...]
    e: NDArray[np.float32]
    e0: NDArray[np.float32]
    folds: NDArray[np.int16]
    scores: pd.DataFrame
    permutes: str | None = None
    fit_scope: str = "pretrained"
    preset: str = "default"
    coverage: float = 1.0
    seconds: float = float("nan")
    peak_memory_mb: float = float("nan")
    margin: float = 0.01
    optimistic: bool = False
    variance_measured: bool = True
    fold_values: NDArray[np.float32] | None = None
    metric: str = "skill"
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
