"""Per-readout tests against studentised loops and SciPy, and their behaviour on nothing."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from leaderboard.predictable import against_entry, against_floor, corrected_t, flip_signs, sign_flip
from leaderboard.rules import Rules

RULES = Rules(flips=300)


def slow_studentised(u, signs, two_sided):
    """P-value of the studentised mean, one readout and one flip at a time."""

    def t(values):
        spread = values.std(ddof=1)
        return values.mean() / (spread / math.sqrt(len(values))) if spread > 0 else 0.0

    p = []
    for column in u.T:
        size = abs if two_sided else float
        observed = size(t(column))
        extreme = sum(size(t(row * column)) >= observed - 1e-9 for row in signs)
        p.append((1 + extreme) / (1 + len(signs)))
    return np.array(p)


@pytest.mark.parametrize("two_sided", [False, True])
def test_counting_sums_equals_the_studentised_sign_flip(two_sided):
    rng = np.random.default_rng(1)
    u = rng.standard_t(3, size=(13, 25)) + np.linspace(0, 1, 25)
    signs = flip_signs(13, RULES)
    np.testing.assert_allclose(
        sign_flip(u, signs, two_sided=two_sided), slow_studentised(u, signs, two_sided), atol=1e-12
    )


def test_all_sign_patterns_give_scipys_exact_permutation_p_value():
    u = np.random.default_rng(5).normal(0.4, 1, (9, 4))
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=9)))
    exact = [
        stats.permutation_test(
            (column,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
        ).pvalue
        for column in u.T
    ]
    # SciPy counts the identity once, as one of the 2^9; the Monte-Carlo p-value adds it.
    np.testing.assert_allclose(sign_flip(u, signs, two_sided=False) * 513 - 1, np.array(exact) * 512)


def test_flips_are_the_same_for_every_run_and_change_with_the_seed():
    np.testing.assert_array_equal(flip_signs(30, RULES), flip_signs(30, RULES))
    assert (flip_signs(30, RULES) != flip_signs(30, Rules(flips=300, seed=1))).any()
    assert set(np.unique(flip_signs(30, RULES))) == {-1.0, 1.0}


def slow_corrected_t(gain, folds):
    """The corrected resampled t-test of one readout."""
    means = [
        np.nanmean(gain[r, folds[r] == f]) for r in range(len(folds)) for f in sorted(set(folds[r]) - {-1})
    ]
    k, n = folds.max() + 1, np.isfinite(gain).any(axis=0).sum()
    error = math.sqrt((1 / len(means) + 1 / (k - 1)) * np.var(means, ddof=1))
    df = 1 / (1 / (n - 1) + 1 / (len(means) - len(folds)))
    return 2 * stats.t.sf(abs(np.nanmean(gain)) / error, df)


def test_corrected_t_equals_the_loop_with_missing_values(make_folds):
    rng = np.random.default_rng(2)
    folds = make_folds(4, 5, 31)
    gain = rng.normal(0.1, 1, (4, 31, 12))
    gain[:, rng.random(31) < 0.2, 3] = np.nan
    gain[1, 4, 5] = np.nan
    slow = [slow_corrected_t(gain[:, :, g], folds) for g in range(12)]
    np.testing.assert_allclose(corrected_t(gain, folds), slow)


def test_a_comparison_takes_the_larger_p_of_both_tests(make_folds):
    rng = np.random.default_rng(3)
    folds = make_folds(5, 5, 40)
    ea, eb = rng.chisquare(1, (2, 5, 40, 60))
    test = against_entry(ea, eb, folds, np.ones(60, bool), RULES)
    u = (eb - ea).mean(axis=0)
    flip = sign_flip(u, flip_signs(40, RULES), two_sided=True)
    np.testing.assert_allclose(test.p, np.maximum(flip, corrected_t(eb - ea, folds)))
    mirrored = against_entry(eb, ea, folds, np.ones(60, bool), RULES)
    np.testing.assert_allclose(mirrored.p, test.p)
    np.testing.assert_allclose(mirrored.effect, -test.effect)


def test_blocks_do_not_change_a_p_value(make_folds, monkeypatch):
    rng = np.random.default_rng(4)
    folds = make_folds(2, 3, 20)
    e, e0 = rng.chisquare(1, (2, 2, 20, 50))
    whole = against_floor(e, e0, folds, np.ones(50, bool), RULES)
    monkeypatch.setattr("leaderboard.predictable.BLOCK", 7)
    parts = against_floor(e, e0, folds, np.ones(50, bool), RULES)
    np.testing.assert_array_equal(whole.p, parts.p)


def test_undefined_readouts_are_not_tested(make_folds):
    e0 = np.ones((2, 10, 3))
    e = e0 / 2
    e[:, :, 1] = np.nan
    test = against_floor(e, e0, make_folds(2, 2, 10), np.array([True, True, False]), RULES)
    assert np.isfinite(test.p[0])
    assert np.isnan(test.p[1:]).all()
    assert test.q[0] == test.p[0]


def test_without_folds_to_correct_by_runs_are_not_compared():
    rng = np.random.default_rng(0)
    ea, eb = rng.random((2, 1, 20, 3))
    test = against_entry(ea, eb + 1, np.zeros((1, 20), int), np.ones(3, bool), RULES)
    assert np.isnan(test.p).all()
    assert not test.significant(0.05).any()


def test_identical_predictions_are_no_evidence(make_folds):
    e = np.random.default_rng(0).random((3, 20, 4))
    test = against_entry(e, e, make_folds(3, 4, 20), np.ones(4, bool), RULES)
    np.testing.assert_array_equal(test.p, 1.0)


def test_noise_is_called_predictable_in_few_screens_and_signal_is_found():
    rng = np.random.default_rng(8)
    folds = np.tile(np.arange(60) % 5, (1, 1))
    false_screens, found = 0, []
    for _ in range(40):
        truth = rng.normal(size=(60, 40))
        guess = 0.15 * rng.normal(size=truth.shape)
        guess[:, 30:] += 0.5 * truth[:, 30:]
        e, e0 = ((truth - guess) ** 2)[None], (truth**2)[None]
        hits = against_floor(e, e0, folds, np.ones(40, bool), Rules(flips=500)).significant(0.05)
        false_screens += hits[:30].any()
        found.append(hits[30:].mean())
    # Null readouts have negative expected skill, so errors are far rarer than 5 %.
    assert false_screens <= 2
    assert np.mean(found) > 0.9
