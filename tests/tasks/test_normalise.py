"""Normalisation of wells: controls of a plate only, guarded where they do not vary."""

import numpy as np
import pandas as pd
import pytest

from tasks import normalise
from tasks.base import TaskError


def layout(X, control, plate):
    found = normalise.plates(pd.DataFrame({"Metadata_Plate": plate}), control, X)
    assert not isinstance(found, str), found
    return found


def two_plates(m=40, D=6, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(D, D))
    X = np.concatenate([rng.normal(size=(m, D)) @ mixing * s + c for s, c in ((1.0, 5.0), (7.0, -300.0))])
    return X, np.tile(np.arange(m) < m * 3 // 4, 2), np.repeat(["A", "B"], m)


@pytest.mark.parametrize("name", ["plate-standardise", "plate-mad", "plate-spherise", "tvn"])
def test_treated_wells_do_not_move_the_fit(name):
    X, control, plate = two_plates()
    poisoned = X.copy()
    poisoned[~control] = 1e9
    poisoned[np.flatnonzero(~control)[0]] = np.nan
    clean = normalise.apply(name, X, layout(X, control, plate))[control]
    again = normalise.apply(name, poisoned, layout(poisoned, control, plate))[control]
    assert clean.tobytes() == again.tobytes()


def test_standardised_controls_have_mean_0_and_spread_1_on_every_plate():
    X, control, plate = two_plates()
    Z = normalise.apply("plate-standardise", X, layout(X, control, plate))
    for name in "AB":
        own = Z[control & (plate == name)]
        np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(own.std(axis=0), 1, rtol=1e-12)


def test_mad_matches_scipys_per_plate():
    from scipy.stats import median_abs_deviation

    X, control, plate = two_plates()
    Z = normalise.apply("plate-mad", X, layout(X, control, plate))
    for name in "AB":
        own, wells = X[control & (plate == name)], X[plate == name]
        expected = (wells - np.median(own, axis=0)) / (1.4826 * median_abs_deviation(own, axis=0))
        np.testing.assert_allclose(Z[plate == name], expected, rtol=1e-12)


def test_plate_normalisations_are_pycytominers():
    from pycytominer import normalize

    X, control, plate = two_plates()
    names = [f"f{i}" for i in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=names).assign(Metadata_pert_type=np.where(control, "negcon", "trt"))
    for ours, method in (("plate-standardise", "standardize"), ("plate-mad", "mad_robustize")):
        Z = normalise.apply(ours, X, layout(X, control, plate))
        for name in "AB":
            expected = normalize(
                frame[plate == name].copy(), features=names, meta_features=["Metadata_pert_type"],
                samples="Metadata_pert_type == 'negcon'", method=method,
            )  # fmt: skip
            np.testing.assert_allclose(Z[plate == name], expected[names], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("m", "D"), [(60, 6), (24, 50)])
def test_tvn_is_efaars_scale_rotate_scale_and_whiten_per_plate(m, D):
    from scipy.linalg import fractional_matrix_power
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    X, control, plate = two_plates(m, D)
    Z = StandardScaler().fit(X[control]).transform(X)
    pca = PCA(n_components=min(control.sum() - 1, D)).fit(Z[control])
    Z = pca.transform(Z)
    Z = StandardScaler().fit(Z[control]).transform(Z)
    np.testing.assert_allclose(Z[control].mean(axis=0), 0, atol=1e-9)
    for name in "AB":
        own = plate == name
        C = np.cov(Z[own & control], rowvar=False, ddof=1) + 0.5 * np.eye(Z.shape[1])
        Z[own] = Z[own] @ fractional_matrix_power(C, -0.5).real
    ours = normalise.apply("tvn", X, layout(X, control, plate))
    assert ours.shape == Z.shape
    # The rotation's signs are free; inner products are not.
    np.testing.assert_allclose(ours @ ours.T, Z @ Z.T, rtol=1e-6, atol=1e-6 * np.abs(Z @ Z.T).max())


def test_tvn_with_more_controls_than_components_leaves_less_than_unit_variance_on_every_plate():
    X, control, plate = two_plates(m=400)
    Z = normalise.apply("tvn", X, layout(X, control, plate))
    for name in "AB":
        C = np.cov(Z[control & (plate == name)].T, ddof=1)
        values = np.linalg.eigvalsh(C)
        assert values.min() > 0.0
        assert values.max() < 1.0


def test_whitened_controls_have_the_identity_as_covariance_though_features_are_neither_centred_nor_scaled():
    X, control, plate = two_plates(m=400)
    Z = normalise.apply("plate-standardise", X, layout(X, control, plate))
    for name in "AB":
        own = control & (plate == name)
        white = normalise.whiten(Z[own], Z[own], shrinkage=0.0)
        np.testing.assert_allclose(np.cov(white.T, ddof=0), np.eye(X.shape[1]), atol=1e-10)


def test_spherising_whitens_the_shrunk_correlation_and_leaves_controls_at_zero():
    from sklearn.covariance import ledoit_wolf

    X, control, plate = two_plates(m=24, D=50)
    Z = normalise.apply("plate-standardise", X, layout(X, control, plate))
    white = normalise.apply("plate-spherise", X, layout(X, control, plate))
    for name in "AB":
        own = control & (plate == name)
        np.testing.assert_allclose(white[own].mean(axis=0), 0, atol=1e-10)
        shrunk, _ = ledoit_wolf(Z[own], assume_centered=True)
        values, vectors = np.linalg.eigh(shrunk)
        W = vectors / np.sqrt(values) @ vectors.T
        np.testing.assert_allclose(white[plate == name], Z[plate == name] @ W, atol=1e-8)
        np.testing.assert_allclose(W @ shrunk @ W, np.eye(50), atol=1e-8)


def test_fewer_controls_than_features_cannot_be_whitened_without_shrinkage():
    with pytest.raises(TaskError, match="cannot whiten"):
        normalise.whiten(np.ones((3, 9)), np.random.default_rng(0).normal(size=(5, 9)), shrinkage=0.0)


def test_a_feature_that_does_not_vary_on_a_plate_takes_the_spread_of_all_plates():
    X, control, plate = two_plates()
    X[control & (plate == "A"), 0] = 0.1
    X[:, 1] = np.where(control, 3.0, X[:, 1])  # constant in all controls
    for name in ("plate-standardise", "plate-mad"):
        Z = normalise.apply(name, X, layout(X, control, plate))
        assert np.isfinite(Z).all()
        assert np.abs(Z).max() < 1e4
        np.testing.assert_allclose(Z[~control, 1], X[~control, 1] - 3.0)
    b = X[control & (plate == "B"), 0]
    pooled = np.sqrt(((b - b.mean()) ** 2).sum() / control.sum())
    Z = normalise.apply("plate-standardise", X, layout(X, control, plate))
    np.testing.assert_allclose(Z[plate == "A", 0], (X[plate == "A", 0] - 0.1) / pooled, atol=1e-12)


def test_missing_features_stay_missing_and_rows_without_features_stay_empty():
    X, control, plate = two_plates()
    X[3, 2] = np.nan
    X[-1] = np.nan
    for name in ("plate-standardise", "plate-mad"):
        Z = normalise.apply(name, X, layout(X, control, plate))
        np.testing.assert_array_equal(np.isnan(Z), np.isnan(X))
    Z = normalise.apply("plate-spherise", X, layout(X, control, plate))
    assert np.isnan(Z[-1]).all()
    assert np.isfinite(Z[:-1]).all()


def test_too_few_controls_make_plate_normalisation_unavailable_with_the_reason():
    X, control, plate = two_plates()
    few = control & (np.cumsum(control & (plate == "B")) < 3)
    wells = pd.DataFrame({"Metadata_Plate": plate})
    assert normalise.plates(wells, few, X) == "plate B has 2 negative controls with features, 4 are needed"
    gone = X.copy()
    gone[control & (plate == "A")] = np.nan
    assert "plate A has 0 negative controls" in normalise.plates(wells, control, gone)
    assert "Metadata_Plate" in normalise.plates(pd.DataFrame(index=range(80)), control, X)


def test_fold_standardisation_is_fitted_on_training_rows_and_zeroes_what_does_not_vary():
    from sklearn.preprocessing import StandardScaler

    X, _, _ = two_plates()
    X[:, 0] = 0.1
    train = np.arange(30)
    Z = normalise.standardise(X, train)
    expected = StandardScaler().fit(X[train]).transform(X)
    np.testing.assert_allclose(Z[:, 1:], expected[:, 1:], rtol=1e-9)
    assert (Z[:, 0] == 0).all()


def test_fold_standardisation_fills_gaps_with_the_training_mean():
    X, _, _ = two_plates()
    X[5, 1], X[70, 1] = np.nan, np.nan
    X[71] = np.nan
    Z = normalise.standardise(X, np.arange(30))
    assert Z[5, 1] == Z[70, 1] == 0
    assert np.isnan(Z[71]).all()


def test_an_unknown_normalisation_is_refused():
    X, control, plate = two_plates()
    with pytest.raises(TaskError, match="no normalisation 'tnv'"):
        normalise.apply("tnv", X, layout(X, control, plate))


@pytest.mark.parametrize("name", ["none", "fold", "plate-standardise", "plate-mad", "plate-spherise", "tvn"])
def test_a_feature_that_only_a_tested_well_moves_does_not_blow_up(name):
    X, control, plate = two_plates(m=400)
    X[:, 2] = 0.1 + 0.2  # equal numbers whose mean over wells is not exactly themselves
    tested = np.flatnonzero(~control)[3]
    X[tested, 2] = 0.4
    Z = normalise.apply(name, X.astype(np.float32), layout(X, control, plate))
    train = np.setdiff1d(np.arange(len(X)), tested)
    assert np.abs(normalise.standardise(Z, train)[tested]).max() < 100
