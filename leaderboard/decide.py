r"""Overall decisions: is A better than B (D1), how large is the difference, how large is one skill (D2).

Folds of a cross-validation share training data, so their spread understates the variance. The corrected
variance adds, to 1 / (K R), the test share over the training share of a fold, 1 / (K - 1) (Nadeau & Bengio
2003, Machine Learning 52, 239-281, corrected resampled t-test):

    c = 1 / (K R) + 1 / (K - 1)
    raw_rf = sum_{i in f} (lB - lA) / w_f           lin_rf = sum_{i in f} [(lB - lA) - D l0] / w_f
    V  = c max(var raw_rf, var lin_rf)              df = 1 / (1 / (n - 1) + 1 / (R (K - 1)))
    A and B differ iff |D| > t_{df, 1 - level/2} sqrt(V);       "better" also needs |D| > margin
    one run:  V1 = c var( -sum_{i in f} [l - (1 - skill) l0] / w_f )

With a flat prior the posterior of the true difference is a Student t with df degrees of freedom, centre D and
scale sqrt(V) (Corani & Benavoli 2015, Machine Learning 100, 285-304, the Bayesian correlated t-test, whose
correlation 1 / K between fold values gives the same c), so that with the margin m

    P(worse), P(same), P(better) = T((-m - D)/sqrt(V)),  the rest,  1 - T((m - D)/sqrt(V)).

w_f perturbations stand in fold f of repeat r, n in all; variances have divisor K R - 1. Scores that exist per
fold only multiply V by a measured factor (:mod:`leaderboard.folded`). Measured error rates
are in ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from leaderboard.summands import FloatArray, Summands

Verdict = Literal["better", "worse", "tied", "undecided"]
MDD_FACTOR = 3.2
"""Standard errors that a true difference must measure to be found in 80 % of data sets."""


@dataclass(frozen=True, slots=True)
class Design:
    """Size of a cross-validation: what the corrected variance and its degrees of freedom depend on.

    Parameters
    ----------
    values
        Fold values in all, K R.
    repeats
        Repeats R in which something was tested.
    folds
        Outer folds K of a repeat.
    perturbations
        Perturbations n that were tested at least once.
    """

    values: int
    repeats: int
    folds: int
    perturbations: int

    @property
    def measurable(self) -> bool:
        """Whether fold values have a spread and a training set to correct for."""
        return self.folds >= 2 and self.values >= 2 and self.perturbations >= 2

    @property
    def factor(self) -> float:
        """C = 1 / (K R) + 1 / (K - 1)."""
        return 1.0 / self.values + 1.0 / (self.folds - 1)

    @property
    def df(self) -> float:
        """Degrees of freedom, 1 / (1 / (n - 1) + 1 / (R (K - 1)))."""
        return 1.0 / (1.0 / (self.perturbations - 1) + 1.0 / max(self.values - self.repeats, 1))


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval; ``low`` and ``high`` are NaN where no variance can be stated."""

    estimate: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Decision:
    """D1 and D2 for a pair: positive ``difference`` speaks for the first.

    Parameters
    ----------
    difference, low, high, standard_error
        D and its interval D ± t sqrt(V).
    df, p
        Degrees of freedom and two-sided p-value of D / sqrt(V).
    mdd80
        3.2 sqrt(V): true difference found in 80 % of data sets; NaN for two runs with the same losses, whose
        spread says nothing of what could be found.
    effective_number
        (sum l0)^2 / sum l0^2.
    verdict
        Of the first against the second; ``tied`` when not resolved or within the margin, ``undecided`` when
        no variance can be stated.
    p_worse, p_same, p_better
        Posterior probabilities that the true difference lies below -margin, within it, and above margin; NaN
        when no variance can be stated. They are shown, the verdict does not use them.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    df: float
    p: float
    mdd80: float
    effective_number: float
    verdict: Verdict
    p_worse: float = math.nan
    p_same: float = math.nan
    p_better: float = math.nan


def design(folds: np.ndarray) -> Design:
    """Read the size of the cross-validation from folds (R, P), -1 where untested."""
    tested = folds >= 0
    per_repeat = [np.unique(row[row >= 0]).size for row in folds]
    return Design(
        values=sum(per_repeat),
        repeats=sum(k > 0 for k in per_repeat),
        folds=max(per_repeat, default=0),
        perturbations=int(tested.any(axis=0).sum()),
    )


def fold_means(cells: FloatArray, folds: np.ndarray) -> FloatArray:
    """Average cells (R, P) within each fold of each repeat; (K R,) in order of repeat and fold."""
    tested = folds >= 0
    width = int(folds.max(initial=-1)) + 1
    index = (np.arange(len(folds))[:, None] * width + folds)[tested]
    size = np.bincount(index, minlength=len(folds) * width)
    total = np.bincount(index, weights=cells[tested], minlength=len(folds) * width)
    return total[size > 0] / size[size > 0]


def t_quantile(df: float, level: float) -> float:
    """Two-sided critical value of Student's t at ``level``."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 1.0 - level / 2.0))


def t_two_sided(t: FloatArray | float, df: FloatArray | float) -> FloatArray:
    """Two-sided p-value of Student's t; NaN stays NaN."""
    from scipy.special import stdtr

    return np.asarray(2.0 * stdtr(df, -np.abs(t)))


def skill_interval(a: Summands, level: float = 0.05, *, measured: bool = True) -> Interval:
    """Interval of one run's mean skill (D2, linearised fold values).

    The target is the expected skill of the procedure trained on n (1 - 1/K) perturbations drawn from the
    same population, not that of the model trained on these data. ``measured`` as in :func:`decide`. No skill
    is above 1, so an interval that would pass it ends there; it covers as often as before.
    """
    size = design(a.folds)
    nothing = Interval(a.skill, math.nan, math.nan, math.nan)
    if not measured or not size.measurable or math.isnan(a.skill):
        return nothing
    values = -fold_means(a.loss - (1.0 - a.skill) * a.floor_loss, a.folds)
    error = math.sqrt(a.variance_factor * size.factor * float(values.var(ddof=1)))
    half = t_quantile(size.df, level) * error
    return Interval(a.skill, a.skill - half, min(a.skill + half, 1.0), error)


def decide(
    a: Summands, b: Summands, *, margin: float, level: float = 0.05, measured: bool = True
) -> Decision:
    """Compare two runs by the D1 rule.

    Parameters
    ----------
    a, b
        Summands over the same cells and readouts (see :func:`leaderboard.comparison.aligned`).
    margin
        Smallest difference that counts as better, from the protocol.
    level
        Two-sided level.
    measured
        Whether the protocol's error rates are known; without them nothing but the difference is stated.
    """
    size = design(a.folds)
    difference = a.skill - b.skill
    effective = a.effective_number
    if not measured or not size.measurable or math.isnan(difference):
        nan = math.nan
        return Decision(difference, nan, nan, nan, nan, nan, nan, effective, "undecided")
    gain = b.loss - a.loss
    raw = fold_means(gain, a.folds)
    linear = fold_means(gain - difference * a.floor_loss, a.folds)
    variance = max(float(raw.var(ddof=1)), float(linear.var(ddof=1)))
    error = math.sqrt(a.variance_factor * size.factor * variance)
    half = t_quantile(size.df, level) * error
    p = float(t_two_sided(difference / error, size.df)) if error > 0 else 1.0 if difference == 0 else 0.0
    worse, same, better = posterior(difference, error, size.df, margin)
    return Decision(
        difference=difference,
        low=difference - half,
        high=difference + half,
        standard_error=error,
        df=size.df,
        p=p,
        mdd80=MDD_FACTOR * error if error > 0 else math.nan,
        effective_number=effective,
        verdict=judge(difference, resolved=abs(difference) > half, margin=margin),
        p_worse=worse,
        p_same=same,
        p_better=better,
    )


def posterior(difference: float, error: float, df: float, margin: float) -> tuple[float, float, float]:
    """Probabilities that the true difference is below -margin, within it, and above margin.

    Parameters
    ----------
    difference, error, df
        D, sqrt(V) and df: centre, scale and degrees of freedom of the posterior; a point without spread.
    margin
        Largest difference that counts as the same, from the protocol.
    """
    from scipy.special import stdtr

    if error == 0.0:
        return float(difference < -margin), float(abs(difference) <= margin), float(difference > margin)
    worse = float(stdtr(df, (-margin - difference) / error))
    better = float(stdtr(df, (difference - margin) / error))
    return worse, max(0.0, 1.0 - worse - better), better


def judge(difference: float, *, resolved: bool, margin: float) -> Verdict:
    """Turn a resolved or unresolved difference into words: better needs both resolution and margin."""
    if not resolved or abs(difference) <= margin:
        return "tied"
    return "better" if difference > 0 else "worse"
