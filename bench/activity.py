"""Phenotypic activity of a board's perturbations, from features that a run has in the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench import runs
from bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from bench.problem import Problem
    from bench.store import Store
    from leaderboard import Board


def features(
    store: Store, board: Board, by_run: Mapping[str, Any], problem: Problem, most: int
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """Return (N, D) features of the best entrants by label, and why others have none.

    Parameters
    ----------
    most
        Number of feature sets after which it stops.
    """
    found: dict[str, NDArray[np.float32]] = {}
    reasons = []
    for row in board.rows[board.rows["role"] == "entrant"].itertuples(index=False):
        if len(found) == most:
            break
        record = by_run[str(row.run)]
        if record["fit_scope"] == "inductive":
            reasons.append(f"{row.label} has other features in every fold")
            continue
        try:
            X = stored_features(store, str(record["run"]), problem)
        except BenchError as error:
            reasons.append(str(error).rstrip("."))
            continue
        found.setdefault(str(row.label), X)
    return found, reasons


def stored_features(store: Store, run: str, problem: Problem) -> NDArray[np.float32]:
    """Return (N, D) features of a run that has the same in every fold, aligned to the problem's wells.

    Raises
    ------
    BenchError
        When the run has none, or they are no longer in the store.
    """
    from bench.store import PartKey
    from bench.store.names import partitions

    document = store.manifest(f"runs/run={run}")["key_document"]
    listed = (document.get("features") or {}).get("parts") or []
    folders = next((parts for fold, parts in listed if str(fold) == "None"), None)
    if not folders or not all(isinstance(folder, str) for folder in folders):
        raise BenchError(f"run {run} has no single table of features per well")
    gone = [folder for folder in folders if not store.has(folder)]
    if gone:
        raise BenchError(f"features of run {run} are no longer in the store ({gone[0]})")
    parts = []
    for folder in folders:
        names = partitions(folder)
        parts.append(
            PartKey(names["dataset"], names["featurizer"], names["key"], names["plate"], names["images"])
        )
    return runs.aligned(str(store.root), tuple(parts), problem.data)


def groups(problem: Problem) -> Any:
    """Perturbation of each well: that of the first unit it belongs to; its own name for a well without."""
    import numpy as np

    data = problem.data
    links = data.members.tocoo()
    out = np.array([f"well {i}" for i in range(len(data.wells))], dtype=object)
    out[links.col[::-1]] = data.groups[links.row[::-1]]
    return out.astype(np.str_)


def measured(X: NDArray[np.float32], label: str, problem: Problem) -> tuple[pd.Series, str]:
    """Return the activity of every perturbation by these features, and how it was measured, as a clause."""
    from leaderboard.explain.activity import activity, standardised

    data = problem.data
    plate = data.wells["Metadata_Plate"].astype(str).to_numpy("U")
    Z = standardised(X, plate, data.well_control)
    how = f"mean average precision of its wells against negative controls, {label}, all doses"
    return activity(Z, groups(problem), data.well_control), how


def of_board(
    store: Store, board: Board, by_run: Mapping[str, Any], problem: Problem
) -> tuple[pd.Series, str]:
    """Return the activity of a board's perturbations by the features of its best entrant that has any.

    Raises
    ------
    BenchError
        When no entrant has one table of features in the store.
    """
    sets, reasons = features(store, board, by_run, problem, 1)
    if not sets:
        raise BenchError(
            f"{board.title}: no entrant has features to measure activity by"
            + (f" ({reasons[0]})" if reasons else "")
            + "; give a table with --annotation"
        )
    label, X = next(iter(sets.items()))
    return measured(X, label, problem)
