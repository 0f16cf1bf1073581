"""Regression of abundances: skill over the training mean, with perturbations as the unit of inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks import ceiling, metrics, ranking, significance
from tasks.base import Scored, Task, TaskData, TaskError
from tasks.checks import check
from tasks.folds import strata
from tasks.outcomes import agree, column_means, counted, tested_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import FoldResult

    Matrix = NDArray[np.floating[Any]]

NON_NEGATIVE = ("counts", "ratio")
SCALES = (*NON_NEGATIVE, "log", "z")


class Regression(Task):
    """Predict abundances; score by skill.

    With e, e⁰ the squared errors of the entrant and of the training mean on out-of-fold rows, averaged over
    the rows of a perturbation within a repeat,

        r2 = 1 − Σ_{r,p} e / Σ_{r,p} e⁰,    mse = mean_{r,p} e,    mse0 = mean_{r,p} e⁰

    over repeats r and perturbations p, each perturbation with weight 1, never clipped. They are computed in
    float64 from the float32 summands, so whoever has the summands gets the same numbers. ``smape`` has the
    same weights and is defined on the non-negative scales ``counts`` and ``ratio`` only. ``pearson_r2`` and
    ``spearman`` are computed over the rows of each outer fold and averaged over folds and repeats: rows of
    different folds come from different models, and pooling them correlates even the training mean with the
    readout. A readout that is constant or never observed scores NaN. ``noise_ceiling`` is the skill that
    replicates allow (:mod:`tasks.ceiling`), the same for every entrant. Under random splits the columns of
    :mod:`tasks.significance` stand beside these.
    """

    name = "regression"
    version = "1"
    layer_kinds = ("abundance",)
    floor = "mean"
    default_head = "ridge"
    takes_predictors = True

    def prepare(self, data: TaskData) -> TaskData:
        """Check the layer; constant and unobserved readouts stay and score NaN.

        Raises
        ------
        TaskError
            When shapes disagree, a perturbation has no name, a readout is infinite, or a value is negative on
            a scale that says it cannot be.
        """
        check(data)
        if data.scale not in SCALES:
            raise TaskError(
                f"layer {data.layer!r} declares scale {data.scale!r}; regression knows {', '.join(SCALES)}"
            )
        if data.scale in NON_NEGATIVE:
            negative = np.argwhere(data.Y < 0)
            if len(negative):
                row, column = negative[0]
                raise TaskError(
                    f"layer {data.layer!r} declares scale {data.scale!r}, but readout "
                    f"{data.readouts[column]!r} of unit row {row} is negative ({len(negative)} such values); "
                    "declare scale 'log' or 'z'"
                )
        return data

    def score(self, data: TaskData, folds: pd.DataFrame, results: list[FoldResult]) -> Scored:
        """Return scores per readout and ``score_by`` stratum, and the summands over all strata.

        A row counts where the readout is observed and the unit has a prediction. For a run on permuted
        readouts ``data`` is the permuted table.

        Raises
        ------
        TaskError
            When a fold stands twice among the results, or its rows are not those of the fold table.
        """
        agree(folds, results)
        names, code = np.unique(data.groups, return_inverse=True)
        tested = np.unique(folds["perturbation"].to_numpy(np.str_))
        place = np.searchsorted(tested, names)[code]  # controls get a place too, and are never rows of a fold
        whole = np.full(len(data.groups), fill_value=True)
        sums = _summands(data, results, place, tested, whole)
        splits = significance.applies(folds)
        frames = [_frame(data, results, sums, whole, "all", splits=splits)]
        if data.score_by:
            stratum = strata(data.units, data.score_by, "score_by")
            for value in np.unique(stratum[~data.control]):
                keep = stratum == value
                own = _summands(data, results, place, tested, keep)
                frames.append(_frame(data, results, own, keep, value, splits=splits))
        return Scored(
            scores=pd.concat(frames, ignore_index=True),
            e=sums["e"],
            e0=sums["e0"],
            perturbations=tuple(str(p) for p in tested),
            readouts=data.readouts,
            folds=tested_in(folds, results, tested),
        )


def _summands(
    data: TaskData,
    results: list[FoldResult],
    place: NDArray[np.int64],
    tested: NDArray[np.str_],
    keep: NDArray[np.bool_],
) -> dict[str, NDArray[np.float32]]:
    """Average errors over each perturbation's kept rows within a repeat: (R, P, T) each."""
    wanted = ["e", "e0", "smape"] if data.scale in NON_NEGATIVE else ["e", "e0"]
    repeats = 1 + max((result.id.repeat for result in results), default=-1)
    shape = (len(tested), data.Y.shape[1])
    out = {name: np.full((repeats, *shape), np.nan, np.float32) for name in wanted}
    for repeat in range(repeats):
        total = {name: np.zeros(shape) for name in wanted}
        count = np.zeros(shape)
        for result in results:
            if result.id.repeat != repeat:
                continue
            rows, p, f = result.rows, result.prediction.astype(np.float64), result.floor.astype(np.float64)
            y = data.Y[rows].astype(np.float64)
            mask = counted(y, p, f) & keep[rows][:, None]
            terms = {"e": (p - y) ** 2, "e0": (f - y) ** 2}
            if "smape" in wanted:
                terms["smape"] = metrics.smape_terms(y, p, mask)
            for name in wanted:
                np.add.at(total[name], place[rows], np.where(mask, terms[name], 0.0))
            np.add.at(count, place[rows], mask)
        for name in wanted:
            np.divide(total[name], count, out=total[name], where=count > 0)
            out[name][repeat] = np.where(count > 0, total[name], np.nan)
    return out


def _frame(
    data: TaskData,
    results: list[FoldResult],
    sums: dict[str, NDArray[np.float32]],
    keep: NDArray[np.bool_],
    stratum: str,
    *,
    splits: bool,
) -> pd.DataFrame:
    T = data.Y.shape[1]
    used = np.zeros(data.Y.shape, bool)
    r2, rho = np.full((len(results), T), np.nan), np.full((len(results), T), np.nan)
    for i, result in enumerate(results):
        y, p = data.Y[result.rows], result.prediction
        mask = counted(y, p, result.floor) & keep[result.rows][:, None]
        used[result.rows] |= mask
        r2[i], rho[i] = metrics.pearson_r2(y, p, mask), ranking.spearman(y, p, mask)
    e, e0 = sums["e"], sums["e0"]
    frame = pd.DataFrame(
        {
            "readout": list(data.readouts),
            "stratum": stratum,
            "n_units": used.sum(axis=0),
            "n_perturbations": (~np.isnan(e)).any(axis=0).sum(axis=0),
            "r2": metrics.skill(e, e0),
            "mse": column_means(e.reshape(-1, T)),
            "mse0": column_means(e0.reshape(-1, T)),
            "pearson_r2": column_means(r2),
            "spearman": column_means(rho),
            "smape": column_means(sums["smape"].reshape(-1, T)) if "smape" in sums else np.full(T, np.nan),
            "noise_ceiling": ceiling.of_task(data, keep),
        }
    )
    if not splits:
        return frame
    relative = data.scale in NON_NEGATIVE
    own = significance.over_splits(data, results, keep, relative=relative)
    return frame.assign(error="smape" if relative else "absolute", **own)
