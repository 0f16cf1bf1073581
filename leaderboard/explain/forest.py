r"""What goes with predictability: one linear model over readouts, by ordinary least squares.

    score_g = a + sum_l b_l [g at location l] + sum_p c_p [g in pathway p] + d abundance_g + noise,

abundance scaled to 0-1 over the readouts (Image2Omics' forest plot). Intervals are the textbook ones, which
take readouts as independent; they are not, so these intervals are too narrow and rank associations, no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leaderboard.schema import BoardError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LEAST_MEMBERS = 11
"""Members among the readouts that a pathway needs (the paper: more than 10)."""
LEAST_LOCATION = 5
"""Members that a location needs."""


def least_squares(X: NDArray[np.float64], y: NDArray[np.float64], level: float = 0.05) -> pd.DataFrame:
    """Return coefficient, standard error and interval of every column of X; a constant is added.

    Parameters
    ----------
    X
        (n, k), no column constant or a combination of others.
    y
        (n,).

    Raises
    ------
    BoardError
        When there are too few rows, or columns depend on each other.
    """
    from scipy import stats

    n, k = X.shape
    design = np.column_stack([np.ones(n), X])
    if n <= k + 2:
        raise BoardError(f"{n} readouts are too few for {k} properties; annotate more or ask for fewer")
    if np.linalg.matrix_rank(design) <= k:
        raise BoardError("two properties of the readouts are the same or add up; leave one out")
    beta, *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ beta
    df = n - k - 1
    covariance = np.linalg.inv(design.T @ design) * float(residual @ residual) / df
    error = np.sqrt(np.diag(covariance))
    half = stats.t.ppf(1 - level / 2, df) * error
    frame = pd.DataFrame(
        {"coefficient": beta, "standard_error": error, "low": beta - half, "high": beta + half}
    )
    return frame.iloc[1:].reset_index(drop=True)


def associations(
    scores: pd.Series,
    locations: pd.DataFrame | None = None,
    pathways: Mapping[str, frozenset[str]] | None = None,
    abundance: pd.Series | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Return the coefficients of all properties together, and sentences on what was left out.

    The frame has ``kind``, ``property``, ``members`` and the columns of :func:`least_squares`.

    Parameters
    ----------
    scores
        Index: readout; values: skill. NaN are left out.
    locations
        ``readout``, ``location``: where given, readouts without a location are left out, and counted.
    pathways
        Name to members; those with fewer than :data:`LEAST_MEMBERS` among the readouts are left out.
    abundance
        Index: readout; values: mean measured value.

    Raises
    ------
    BoardError
        As :func:`least_squares`, and when nothing is left to relate.
    """
    scores = scores[np.isfinite(scores.to_numpy(np.float64))]
    remarks = []
    if locations is not None:
        located = set(locations["readout"]) & set(scores.index)
        missing = len(scores) - len(located)
        if missing:
            has = "has" if missing == 1 else "have"
            remarks.append(f"{missing} of {len(scores)} readouts {has} no location and stand outside")
        scores = scores[[name in located for name in scores.index]]
    columns: list[tuple[str, str, NDArray[np.float64]]] = []
    if locations is not None and len(scores):
        here = locations[locations["readout"].isin(scores.index)]
        for name, own in here.groupby("location"):
            inside = scores.index.isin(own["readout"])
            if LEAST_LOCATION <= inside.sum() < len(scores):
                columns.append(("location", str(name), inside.astype(np.float64)))
    small = 0
    for name, members in (pathways or {}).items():
        inside = scores.index.isin(members)
        if LEAST_MEMBERS <= inside.sum() < len(scores):
            columns.append(("pathway", name, inside.astype(np.float64)))
        else:
            small += 1
    if small:
        remarks.append(f"{small} pathways have fewer than {LEAST_MEMBERS} members among the readouts, or all")
    if abundance is not None:
        value = abundance.reindex(scores.index).to_numpy(np.float64)
        if np.isfinite(value).all() and np.ptp(value) > 0:
            scaled = (value - value.min()) / np.ptp(value)
            columns.append(("abundance", "mean abundance, 0 to 1", scaled))
    kept, dropped = _independent(columns, len(scores))
    if dropped:
        remarks.append(f"left out because they repeat others: {', '.join(dropped[:5])}")
    if not kept:
        raise BoardError("no property of the readouts is left to relate to their scores")
    table = least_squares(np.column_stack([c for *_, c in kept]), scores.to_numpy(np.float64))
    table.insert(0, "kind", [kind for kind, *_ in kept])
    table.insert(1, "property", [name for _, name, _ in kept])
    table.insert(2, "members", [int((c != 0).sum()) for *_, c in kept])
    return table, remarks


def _independent(
    columns: list[tuple[str, str, NDArray[np.float64]]], n: int
) -> tuple[list[tuple[str, str, NDArray[np.float64]]], list[str]]:
    """Keep columns in order while they add to the span of those before and of the constant."""
    basis = np.ones((n, 1)) / np.sqrt(max(n, 1))
    kept, dropped = [], []
    for column in columns:
        rest = column[2] - basis @ (basis.T @ column[2])
        rest -= basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size <= 1e-8 * max(float(np.linalg.norm(column[2])), 1e-300):
            dropped.append(column[1])
            continue
        basis = np.column_stack([basis, rest / size])
        kept.append(column)
    return kept, dropped
