"""What tasks of two classes share: ROC AUC and AP over the perturbations tested within a fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks import ranking
from tasks.base import Scored, Task, TaskData
from tasks.folds import strata
from tasks.outcomes import agree, column_means, counted, tested_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import FoldResult

    Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class BinaryConfig:
    """Settings of every :class:`Binary` task.

    Parameters
    ----------
    min_positives, min_negatives
        Perturbations of each class among the tested ones of a fold, from which its AUC and AP count. A fold
        with a single positive is a noisy but unbiased estimate, so it counts.
    """

    min_positives: int = 1
    min_negatives: int = 1


class Binary(Task):
    """Readouts of 1, 0 and missing, scored by ROC AUC over the perturbations tested in a fold.

    Within an outer fold the predictions of a perturbation's rows with the same class are averaged, so that a
    perturbation counts once per class; pairs of different folds are of different models and never compared.
    With A_rkg the AUC of readout g in fold k of repeat r, where both classes reach their minimum,

        roc_auc = mean of A_rkg over (r, k),        floor 0.5

    and ``ap`` (average precision) and its floor ``prevalence`` are means over the same folds. Readouts
    without such a fold score NaN.
    """

    floor = "mean"
    default_head = "logistic"
    predicts_calls = True
    estimand = "roc_auc"
    metric = "ROC AUC"
    config: BinaryConfig

    def score(self, data: TaskData, folds: pd.DataFrame, results: list[FoldResult]) -> Scored:
        """Return scores per readout and ``score_by`` stratum, and AUC per fold over all strata.

        Raises
        ------
        TaskError
            When a fold stands twice among the results, or its rows are not those of the fold table.
        """
        agree(folds, results)
        code = np.unique(data.groups, return_inverse=True)[1]
        tested = np.unique(folds["perturbation"].to_numpy(np.str_))
        whole = np.full(len(data.groups), fill_value=True)
        width = int(folds["fold"].max()) + 1
        frame, values = self._frame(data, results, code, whole, "all", width)
        frames = [frame]
        if data.score_by:
            stratum = strata(data.units, data.score_by, "score_by")
            frames += [
                self._frame(data, results, code, stratum == value, str(value), width)[0]
                for value in np.unique(stratum[~data.control])
            ]
        nothing = np.zeros((len(values), len(tested), 0), np.float32)
        return Scored(
            scores=pd.concat(frames, ignore_index=True),
            e=nothing,
            e0=nothing,
            perturbations=tuple(str(p) for p in tested),
            readouts=data.readouts,
            folds=tested_in(folds, results, tested),
            fold_values=values,
        )

    def _frame(
        self,
        data: TaskData,
        results: list[FoldResult],
        code: NDArray[np.int64],
        keep: NDArray[np.bool_],
        stratum: str,
        width: int,
    ) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """Scores of the kept units, and their AUC per fold (R, K, T)."""
        T = data.Y.shape[1]
        repeats = 1 + max((result.id.repeat for result in results), default=-1)
        auc, ap, prevalence = (np.full((repeats, width, T), np.nan, np.float32) for _ in range(3))
        used = np.zeros(data.Y.shape, bool)
        for result in results:
            rows, at = result.rows, (result.id.repeat, result.id.fold)
            y, p = data.Y[rows], result.prediction
            mask = counted(y, p, result.floor) & keep[rows][:, None]
            used[rows] |= mask
            ranked = ranking.rank(*per_perturbation(y, p, mask, code[rows]))
            enough = (ranked.positives >= max(1, self.config.min_positives)) & (
                ranked.negatives >= max(1, self.config.min_negatives)
            )
            auc[at] = np.where(enough, ranked.auc, np.nan)
            ap[at] = np.where(enough, ranked.ap, np.nan)
            prevalence[at] = np.where(enough, ranked.prevalence, np.nan)
        frame = pd.DataFrame(
            {
                "readout": list(data.readouts),
                "stratum": stratum,
                "n_units": used.sum(axis=0),
                "n_perturbations": distinct(used, code),
                "n_pos": distinct(used & (data.Y == 1.0), code),
                "n_neg": distinct(used & (data.Y == 0.0), code),
                "n_folds": np.isfinite(auc).sum(axis=(0, 1)),
                "roc_auc": column_means(auc.reshape(-1, T)),
                "ap": column_means(ap.reshape(-1, T)),
                "prevalence": column_means(prevalence.reshape(-1, T)),
            }
        )
        return frame, auc


def per_perturbation(
    y: Matrix, p: Matrix, mask: NDArray[np.bool_], code: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Average predictions over the rows of a perturbation that have the same call.

    Parameters
    ----------
    y, p, mask
        (m, T) calls of 0 and 1, predictions, and the pairs that count.
    code
        (m,) number of each row's perturbation.

    Returns
    -------
    y, p, mask
        (2 G, T): positives of the G perturbations, then negatives.
    """
    own, place = np.unique(code, return_inverse=True)
    shape = (len(own), y.shape[1])
    means, known = [], []
    for value in (1.0, 0.0):
        chosen = mask & (y == value)
        total, count = np.zeros(shape), np.zeros(shape)
        np.add.at(total, place, np.where(chosen, p, 0.0))
        np.add.at(count, place, chosen)
        means.append(total / np.maximum(count, 1.0))
        known.append(count > 0)
    classes = np.repeat(np.array([1.0, 0.0], np.float32), len(own))[:, None]
    return np.broadcast_to(classes, (2 * len(own), shape[1])), np.concatenate(means), np.concatenate(known)


def both_classes(Y: Matrix) -> NDArray[np.bool_]:
    """Return (T,) whether a readout has a 1 and a 0 among the rows of Y (m, T)."""
    both: NDArray[np.bool_] = (Y == 1.0).any(axis=0) & (Y == 0.0).any(axis=0)
    return both


def distinct(used: NDArray[np.bool_], code: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (T,) the number of perturbations with a used unit; used is (n, T), code (n,)."""
    seen = np.zeros((int(code.max(initial=-1)) + 1, used.shape[1]), bool)
    np.logical_or.at(seen, code, used)
    number: NDArray[np.int64] = seen.sum(axis=0)
    return number
