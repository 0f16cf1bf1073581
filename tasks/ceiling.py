r"""Noise ceiling: how well a readout's replicates predict each other, and so what a predictor can reach.

Rows of one perturbation under one condition (dose, time, cell line ...) are replicates. They are split into
halves at random; with a, b a readout's half means over replicate groups c, each perturbation with weight 1,

    r_half = cov(a, b) / sqrt(var(a) var(b)),        h = 1 / mean_c(1 / rows per half),

covariance and variances averaged over the splits. The Spearman-Brown formula [1]_ turns the reliability of
means of h rows into that of one row, which is what a prediction is scored on,

    ceiling = k r_half / (1 + (k - 1) r_half),        k = 1 / h.

For rows y = mu + noise it estimates var(mu) / (var(mu) + var(noise)): the skill of who knows mu. It is not a
bound where features see what is particular to a well, and noise of the estimate itself may put a
share above 1 or a ceiling below 0: neither is clipped.

References
----------
.. [1] Spearman, Br. J. Psychol. 3 (1910) 271-295; Brown, ibid. 296-322.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData

SPLITS = 10
"""Random splits into halves that are averaged."""

MIN_PERTURBATIONS = 10
"""Fewer perturbations with replicates of a readout than this, and it has no ceiling."""

PLACES = ("Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Replicate")
"""Columns in which replicates differ."""

BLOCK = 2048


def replicates(data: TaskData, keep: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return (n,) the replicate group of each unit, -1 for one that is alone, a control, or not in ``keep``.

    A group is a perturbation with one value in every ``Metadata_`` column of the units except those that name
    a place. Rows with the very same readouts are one measurement that was copied (a layer broadcast to
    wells), of which the first counts.
    """
    use = ~data.control if keep is None else keep & ~data.control
    rows = np.flatnonzero(use)
    frame = pd.DataFrame({"perturbation": data.groups[rows]})
    for name in data.units.columns:
        if str(name).startswith("Metadata_") and name not in PLACES and not _names_rows(data.units[name]):
            frame[name] = data.units[name].astype(str).to_numpy()[rows]
    group = frame.groupby(list(frame.columns), sort=True).ngroup().to_numpy()
    values = np.ascontiguousarray(data.Y[rows] + np.float32(0.0))
    content = pd.Series(values.view(np.dtype((np.void, values.shape[1] * 4))).ravel().tolist())
    first = ~pd.DataFrame({"group": group, "content": content}).duplicated().to_numpy()
    size = pd.Series(group[first]).value_counts()
    found = np.full(len(data.groups), -1, np.int64)
    chosen = first & (pd.Series(group).map(size).fillna(0).to_numpy() > 1)
    found[rows[chosen]] = group[chosen]
    return found


def ceiling(
    Y: NDArray[np.floating[Any]],
    group: NDArray[np.int64],
    perturbation: NDArray[np.str_],
    splits: int = SPLITS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return each readout's noise ceiling.

    Parameters
    ----------
    Y
        (n, T) readouts, NaN where missing.
    group
        (n,) replicate group of each row, -1 for none.
    perturbation
        (n,) perturbation of each row; its groups share the weight 1.
    splits, seed
        Random splits, and their seed.

    Returns
    -------
    ndarray
        (T,) ceilings; NaN where fewer than :data:`MIN_PERTURBATIONS` perturbations have replicates, or the
        replicates do not vary.
    """
    out = np.full(Y.shape[1], np.nan)
    rows = np.flatnonzero(group >= 0)
    if not rows.size:
        return out
    code = np.unique(group[rows], return_inverse=True)[1]
    owner = np.unique(perturbation[rows], return_inverse=True)[1]
    own = np.zeros(int(code.max()) + 1, np.int64)
    own[code] = owner
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(len(rows)) for _ in range(splits)]
    for start in range(0, Y.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = _ceiling(Y[rows, part].astype(np.float64), code, own, drawn)
    return out


def _ceiling(
    Y: NDArray[np.float64], code: NDArray[np.int64], own: NDArray[np.int64], drawn: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    known = ~np.isnan(Y)
    groups = len(own)
    count = np.zeros((groups, Y.shape[1]))
    np.add.at(count, code, known)
    half = np.floor(count / 2)  # (groups, T) rows per half; an odd one is left out of a split
    usable = half >= 1
    owners = np.zeros((int(own.max()) + 1, Y.shape[1]))
    np.add.at(owners, own, usable)
    weight = np.divide(1.0, owners[own], out=np.zeros_like(count), where=usable)
    total = np.maximum(weight.sum(axis=0), 1e-300)
    weight /= total
    covariance, left, right = np.zeros(Y.shape[1]), np.zeros(Y.shape[1]), np.zeros(Y.shape[1])
    for order in drawn:
        a, b = _halves(Y[order], known[order], code[order], half)
        a, b = (x - (weight * x).sum(axis=0) for x in (a, b))
        covariance += (weight * a * b).sum(axis=0)
        left += (weight * a * a).sum(axis=0)
        right += (weight * b * b).sum(axis=0)
    spread = np.sqrt(left * right)
    defined = ((owners > 0).sum(axis=0) >= MIN_PERTURBATIONS) & (spread > 0)
    r = np.divide(covariance, spread, out=np.full(Y.shape[1], np.nan), where=defined)
    # The noise of a half mean is that of a row over its rows: averaged over groups, 1 / h.
    k = (weight * np.divide(1.0, half, out=np.zeros_like(half), where=usable)).sum(axis=0)
    return np.asarray(k * r / (1.0 + (k - 1.0) * r))


def _halves(
    Y: NDArray[np.float64], known: NDArray[np.bool_], code: NDArray[np.int64], half: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the first and of the second ``half`` observed rows of every group; 0 where there is none."""
    place = np.empty(Y.shape)
    order = np.argsort(code, kind="stable")
    seen = np.cumsum(known[order], axis=0)
    start = np.searchsorted(code[order], code[order])
    before = np.where(start[:, None] > 0, seen[np.maximum(start - 1, 0)], 0)
    place[order] = seen - before  # rank among the group's observed rows, from 1
    means = []
    limit = half[code]
    for low, high in ((0.0, limit), (limit, 2 * limit)):
        chosen = known & (place > low) & (place <= high)
        total = np.zeros(half.shape)
        np.add.at(total, code, np.where(chosen, Y, 0.0))
        means.append(total / np.maximum(half, 1.0))
    return means[0], means[1]


def of_task(data: TaskData, keep: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return (T,) ceilings of a task's readouts, over the units ``keep``; NaN without replicates."""
    return ceiling(data.Y, replicates(data, keep), data.groups)


def _names_rows(column: pd.Series) -> bool:
    """Whether a column tells rows apart and so is no condition (a barcode, a position)."""
    return bool(column.nunique() > 0.5 * len(column))
