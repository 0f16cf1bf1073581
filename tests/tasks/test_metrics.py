"""Metrics against SciPy and scikit-learn, one readout at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn.metrics import mean_squared_error

from tasks import metrics
from tasks.base import TaskError


def pairs(m=50, T=30, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(m, T))
    p = 0.5 * y + rng.normal(size=(m, T))
    return y, p, rng.random((m, T)) > 0.2


def test_squared_correlation_equals_scipys():
    y, p, mask = pairs()
    y, p = np.where(mask, y, np.nan), np.where(mask, p, 1e30)
    r2 = metrics.pearson_r2(y, p, mask)
    for t in range(y.shape[1]):
        own = mask[:, t]
        np.testing.assert_allclose(r2[t], stats.pearsonr(y[own, t], p[own, t]).statistic ** 2, rtol=1e-12)


def test_mse_equals_scikit_learns():
    y, p, mask = pairs()
    out = metrics.mse(np.where(mask, y, np.nan), p, mask)
    for t in range(y.shape[1]):
        np.testing.assert_allclose(out[t], mean_squared_error(y[mask[:, t], t], p[mask[:, t], t]), rtol=1e-12)


def test_skill_is_one_minus_the_ratio_of_summed_errors_and_is_not_clipped():
    rng = np.random.default_rng(0)
    e, e0 = rng.random((3, 7, 5)).astype(np.float32), rng.random((3, 7, 5)).astype(np.float32)
    e[1, 2] = e0[1, 2] = np.nan
    e[:, :, 3] *= 50
    e0[:, :, 4] = 0
    out = metrics.skill(e, e0)
    for t in range(4):
        known = ~np.isnan(e[:, :, t])
        expected = 1 - e[:, :, t][known].astype(float).sum() / e0[:, :, t][known].astype(float).sum()
        np.testing.assert_allclose(out[t], expected, rtol=1e-12)
    assert out[3] < -10
    assert np.isnan(out[4])


def test_undefined_correlations_are_nan():
    y, p, mask = pairs(T=4)
    y[:, 0] = 0.1
    p[:, 1] = 1 / 3
    mask[2:, 2] = False
    mask[:, 3] = False
    assert np.isnan(metrics.pearson_r2(y, p, mask)).all()


@given(
    y=arrays.arrays(float, (6, 3), elements=st.floats(0, 1e6)),
    p=arrays.arrays(float, (6, 3), elements=st.floats(0, 1e6)),
)
def test_smape_is_bounded_symmetric_and_zero_over_zero_is_zero(y, p):
    mask = np.ones(y.shape, bool)
    out = metrics.smape(y, p, mask)
    assert (out >= 0).all()
    assert (out <= 100 + 1e-9).all()
    np.testing.assert_allclose(out, metrics.smape(p, y, mask))
    for t in range(3):
        terms = [
            0.0 if a == b == 0 else 100 * abs(a - b) / (a + b) for a, b in zip(y[:, t], p[:, t], strict=True)
        ]
        np.testing.assert_allclose(out[t], np.mean(terms), rtol=1e-12, atol=1e-300)


def test_smape_depends_on_the_zero_of_the_scale():
    y, p, mask = np.array([[1.0], [2.0]]), np.array([[2.0], [1.0]]), np.ones((2, 1), bool)
    np.testing.assert_allclose(metrics.smape(y, p, mask), 100 / 3)
    assert metrics.smape(y + 100, p + 100, mask) < 1


def test_smape_refuses_a_signed_scale_and_ignores_what_is_masked():
    y, p = np.array([[-1.0], [2.0]]), np.array([[1.0], [2.0]])
    with pytest.raises(TaskError, match="non-negative"):
        metrics.smape(y, p, np.ones((2, 1), bool))
    assert metrics.smape(y, p, np.array([[False], [True]])) == 0


def test_nothing_observed_is_nan():
    y, p, mask = pairs(T=2)
    mask[:, 1] = False
    for score in (metrics.mse, metrics.smape):
        out = score(np.abs(y), p, mask)
        assert np.isfinite(out[0])
        assert np.isnan(out[1])
