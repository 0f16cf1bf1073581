r"""Scores that exist per fold only, such as ROC AUC over the pairs within a fold, as summands of decisions.

With a_rkg the score of readout g in fold k of repeat r, n_g the folds of S scored ones where it is defined,
and G readouts defined somewhere,

    score_g = mean of a_rkg over its folds,      score = mean_g score_g,
    l_rk = sum_g (1 - a_rkg) (S / n_g) / G,      l0_rk = sum_g (S / n_g) / G      (g defined in r, k),

so that 1 - sum l / S = score exactly and sum l0 = S: the summands of :mod:`leaderboard.summands` with 1 - a
for e and 1 for e0. Every tested perturbation carries those of its fold, so fold means are the fold's own, and
the rules of :mod:`leaderboard.decide` apply, with their variance times :data:`VARIANCE_FACTOR`.

Per readout (D3) a ROC AUC is tested against chance by the distribution that it has without any link, which
needs no estimate: with P positive and N negative perturbations over K folds, the mean over the folds of one
repeat has the variance of the Mann-Whitney statistic within folds, (P + N + K) / (12 P N); and since every
pair of perturbations trains and tests in turn, the mean over R repeats has 1.6 + 0.65 / R times that.
Between two runs it is the corrected resampled t-test on differences of folds, its variance at least the mean
over readouts, times :data:`VARIANCE_FACTOR`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leaderboard.adjust import benjamini_hochberg
from leaderboard.decide import design
from leaderboard.predictable import PerReadout, corrected_t
from leaderboard.schema import BoardError
from leaderboard.summands import Summands

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leaderboard.schema import Entry


AUC = "ROC AUC"
"""The metric that can be tested per readout."""

VARIANCE_FACTOR = 1.3
"""On the corrected variance: without it, equal featurizers were declared different by ROC AUC in 4 to 8 % of
simulated screens at a nominal 5 %, with it in 2 to 5 % (``docs/statistics.md``)."""


NULL_FACTOR, NULL_FACTOR_PER_REPEAT = 1.6, 0.65
"""Factor on the Mann-Whitney variance of a null readout's mean AUC over R repeats: 1.6 + 0.65 / R. Simulated
populations gave 2.14 with one repeat, 1.83 with two, 1.72 with three, 1.63 to 1.70 with five
(``docs/statistics.md``)."""


def against_chance(
    values: NDArray[np.floating], positives: NDArray[np.floating], negatives: NDArray[np.floating]
) -> PerReadout:
    """Test every readout's ROC AUC against 0.5, one-sided.

    Parameters
    ----------
    values
        (R, K, T) AUC per fold, NaN where undefined.
    positives, negatives
        (T,) perturbations of each class.

    Returns
    -------
    PerReadout
        ``effect`` is the mean AUC minus 0.5.
    """
    from scipy.special import ndtr

    repeats, width, readouts = values.shape
    flat = values.reshape(-1, readouts).astype(np.float64)
    known = np.isfinite(flat).sum(axis=0)
    effect = np.divide(np.nansum(flat - 0.5, axis=0), known, out=np.full(readouts, np.nan), where=known > 0)
    usable = (known > 0) & (positives > 0) & (negatives > 0)
    product = np.where(usable, 12.0 * positives * negatives, 1.0)
    inflation = NULL_FACTOR + NULL_FACTOR_PER_REPEAT / max(repeats, 1)
    variance = inflation * (positives + negatives + width) / product
    p = np.where(usable, ndtr(-effect / np.sqrt(np.where(usable, variance, 1.0))), np.nan)
    return PerReadout(effect=np.where(usable, effect, np.nan), p=p, q=benjamini_hochberg(p))


def chance_test(entry: Entry) -> PerReadout | None:
    """Return the test of a run's readouts against chance; None where there is none.

    Only of ROC AUC under a protocol whose error rates were measured, where the scores (stratum ``all``) state
    ``n_pos`` and ``n_neg``, perturbations of each class.
    """
    scores = entry.scores
    if entry.fold_values is None or entry.metric != AUC or not entry.variance_measured:
        return None
    if not {"n_pos", "n_neg", "readout"} <= set(scores):
        return None
    whole = scores[scores["stratum"] == "all"] if "stratum" in scores else scores
    counts = whole.set_index("readout")[["n_pos", "n_neg"]].reindex(list(entry.readouts)).fillna(0)
    return against_chance(entry.fold_values, counts["n_pos"].to_numpy(), counts["n_neg"].to_numpy())


def between_runs(a: NDArray[np.floating], b: NDArray[np.floating], folds: NDArray[np.integer]) -> PerReadout:
    """Test every readout's scores per fold of run A against those of run B, two-sided.

    Parameters
    ----------
    a, b
        (R, K, T) scores per fold; a fold counts where both are known.
    folds
        (R, P) outer folds, -1 where untested.
    """
    difference = a.astype(np.float64) - b
    cells = np.tile(np.arange(difference.shape[1]), (len(difference), 1))
    p = corrected_t(difference, cells, design(np.asarray(folds)).perturbations, VARIANCE_FACTOR, pooled=True)
    known = np.isfinite(difference).sum(axis=(0, 1))
    total = np.nansum(difference, axis=(0, 1))
    effect = np.divide(total, known, out=np.full(len(p), np.nan), where=known > 0)
    return PerReadout(effect=effect, p=p, q=benjamini_hochberg(p))


def fold_summands(values: NDArray[np.floating], folds: NDArray[np.integer]) -> Summands:
    """Return the summands of scores per fold.

    Parameters
    ----------
    values
        (R, K, T) scores, NaN where undefined.
    folds
        (R, P) outer fold of each perturbation, -1 where untested.

    Raises
    ------
    BoardError
        When the shapes disagree.
    """
    if values.ndim != 3 or folds.ndim != 2 or len(values) != len(folds) or folds.max() >= values.shape[1]:
        raise BoardError(
            f"Fold values must be (repeats, folds, readouts) and folds (repeats, perturbations); got "
            f"{values.shape} and {folds.shape} with fold {folds.max()}."
        )
    repeats, width, readouts = values.shape
    flat = values.reshape(-1, readouts).astype(np.float64)
    known = np.isfinite(flat)
    count = known.sum(axis=0)
    filled = np.where(known, flat, 0.0)
    score = np.divide(filled.sum(axis=0), count, out=np.full(readouts, np.nan), where=count > 0)
    scored = np.asarray(known.any(axis=1))  # (R K,)
    share = np.divide(scored.sum(), count, out=np.zeros(readouts), where=count > 0)
    share /= max((count > 0).sum(), 1)
    place = np.maximum(folds, 0).astype(np.int64)

    def cells(by_fold: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(by_fold.reshape(repeats, width), place, axis=1)

    tested = (folds >= 0) & cells(scored)
    return Summands(
        loss=np.where(tested, cells(np.where(known, 1.0 - filled, 0.0) @ share), 0.0),
        floor_loss=np.where(tested, cells(known @ share), 0.0),
        folds=np.where(tested, folds, -1).astype(np.int64),
        skill_by_readout=score,
        variance_factor=VARIANCE_FACTOR,
    )


def summands_of_folds(entry: Entry) -> Summands:
    """Summands of an entry that has scores per fold."""
    assert entry.fold_values is not None
    return fold_summands(entry.fold_values, entry.folds)


def shared_folds(a: Entry, b: Entry) -> tuple[Summands, Summands, tuple[str, ...]]:
    """Summands of two runs over the readouts, repeats and folds that both have, and those readouts.

    Raises
    ------
    BoardError
        When one has scores per fold and the other errors per perturbation, when nothing is shared, or when
        they tested perturbations in different folds.
    """
    if a.fold_values is None or b.fold_values is None:
        raise BoardError(f"{a.label!r} and {b.label!r} were not scored alike; rerun one of them.")
    members = set(b.readouts)
    readouts = tuple(name for name in a.readouts if name in members)
    repeats = min(len(a.folds), len(b.folds))
    if not readouts or not repeats:
        raise BoardError(f"{a.label!r} and {b.label!r} share no readout or repeat.")
    tested = (
        (a.folds[:repeats] >= 0) & (b.folds[:repeats] >= 0) if a.perturbations == b.perturbations else None
    )
    if tested is None or (a.folds[:repeats] != b.folds[:repeats])[tested].any():
        raise BoardError(
            f"{a.label!r} and {b.label!r} tested other perturbations, or in other folds; rerun one of them."
        )
    own, other = (_columns(entry, readouts, repeats) for entry in (a, b))
    known = np.isfinite(own) & np.isfinite(other)
    folds = np.where(tested, a.folds[:repeats], -1)
    left, right = (fold_summands(np.where(known, values, np.nan), folds) for values in (own, other))
    return left, right, readouts


def entry_test(a: Entry, b: Entry, readouts: tuple[str, ...]) -> PerReadout:
    """Test every readout of run A against run B over the folds that both have; see :func:`between_runs`.

    All NaN under a protocol whose error rates were not measured.
    """
    if not (a.variance_measured and b.variance_measured):
        nothing = np.full(len(readouts), np.nan)
        return PerReadout(nothing, nothing, nothing)
    repeats = min(len(a.folds), len(b.folds))
    own, other = (_columns(entry, readouts, repeats) for entry in (a, b))
    return between_runs(own, other, a.folds[:repeats])


def _columns(entry: Entry, readouts: tuple[str, ...], repeats: int) -> NDArray[np.floating]:
    assert entry.fold_values is not None
    if entry.readouts == readouts:
        return entry.fold_values[:repeats]
    index = {name: column for column, name in enumerate(entry.readouts)}
    return entry.fold_values[:repeats, :, [index[name] for name in readouts]]
