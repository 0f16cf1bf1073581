"""Benjamini-Hochberg and Holm against SciPy and statsmodels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from leaderboard.adjust import benjamini_hochberg, holm

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
