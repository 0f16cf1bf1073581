"""ROC AUC, average precision and Spearman against scikit-learn, SciPy and counted pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks import ranking
from tasks.base import TaskError

DTYPES = [np.float32, np.float64]


def problem(m=70, T=300, seed=0, decimals=None, dtype=np.float32):
    rng = np.random.default_rng(seed)
    y = (rng.random((m, T)) < rng.uniform(0.1, 0.9, T)).astype(np.float32)
    p = 0.7 * y + rng.normal(size=(m, T))
    if decimals is not None:
        p = p.round(decimals)
    return y, p.astype(dtype), rng.random((m, T)) > 0.3


def counted_pairs(y, p):
    """The share of positive-negative pairs in the right order, one pair at a time."""
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a in p[y == 1] for b in p[y == 0]]
    return np.mean(won) if won else np.nan


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decimals", [None, 0], ids=["no ties", "many ties"])
def test_every_readout_equals_scikit_learn(decimals, dtype):
    y, p, mask = problem(decimals=decimals, dtype=dtype)
    out = ranking.rank(np.where(mask, y, np.nan), np.where(mask, p, np.nan), mask)
    for t in range(y.shape[1]):
        own = mask[:, t]
        assert abs(out.auc[t] - roc_auc_score(y[own, t], p[own, t])) < 1e-12
        assert abs(out.ap[t] - average_precision_score(y[own, t], p[own, t])) < 1e-12
        assert out.prevalence[t] == pytest.approx(y[own, t].mean())
        assert out.positives[t] + out.negatives[t] == own.sum()


@pytest.mark.parametrize("compiled", [False, True], ids=["NumPy", "compiled"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decimals", [None, 0], ids=["no ties", "many ties"])
def test_spearman_equals_scipys(decimals, dtype, compiled, monkeypatch):
    monkeypatch.setattr(ranking, "COMPILED", 0 if compiled else 10**9)
    _, p, mask = problem(decimals=decimals, dtype=dtype)
    y = (p + np.random.default_rng(1).normal(size=p.shape)).astype(dtype)
    y = y if decimals is None else y.round(decimals)
    rho = ranking.spearman(np.where(mask, y, np.nan), np.where(mask, p, np.nan), mask)
    for t in range(y.shape[1]):
        own = mask[:, t]
        assert abs(rho[t] - stats.spearmanr(y[own, t], p[own, t]).statistic) < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
def test_ranks_equal_scipys_with_ties_at_their_average(dtype):
    _, p, mask = problem(decimals=0, dtype=dtype)
    out = ranking.ranks(np.where(mask, p, np.nan), mask)
    for t in range(p.shape[1]):
        np.testing.assert_array_equal(out[mask[:, t], t], stats.rankdata(p[mask[:, t], t]))
    assert (out[~mask] == 0).all()


@given(
    p=arrays.arrays(
        np.float32, (7, 3), elements=st.sampled_from([-2.0, -1e-30, -0.0, 0.0, 1e-30, 0.5, 3.0e38])
    ),
    y=arrays.arrays(np.float32, (7, 3), elements=st.sampled_from([0.0, 1.0])),
    mask=arrays.arrays(bool, (7, 3)),
)
def test_auc_is_the_share_of_pairs_in_order_whatever_the_values_and_gaps(y, p, mask):
    out = ranking.roc_auc(y, p, mask)
    for t in range(3):
        own = mask[:, t]
        np.testing.assert_allclose(out[t], counted_pairs(y[own, t], p[own, t]), atol=1e-15)


def test_a_monotone_change_of_predictions_changes_nothing_and_a_flip_mirrors_auc():
    y, p, mask = problem(dtype=np.float64)
    out = ranking.rank(y, p, mask)
    np.testing.assert_array_equal(out.auc, ranking.roc_auc(y, np.exp(p), mask))
    np.testing.assert_array_equal(out.ap, ranking.average_precision(y, np.exp(p), mask))
    np.testing.assert_allclose(1 - out.auc, ranking.roc_auc(y, -p, mask), atol=1e-15)


def test_constant_predictions_score_a_half_and_the_prevalence():
    y, _, mask = problem()
    out = ranking.rank(y, np.full(y.shape, 0.3, np.float32), mask)
    np.testing.assert_array_equal(out.auc, 0.5)
    np.testing.assert_allclose(out.ap, out.prevalence, rtol=1e-15)


def test_what_has_no_score_is_nan(monkeypatch):
    y, p, mask = problem(T=4)
    y[:, 0], y[:, 1] = 1, 0
    mask[:, 2] = False
    out = ranking.rank(y, p, mask)
    assert np.isnan(out.auc[:3]).all()
    assert np.isnan(out.ap[:3]).all()
    assert np.isfinite(out.auc[3])
    assert np.isnan(out.prevalence[2])
    for size in (10**9, 0):  # by NumPy, compiled
        monkeypatch.setattr(ranking, "COMPILED", size)
        assert np.isnan(ranking.spearman(y, p, mask)[:3]).all()
    assert np.isnan(ranking.roc_auc(y[:0], p[:0], mask[:0])).all()


def test_what_is_not_a_class_or_not_a_number_is_refused():
    y, p, mask = problem(T=2)
    with pytest.raises(TaskError, match="0 and 1"):
        ranking.rank(y - 1, p, np.ones_like(mask))
    p[3, 1] = np.nan
    with pytest.raises(TaskError, match="NaN or infinite"):
        ranking.rank(y, p, np.ones_like(mask))


@pytest.mark.parametrize("compiled", [False, True], ids=["NumPy", "compiled"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_spearman_refuses_what_is_not_finite_where_it_counts_and_only_there(value, compiled, monkeypatch):
    monkeypatch.setattr(ranking, "COMPILED", 0 if compiled else 10**9)
    y, p, mask = problem(T=20)
    level = p + y
    expected = ranking.spearman(level, p, mask)
    np.testing.assert_array_equal(
        ranking.spearman(np.where(mask, level, value), np.where(mask, p, value), mask), expected
    )
    for spoilt in (level, p):
        kept, spoilt[3, 1], mask[3, 1] = spoilt[3, 1], value, True
        with pytest.raises(TaskError, match="NaN or infinite"):
            ranking.spearman(level, p, mask)
        spoilt[3, 1] = kept
