"""Error rates of the overall decision on ROC AUC, on simulated screens with equal and unequal featurizers.

The screens of ``test_calibration``, with calls in the place of values: a gene is up where its value is in the
upper ``prevalence`` of the population, and masked where it is in the lower. Scores are those of a ridge on
the calls, penalty per gene tuned on the other outer folds; AUC is over the wells' perturbation means within a
fold. Null genes (40 %) dilute every mean, as on real boards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import beta, norm

from leaderboard.decide import decide, skill_interval
from leaderboard.folded import fold_summands

ALPHAS = np.array([1e1, 1e2, 1e3, 1e4])


@dataclass(frozen=True)
class Calls:
    """One gene population; perturbations are drawn anew for every screen."""

    perturbations: int = 60
    genes: int = 120
    latent: int = 10
    programmes: int = 3
    nuisance: int = 10
    repeats: int = 5
    folds: int = 5
    heavy: float = 0.0
    prevalence: float = 0.25
    noise: tuple[float, float, float] = (0.5, 0.5, 1.0)

    def screen(self, seed):
        """Fold AUCs (3, R, K, T) of featurizers A, B (equally good) and C (worse), and folds (R, P)."""
        fixed = np.random.default_rng(99)
        to_latent = fixed.normal(size=(self.latent, self.genes)) / np.sqrt(self.latent)
        to_latent[:, : int(0.4 * self.genes)] = 0.0
        to_hidden = fixed.normal(size=(self.programmes, self.genes)) / np.sqrt(self.programmes)
        rng = np.random.default_rng([seed, 11])
        n = self.perturbations
        strength = np.exp(self.heavy * rng.normal(size=(n, 1)))
        z, u = (strength * rng.normal(size=(n, k)) for k in (self.latent, self.programmes))
        value = z @ to_latent + 0.7 * u @ to_hidden + 0.5 * rng.normal(size=(n, self.genes))
        spread = np.sqrt((to_latent**2).sum(axis=0) + 0.49 * (to_hidden**2).sum(axis=0) + 0.25)
        limit = norm.isf(self.prevalence) * spread
        y = np.where(value > limit, 1.0, np.where(value < -limit, np.nan, 0.0))
        folds = np.stack([rng.permutation(np.arange(n) % self.folds) for _ in range(self.repeats)])
        scores = []
        for noise in self.noise:
            seen = z + noise * strength * rng.normal(size=z.shape)
            X = np.hstack([seen, strength * rng.normal(size=(n, self.nuisance))])
            scores.append(self.aucs(X + 0.35 * rng.normal(size=X.shape), y, folds))
        return np.stack(scores), folds

    def aucs(self, X, y, folds):
        """(R, K, T) AUC within folds; missing calls weigh nothing, by filling them with the training mean."""
        known = np.isfinite(y)
        out = np.full((len(folds), self.folds, y.shape[1]), np.nan)
        for repeat, fold in enumerate(folds):
            every = np.empty((len(ALPHAS), *y.shape))
            for k in range(self.folds):
                test = fold == k
                mean = np.where(known[~test], y[~test], 0).sum(axis=0) / np.maximum(
                    known[~test].sum(axis=0), 1
                )
                filled = np.where(known[~test], y[~test] - mean, 0.0)
                U, s, Vt = np.linalg.svd(X[~test] - X[~test].mean(axis=0), full_matrices=False)
                rotated, scores = U.T @ filled, (X[test] - X[~test].mean(axis=0)) @ Vt.T
                for a, alpha in enumerate(ALPHAS):
                    every[a, test] = mean + scores @ ((s / (s**2 + alpha))[:, None] * rotated)
            squared = np.where(known, (y - every) ** 2, 0.0)
            for k in range(self.folds):
                best = squared[:, fold != k].sum(axis=1).argmin(axis=0)
                p = np.take_along_axis(every[:, fold == k], best[None, None], axis=0)[0]
                out[repeat, k] = pairwise(y[fold == k], p)
        return out


def pairwise(y, p):
    """(T,) share of positive-negative pairs in the right order, by all pairs of rows."""
    order = (p[:, None] > p[None]) + 0.5 * (p[:, None] == p[None])
    pair = (y == 1)[:, None] & (y == 0)[None]
    count = pair.sum(axis=(0, 1))
    return np.divide((order * pair).sum(axis=(0, 1)), count, out=np.full(y.shape[1], np.nan), where=count > 0)


def lower_bound(hits, trials):
    """One-sided 95 % Clopper-Pearson lower bound of a rate."""
    return 0.0 if hits == 0 else float(beta.ppf(0.05, hits, trials - hits + 1))


def simulate(population, screens):
    """A-B resolved, A better than C, C better than A, AUC of A and its interval, A − C; per screen."""
    rows = []
    for seed in range(screens):
        values, folds = population.screen(seed)
        a, b, c = (fold_summands(each, folds) for each in values)
        equal, worse, interval = decide(a, b, margin=0.0), decide(a, c, margin=0.0), skill_interval(a)
        rows.append(
            (
                equal.verdict != "tied",
                worse.verdict == "better",
                worse.verdict == "worse",
                interval.estimate,
                interval.low,
                interval.high,
                worse.difference,
                worse.low,
                worse.high,
            )
        )
    return np.array(rows, dtype=float).T


def test_a_few_simulated_screens_behave():
    false, _, reverse, auc, _, _, difference, _, _ = simulate(Calls(genes=60, repeats=3), 8)
    assert false.sum() <= 3
    assert reverse.sum() == 0
    assert (difference > 0).sum() >= 6  # the featurizer with more noise is worse
    assert 0.55 < auc.mean() < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("heavy", [0.0, 0.5], ids=["light tails", "heavy tails"])
def test_equal_featurizers_are_declared_different_no_more_often_than_stated(heavy):
    screens = 300
    false, found, _, auc, low, high, difference, below, above = simulate(Calls(heavy=heavy), screens)
    assert lower_bound(int(false.sum()), screens) <= 0.05
    assert found.mean() > 0.1
    missed = (auc.mean() < low) | (auc.mean() > high)
    assert lower_bound(int(missed.sum()), screens) <= 0.07
    apart = (difference.mean() < below) | (difference.mean() > above)
    assert lower_bound(int(apart.sum()), screens) <= 0.07
