"""The floor: observed training means."""

import numpy as np

from tasks.folds import assign
from tasks.heads.mean import Mean, observed_mean


def test_the_mean_is_that_of_observed_rows_and_its_inner_loss_that_of_held_out_groups():
    rng = np.random.default_rng(0)
    Y, mask = rng.normal(size=(30, 7)), rng.random((30, 7)) > 0.3
    mask[:, 6] = False
    groups = np.array([f"g{i // 2}" for i in range(30)])
    head = Mean(inner_folds=4, seed=2).fit(np.zeros((30, 1)), np.where(mask, Y, np.nan), mask, groups)
    fold = assign(groups, 4, 2)
    for t in range(6):
        y, f = Y[mask[:, t], t], fold[mask[:, t]]
        np.testing.assert_allclose(head.predict(np.zeros((2, 1)))[:, t], y.mean(), rtol=1e-6)
        loss = sum(((y[f == k] - y[f != k].mean()) ** 2).sum() for k in range(4))
        np.testing.assert_allclose(head.inner_loss_[t], loss)
    assert np.isnan(head.predict(np.zeros((2, 1)))[:, 6]).all()
    assert np.isnan(head.inner_loss_[6])


def test_the_mean_of_a_constant_is_that_constant_to_the_last_bit():
    Y = np.full((97, 1), np.float32(0.1))
    assert observed_mean(Y, np.ones(Y.shape, bool)).astype(np.float32)[0] == np.float32(0.1)
