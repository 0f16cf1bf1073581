"""Benjamini-Hochberg and Holm against SciPy and statsmodels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from leaderboard.adjust import benjamini_hochberg, hierarchical, holm

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(probabilities)
def test_q_values_equal_scipys(p):
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p))


@given(probabilities)
def test_holm_equals_the_step_down_loop(p):
    adjusted, running = np.empty(len(p)), 0.0
    for position, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - position) * p[index]))
        adjusted[index] = running
    np.testing.assert_allclose(holm(p), adjusted)


def test_both_equal_statsmodels():
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    p = np.random.default_rng(0).beta(0.4, 1.0, 200)
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


@pytest.mark.parametrize("adjust", [benjamini_hochberg, holm])
def test_undefined_tests_do_not_count(adjust):
    p = np.array([0.01, np.nan, 0.04, np.nan])
    adjusted = adjust(p)
    np.testing.assert_allclose(adjusted[[0, 2]], adjust(p[[0, 2]]))
    assert np.isnan(adjusted[[1, 3]]).all()
    assert adjust(np.array([])).size == 0


def slow_hierarchical(p, q):
    """Peterson et al. 2016, one family at a time."""
    families = []
    for family in range(p.shape[1]):
        own = sorted(value for value in p[:, family] if np.isfinite(value))
        families.append(min((v * len(own) / k for k, v in enumerate(own, 1)), default=np.nan))
    chosen = [i for i, value in enumerate(benjamini_hochberg(families)) if value <= q]
    tested = sum(np.isfinite(value) for value in families)
    rejected = np.zeros(p.shape, dtype=bool)
    for family in chosen:
        within = benjamini_hochberg(p[:, family])
        rejected[:, family] = within <= q * len(chosen) / tested
    return rejected


@pytest.mark.parametrize("seed", range(20))
def test_hierarchical_rejections_equal_the_loop_over_families(seed):
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=(rng.integers(1, 6), rng.integers(1, 30))) ** rng.integers(1, 8)
    p[rng.uniform(size=p.shape) < 0.1] = np.nan
    for q in (0.01, 0.05, 0.3):
        np.testing.assert_array_equal(hierarchical(p, q), slow_hierarchical(p, q))


def test_one_test_per_family_is_benjamini_hochberg():
    p = np.array([0.001, 0.012, 0.02, 0.03, 0.2, 0.5])
    np.testing.assert_array_equal(hierarchical(p[None], 0.05)[0], benjamini_hochberg(p) <= 0.05)


def test_hierarchical_testing_keeps_the_rate_of_selected_families_where_single_rows_do_not():
    rng = np.random.default_rng(1)
    alone, together = [], []
    for _ in range(300):
        p = rng.uniform(size=(8, 100))
        p[:, :20] **= 12  # 20 readouts that every entrant predicts
        truth = np.arange(100) < 20
        rows = np.array([benjamini_hochberg(row) <= 0.05 for row in p]).any(axis=0)
        families = hierarchical(p, 0.05).any(axis=0)
        alone.append((rows & ~truth).sum() / max(rows.sum(), 1))
        together.append((families & ~truth).sum() / max(families.sum(), 1))
    assert np.mean(together) < 0.05 < 0.1 < np.mean(alone)
