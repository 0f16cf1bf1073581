"""Boosted trees against LightGBM's own estimator, and what a panel leaves out."""

import lightgbm
import numpy as np

from tasks.heads.lightgbm import Lightgbm, LightgbmConfig, panel


def problem(m=120, T=9, calls=False):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(m, 5)).astype(np.float32)
    Y = np.sign(X[:, :1]) * X[:, 1:2] + 0.3 * rng.normal(size=(m, T))
    Y = (Y > 0).astype(float) if calls else Y
    return X, Y, rng.random((m, T)) > 0.1, np.array([f"g{i // 2}" for i in range(m)])


def test_a_readout_is_what_lightgbms_estimator_predicts():
    settings = {
        "n_estimators": 20, "learning_rate": 0.05, "num_leaves": 15, "min_child_samples": 10,
        "colsample_bytree": 0.3, "random_state": 0, "deterministic": True, "force_row_wise": True,
        "n_jobs": 1, "verbosity": -1,
    }  # fmt: skip
    for calls, cls in ((False, lightgbm.LGBMRegressor), (True, lightgbm.LGBMClassifier)):
        X, Y, mask, groups = problem(T=2, calls=calls)
        head = Lightgbm(LightgbmConfig(trees=20)).fit(X, Y, mask, groups)
        own = cls(**settings).fit(X[mask[:, 0]], Y[mask[:, 0], 0])
        expected = own.predict_proba(X)[:, 1] if calls else own.predict(X)
        assert head.chosen_["trees"][0] == 20
        np.testing.assert_allclose(head.predict(X)[:, 0], expected, rtol=1e-5)


def test_readouts_outside_the_panel_are_predicted_nan():
    X, Y, mask, groups = problem()
    head = Lightgbm(LightgbmConfig(trees=5, panel=3)).fit(X, Y, mask, groups)
    p = head.predict(X)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(p).all(axis=0)), [0, 4, 8])
    assert np.isnan(p[:, [1, 2, 3, 5, 6, 7]]).all()
    assert np.isnan(head.chosen_["trees"][1])
    assert np.isnan(head.inner_loss_[1])


def test_a_panel_is_evenly_spaced_and_complete_when_it_is_large_enough():
    np.testing.assert_array_equal(panel(5, 9), np.arange(5))
    np.testing.assert_array_equal(panel(101, 3), [0, 50, 100])
    assert panel(0, 3).size == 0
