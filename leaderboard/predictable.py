r"""Per-readout tests (D3): which readouts a run predicts, and which it predicts better than another run.

The perturbation is the unit. With u_i the mean over repeats of e0 - e (against the floor) or of eB - eA
(between runs), the sign of every u_i is as likely + as - under the null of symmetric differences. The
studentised mean

    t(s) = mean(s u) / (sd(s u) / sqrt(n)),    s in {-1, +1}^n,

is a monotone function of S(s) = sum_i s_i u_i, because sum u_i^2 does not change with the signs, so counting
S gives the studentised test's p-value. The same flips serve all readouts: the dependence between readouts is
kept, and all flips of a block of readouts are one matrix product.

Between runs the sign-flip alone is liberal (training sets are shared), so p is the larger of it and of a
corrected resampled t-test per readout, V = c var_rf(fold means), with c and df of :mod:`leaderboard.decide`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from leaderboard.adjust import benjamini_hochberg
from leaderboard.decide import design, t_two_sided
from leaderboard.summands import BLOCK, FloatArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from leaderboard.rules import Rules


@dataclass(frozen=True, eq=False)
class PerReadout:
    """A test per readout.

    Parameters
    ----------
    effect
        (T,) mean over perturbations of u, in squared units of the readout; positive speaks for the run.
    p, q
        (T,) p-values and Benjamini-Hochberg q-values; NaN where nothing was observed.
    """

    effect: FloatArray
    p: FloatArray
    q: FloatArray

    def significant(self, q: float) -> NDArray[np.bool_]:
        """(T,) bool: effects above zero with a q-value below ``q``."""
        return (self.q < q) & (self.effect > 0)


def flip_signs(perturbations: int, rules: Rules) -> FloatArray:
    """(flips, P) of -1 and +1, seeded: the same for every readout, run and comparison on the same P."""
    return _signs(perturbations, rules.flips, rules.seed)


@lru_cache(maxsize=2)
def _signs(perturbations: int, flips: int, seed: int) -> FloatArray:
    rng = np.random.default_rng([seed, perturbations])
    signs = np.where(rng.integers(0, 2, (flips, perturbations), dtype=np.int8) > 0, 1.0, -1.0)
    signs.flags.writeable = False
    return signs


def against_floor(
    e: NDArray[np.floating],
    e0: NDArray[np.floating],
    folds: NDArray[np.integer],
    defined: NDArray[np.bool_],
    rules: Rules,
) -> PerReadout:
    """Test every readout against the floor, one-sided.

    Parameters
    ----------
    e, e0
        (R, P, T) squared errors of the run and of the floor.
    folds
        (R, P) outer folds, -1 where untested.
    defined
        (T,) bool, readouts with a skill; the others are not tested.
    rules
        Flips, seed and q.
    """
    signs = flip_signs(e.shape[1], rules)

    def test(gain: FloatArray) -> tuple[FloatArray, FloatArray]:
        u, known = _repeat_mean(gain)
        return _effect(u, known), sign_flip(u, signs, two_sided=False)

    return _by_blocks(e0, e, folds, defined, test)


def against_entry(
    ea: NDArray[np.floating],
    eb: NDArray[np.floating],
    folds: NDArray[np.integer],
    defined: NDArray[np.bool_],
    rules: Rules,
) -> PerReadout:
    """Test every readout of run A against run B, two-sided; positive effects speak for A.

    Parameters
    ----------
    ea, eb
        (R, P, T) squared errors of both runs; a cell counts where both are finite.
    folds
        (R, P) outer folds, -1 where untested.
    defined
        (T,) bool, readouts with a skill in both; the others are not tested.
    rules
        Flips, seed and q.
    """
    signs = flip_signs(ea.shape[1], rules)

    def test(gain: FloatArray) -> tuple[FloatArray, FloatArray]:
        u, known = _repeat_mean(gain)
        # Without a corrected variance (NaN) there is no test: the sign-flip alone is liberal.
        p = np.maximum(sign_flip(u, signs, two_sided=True), corrected_t(gain, folds))
        return _effect(u, known), p

    return _by_blocks(eb, ea, folds, defined, test)


def sign_flip(u: FloatArray, signs: FloatArray, *, two_sided: bool) -> FloatArray:
    """Return p = (1 + #{flips at least as extreme}) / (1 + flips) per readout.

    Parameters
    ----------
    u
        (P, T) differences per perturbation; 0 where unobserved.
    signs
        (F, P) of -1 and +1.
    two_sided
        Count |S| instead of S.
    """
    observed = u.sum(axis=0)
    # Equal sums may differ in the last bits of the product; a tie counts against the run.
    slack = 1e-12 * np.abs(u).sum(axis=0)
    flipped = signs @ u  # (F, T)
    if two_sided:
        np.abs(flipped, out=flipped)
        observed = np.abs(observed)
    return np.asarray((1.0 + (flipped >= observed - slack).sum(axis=0)) / (1.0 + len(signs)))


def corrected_t(
    gain: FloatArray,
    folds: NDArray[np.integer],
    perturbations: int | None = None,
    variance_factor: float = 1.0,
    *,
    pooled: bool = False,
) -> FloatArray:
    """Two-sided p-value of the corrected resampled t-test per readout (Nadeau & Bengio 2003).

    With J fold values and n perturbations of a readout, t = mean / sqrt(c var), c = 1/J + 1/(K - 1),
    df = 1 / (1 / (n - 1) + 1 / (J - R)), as overall in :mod:`leaderboard.decide`. The classic test has
    df = J - 1, which is larger: this one rejects no more often.

    Parameters
    ----------
    gain
        (R, P, T) differences of squared errors, NaN where unobserved.
    folds
        (R, P) outer folds, -1 where untested.
    perturbations
        n of every readout, where ``gain`` is per fold and does not tell.
    variance_factor
        Measured factor on the variance.
    pooled
        Raise variances below the mean over readouts (of those that vary) to it: a few fold values that happen
        to agree are no evidence.

    Returns
    -------
    ndarray
        (T,) p-values; NaN where fewer than two folds or two perturbations were observed.
    """
    size = design(np.asarray(folds))
    readouts = gain.shape[2]
    if not size.measurable:
        return np.full(readouts, np.nan)
    known = np.isfinite(gain)
    number = known.any(axis=0).sum(axis=0) if perturbations is None else np.full(readouts, perturbations)
    known = known.reshape(-1, readouts)
    values = np.where(known, gain.reshape(-1, readouts), 0.0)
    width = int(folds.max()) + 1
    cell = np.where(folds >= 0, np.arange(len(folds))[:, None] * width + folds, -1).ravel()
    member = (cell == np.unique(cell[cell >= 0])[:, None]).astype(np.float64)  # (KR, RP)
    count = member @ known
    seen = count > 0
    folds_seen = seen.sum(axis=0)
    means = np.divide(member @ values, count, out=np.zeros_like(count), where=seen)  # (KR, T)
    usable = (folds_seen >= 2) & (number >= 2)
    centre = means.sum(axis=0) / np.maximum(folds_seen, 1)
    variance = (np.where(seen, means - centre, 0.0) ** 2).sum(axis=0) / np.maximum(folds_seen - 1, 1)
    if pooled and (usable & (variance > 0)).any():
        least = variance[usable & (variance > 0)].mean()
        variance = np.where(variance > 0, np.maximum(variance, least), 0.0)
    factor = variance_factor * (1.0 / np.maximum(folds_seen, 1) + 1.0 / (size.folds - 1))
    df = 1.0 / (1.0 / np.maximum(number - 1, 1) + 1.0 / np.maximum(folds_seen - size.repeats, 1))
    mean = values.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = t_two_sided(mean / np.sqrt(factor * variance), df)
    # Identical predictions: no difference and no spread is no evidence.
    p = np.where((mean == 0) & (variance == 0), 1.0, p)
    return np.where(usable, p, np.nan)


def _repeat_mean(gain: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Mean over observed repeats, (P, T), 0 where never observed; and the observed perturbations, (T,)."""
    known = np.isfinite(gain)
    count = known.sum(axis=0)
    u = np.where(known, gain, 0.0).sum(axis=0) / np.maximum(count, 1)
    return u, (count > 0).sum(axis=0)


def _effect(u: FloatArray, known: NDArray[np.intp]) -> FloatArray:
    return np.where(known > 0, u.sum(axis=0) / np.maximum(known, 1), np.nan)


def _by_blocks(
    worse: NDArray[np.floating],
    better: NDArray[np.floating],
    folds: NDArray[np.integer],
    defined: NDArray[np.bool_],
    test: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
) -> PerReadout:
    """Run ``test`` on ``worse - better`` in blocks of readouts and adjust over all of them."""
    readouts = worse.shape[2]
    effect, p = np.full(readouts, np.nan), np.full(readouts, np.nan)
    untested = (folds < 0)[:, :, None]
    for start in range(0, readouts, BLOCK):
        part = slice(start, start + BLOCK)
        gain = worse[:, :, part].astype(np.float64) - better[:, :, part]
        gain[np.broadcast_to(untested, gain.shape) | ~np.isfinite(gain)] = np.nan
        effect[part], p[part] = test(gain)
    effect[~defined] = np.nan
    p[np.isnan(effect)] = np.nan
    return PerReadout(effect=effect, p=p, q=benjamini_hochberg(p))
