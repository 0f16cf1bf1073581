"""Image2Omics' own test per readout: is the entrant's error smaller than the training mean's, split by split?

In each random split, over the units under test (replicates of a perturbation count singly there, which is
why its p-values are too small), a one-sided test of the entrant's errors against the floor's:

``wilcoxon``
    Wilcoxon's signed-rank test of the paired differences, as in the released code (``alternative="less"``).
``mann_whitney``
    The Mann–Whitney U test, which ignores the pairing, as the text has it.

A readout's p-value is the median over splits; it counts as predictable below 0.05, with no correction for the
number of readouts. The 2.5 % and 97.5 % quantiles give the interval of the predictable share. Errors are
SMAPE on the scales ``counts`` and ``ratio``, and absolute errors elsewhere (our reading: the paper applies
SMAPE to log values, where it depends on the choice of zero).

This reproduces published tables. Our own decision per readout is the leaderboard's, over perturbations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import metrics
from tasks.folds import TRAINED, ids
from tasks.heads.ridge import patterns
from tasks.outcomes import counted

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.base import FoldResult, TaskData

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.floating[Any]]

ROUNDING = 1e-6
"""A difference below this share of the two errors is float32 rounding of equal predictions, and is 0."""

EXACT_WILCOXON = 50
EXACT_MANN_WHITNEY = 8
EXHAUSTIVE = 13
"""Most units for which SciPy's exact distributions and, with ties, all permutations are used."""

TESTS = ("wilcoxon", "mann_whitney")


def applies(folds: pd.DataFrame) -> bool:
    """Whether the folds are random splits: one fold under test per repeat, the rest trained on only."""
    tested = ids(folds)
    repeats = [repeat for repeat, _ in tested]
    return bool((folds["fold"] == TRAINED).any()) and len(set(repeats)) == len(repeats)


def over_splits(
    data: TaskData, results: list[FoldResult], keep: NDArray[np.bool_], *, relative: bool
) -> dict[str, Any]:
    """Return columns of the scores: p-values of both tests over splits, and medians over splits.

    Parameters
    ----------
    keep
        (n,) units that count.
    relative
        Errors are SMAPE; else absolute errors.
    """
    T = len(data.readouts)
    p = {test: np.full((len(results), T), np.nan) for test in TESTS}
    smape, r2 = np.full((len(results), T), np.nan), np.full((len(results), T), np.nan)
    for i, result in enumerate(results):
        y = data.Y[result.rows].astype(np.float64)
        mask = counted(y, result.prediction, result.floor) & keep[result.rows][:, None]
        own, floor = (errors(y, own, mask, relative=relative) for own in (result.prediction, result.floor))
        p["wilcoxon"][i], p["mann_whitney"][i] = one_sided(own, floor, mask)
        r2[i] = metrics.pearson_r2(y, result.prediction, mask)
        if relative:
            smape[i] = metrics.smape(y, result.prediction, mask)
    columns: dict[str, Any] = {"splits": np.isfinite(p["wilcoxon"]).sum(axis=0)}
    for test in TESTS:
        columns[f"p_{test}"] = _quantile(p[test], 0.5)
        columns[f"p_{test}_low"] = _quantile(p[test], 0.025)
        columns[f"p_{test}_high"] = _quantile(p[test], 0.975)
    columns["smape_median"] = _quantile(smape, 0.5)
    columns["pearson_r2_median"] = _quantile(r2, 0.5)
    return columns


def errors(y: Matrix, p: Matrix, mask: NDArray[np.bool_], *, relative: bool) -> NDArray[np.float64]:
    """Errors (m, T) of the pairs that count, 0 elsewhere."""
    if relative:
        return metrics.smape_terms(y, np.asarray(p, np.float64), mask)
    out: NDArray[np.float64] = np.where(mask, np.abs(np.asarray(p, np.float64) - y), 0.0)
    return out


def one_sided(own: Matrix, floor: Matrix, mask: NDArray[np.bool_]) -> tuple[Vector, Vector]:
    """Return (T,) p-values of both tests that ``own`` (m, T) is smaller than ``floor``; NaN without a pair.

    They are those of SciPy's ``wilcoxon`` and ``mannwhitneyu`` with ``method="auto"`` for each readout by
    itself. Where no pair differs, p is 1.
    """
    T = mask.shape[1]
    signed, ranked = np.full(T, np.nan), np.full(T, np.nan)
    for columns, rows in patterns(mask):
        if not rows.any():
            continue
        a, b = own[np.ix_(rows, columns)], floor[np.ix_(rows, columns)]
        equal = np.abs(a - b) <= ROUNDING * (np.abs(a) + np.abs(b))
        a = np.where(equal, b, a)
        signed[columns] = _wilcoxon(a - b)
        ranked[columns] = _mann_whitney(a, b)
    return signed, ranked


def _wilcoxon(d: Matrix) -> Vector:
    from scipy.stats import wilcoxon

    m, T = d.shape
    p = np.ones(T)
    size = np.sort(np.abs(d), axis=0)
    tied = (d == 0.0).any(axis=0) | (size[1:] == size[:-1]).any(axis=0)
    live = (d != 0.0).any(axis=0)
    exact = live & ~tied & (m <= EXACT_WILCOXON)
    few = live & tied & (m <= EXHAUSTIVE)
    rest = live & ~exact & ~few
    for columns, method in ((exact, "exact"), (rest, "asymptotic")):
        if columns.any():
            p[columns] = wilcoxon(d[:, columns], alternative="less", method=method, axis=0).pvalue
    for column in np.flatnonzero(few):
        p[column] = wilcoxon(d[:, column], alternative="less").pvalue
    return p


def _mann_whitney(a: Matrix, b: Matrix) -> Vector:
    from scipy.stats import mannwhitneyu

    p = np.ones(a.shape[1])
    live = (a != b).any(axis=0)
    pooled = np.sort(np.concatenate([a, b]), axis=0)
    tied = (pooled[1:] == pooled[:-1]).any(axis=0)
    exact = live & ~tied & (len(a) <= EXACT_MANN_WHITNEY)
    for columns, method in ((exact, "exact"), (live & ~exact, "asymptotic")):
        if columns.any():
            found = mannwhitneyu(a[:, columns], b[:, columns], alternative="less", method=method, axis=0)
            p[columns] = found.pvalue
    return p


def share(p: Vector, level: float = 0.05, total: int | None = None) -> float:
    """Share of readouts with a p-value below ``level``.

    ``total`` is the denominator where filtered readouts count too (Image2Omics: 4,986 proteins and 26,317
    transcripts); by default the readouts with a p-value.
    """
    known = int(np.isfinite(p).sum()) if total is None else total
    return float((p < level).sum() / known) if known else float("nan")


def _quantile(values: NDArray[np.float64], q: float) -> Vector:
    """Quantiles over splits of what is defined; NaN where nothing is."""
    out = np.full(values.shape[1], np.nan)
    some = np.isfinite(values).any(axis=0)
    out[some] = np.nanquantile(values[:, some], q, axis=0)
    return out
