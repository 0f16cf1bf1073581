"""Error rates of our own decisions on simulated screens, with equal and with unequal featurizers.

Perturbations have a latent state Z that images show and programmes U that they do not; genes follow both, so
that genes are dependent. Featurizers see Z through noise per perturbation and per well and carry nuisance
dimensions. Ridge, penalty per gene tuned on the other outer folds (a shortcut: nested cross-validation tunes
inside); the losses of folds share training sets, as in the real thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import beta

from leaderboard.decide import decide, skill_interval
from leaderboard.predictable import against_floor
from leaderboard.rules import Rules
from leaderboard.summands import summands

ALPHAS = np.array([1e0, 1e1, 1e2, 1e3, 1e4, 1e6])


@dataclass(frozen=True)
class Population:
    """One gene population; perturbations are drawn anew for every screen."""

    perturbations: int = 60
    wells: int = 2
    genes: int = 120
    latent: int = 10
    programmes: int = 3
    nuisance: int = 10
    repeats: int = 5
    folds: int = 5
    heavy: float = 0.0
    noise: tuple[float, float, float] = (0.5, 0.5, 1.0)
    """Noise of featurizers A, B (equally good) and C (worse)."""

    def loadings(self):
        rng = np.random.default_rng(99)
        to_latent = rng.normal(size=(self.latent, self.genes)) / np.sqrt(self.latent)
        to_latent[:, : int(0.4 * self.genes)] = 0.0
        return to_latent, rng.normal(size=(self.programmes, self.genes)) / np.sqrt(self.programmes)

    def screen(self, seed):
        """Squared errors (3, R, P, T) of A, B, C, those of the floor (R, P, T), and folds (R, P)."""
        rng = np.random.default_rng([seed, 7])
        n, w = self.perturbations, self.wells
        strength = np.exp(self.heavy * rng.normal(size=(n, 1)))
        z, u = strength * rng.normal(size=(n, self.latent)), strength * rng.normal(size=(n, self.programmes))
        to_latent, to_programmes = self.loadings()
        hidden = 0.7 * u @ to_programmes
        wells = np.repeat(np.arange(n), w)
        Y = (z @ to_latent + hidden)[wells] + 0.7 * rng.normal(size=(n * w, self.genes))
        features = []
        for noise in self.noise:
            seen = z + noise * strength * rng.normal(size=z.shape)
            wide = np.hstack([seen, strength * rng.normal(size=(n, self.nuisance))])[wells]
            features.append(wide + 0.5 * rng.normal(size=wide.shape))
        folds = np.stack([rng.permutation(np.arange(n) % self.folds) for _ in range(self.repeats)])
        e = np.stack([self.errors(X, Y, folds, wells) for X in features])
        floor = self.errors(np.zeros((n * w, 1)), Y, folds, wells)
        return e, floor, folds

    def errors(self, X, Y, folds, wells):
        """Squared errors of ridge per repeat and perturbation, its wells averaged; (R, P, T)."""
        out = np.empty((len(folds), self.perturbations, Y.shape[1]))
        for repeat, fold in enumerate(folds):
            every = np.empty((len(ALPHAS), *Y.shape))
            for k in range(self.folds):
                test = fold[wells] == k
                mean, centre = Y[~test].mean(axis=0), X[~test].mean(axis=0)
                U, s, Vt = np.linalg.svd(X[~test] - centre, full_matrices=False)
                rotated, scores = U.T @ (Y[~test] - mean), (X[test] - centre) @ Vt.T
                for a, alpha in enumerate(ALPHAS):
                    every[a, test] = mean + scores @ ((s / (s**2 + alpha))[:, None] * rotated)
            squared = ((Y - every) ** 2).reshape(len(ALPHAS), self.perturbations, self.wells, -1).mean(axis=2)
            for k in range(self.folds):
                best = squared[:, fold != k].sum(axis=1).argmin(axis=0)
                out[repeat, fold == k] = np.take_along_axis(squared, best[None, None], axis=0)[0, fold == k]
        return out


def lower_bound(hits, trials):
    """One-sided 95 % Clopper-Pearson lower bound of a rate."""
    return 0.0 if hits == 0 else float(beta.ppf(0.05, hits, trials - hits + 1))


def simulate(population, screens):
    """Verdicts A-B and A-C, skills and intervals of A, null calls of D3; one row per screen."""
    null = int(0.4 * population.genes)
    rows = []
    for seed in range(screens):
        e, e0, folds = population.screen(seed)
        a, b, c = (summands(each, e0, folds) for each in e)
        equal, worse, interval = decide(a, b, margin=0.0), decide(a, c, margin=0.0), skill_interval(a)
        called = against_floor(e[0], e0, folds, a.defined, Rules(flips=1000)).significant(0.05)
        rows.append(
            (
                equal.verdict != "tied",
                worse.verdict == "better",
                worse.verdict == "worse",
                interval.estimate,
                interval.low,
                interval.high,
                called[:null].sum() / max(called.sum(), 1),
                called.sum(),
            )
        )
    return np.array(rows, dtype=float).T


def test_a_few_simulated_screens_behave():
    population = Population(genes=60, repeats=3)
    false, found, reverse, skill, _, _, _, called = simulate(population, 12)
    assert false.sum() <= 3  # 5 % of 12 screens; more than 3 has probability 0.002
    assert found.sum() >= 4
    assert reverse.sum() == 0
    assert 0.05 < skill.mean() < 0.5
    assert called.mean() > 5


@pytest.mark.slow
@pytest.mark.parametrize("heavy", [0.0, 0.5], ids=["light tails", "heavy tails"])
def test_equal_featurizers_are_declared_different_no_more_often_than_stated(heavy):
    screens = 300
    false, found, _, skill, low, high, fdp, _ = simulate(Population(heavy=heavy), screens)
    # docs/statistics.md states 0.2-6.2 % for D1 at a nominal 5 %, and under 5 % for D3.
    assert lower_bound(int(false.sum()), screens) <= 0.05
    assert found.mean() > (0.3 if heavy == 0 else 0.1)
    covered = (low <= skill.mean()) & (skill.mean() <= high)
    assert lower_bound(int((~covered).sum()), screens) <= 0.07
    assert fdp.mean() <= 0.05
