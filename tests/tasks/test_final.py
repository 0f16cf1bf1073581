"""The model for use: the menu of an evaluation on all units, and wells that are far from them."""

import dataclasses

import numpy as np
import pytest

from tasks import final
from tasks.base import FoldId, TaskError
from tasks.evaluate import run_fold, to_units
from tasks.folds import make
from tasks.heads.ridge import Ridge
from tasks.normalise import apply, plates, standardise
from tasks.protocol import LogGrid, load

PROTOCOL = load("nested-cv").with_settings(penalties=LogGrid(1e-2, 1e4, 5))
NAMES = tuple(f"f{i}" for i in range(12))


def test_predictions_are_those_of_the_head_on_all_units(screen):
    own = screen(perturbations=20)
    protocol = PROTOCOL.with_settings(normalisation=("plate-standardise",))
    model = final.fit(own.data, own.X, NAMES, protocol, Ridge)
    data = own.data
    X = apply("plate-standardise", own.X, plates(data.wells, data.well_control, own.X))
    train = np.flatnonzero(~data.control)
    Z = standardise(to_units(data, X), train)
    mask = np.ones((len(train), 5), bool)
    head = Ridge.for_protocol(protocol).fit(Z[train], data.Y[train], mask, data.groups[train])
    predicted, share = model.predict(data.wells, data.well_control, own.X)
    np.testing.assert_allclose(predicted, head.predict(Z), rtol=1e-5, atol=1e-6)
    assert ((share > 0) & (share <= 1)).all()


def test_no_control_and_no_unit_without_features_is_fitted(screen):
    own = screen(perturbations=20)
    before = final.fit(own.data, own.X, NAMES, PROTOCOL, Ridge)
    Y = own.data.Y.copy()
    Y[own.data.control] = 1e6
    gone = int(np.flatnonzero(~own.data.control)[3])
    X = own.X.copy()
    X[gone] = np.nan
    poisoned = Y.copy()
    poisoned[gone] = 1e6
    after = final.fit(dataclasses.replace(own.data, Y=Y), own.X, NAMES, PROTOCOL, Ridge)
    np.testing.assert_array_equal(before.strata["all"].head.coef_, after.strata["all"].head.coef_)
    a, b = (
        final.fit(dataclasses.replace(own.data, Y=y), X, NAMES, PROTOCOL, Ridge)
        for y in (own.data.Y, poisoned)
    )
    np.testing.assert_array_equal(a.strata["all"].head.coef_, b.strata["all"].head.coef_)
    predicted, share = a.predict(own.data.wells, own.data.well_control, X)
    assert np.isnan(predicted[gone]).all()
    assert np.isnan(share[gone])


def test_about_the_stated_share_of_a_like_screen_is_out_of_domain_and_all_of_another(screen):
    flagged, far = [], []
    for seed in range(12):
        whole = screen(perturbations=60, plates=2, seed=seed, noise=1.0)
        names = np.unique(whole.data.groups[~whole.data.control])
        new = np.isin(whole.data.groups, names[40:])
        rows = np.flatnonzero(~new)
        data = dataclasses.replace(
            whole.data, units=whole.data.units.iloc[rows], members=whole.data.members[rows],
            Y=whole.data.Y[rows], groups=whole.data.groups[rows], control=whole.data.control[rows],
        )  # fmt: skip
        model = final.fit(data, whole.X, NAMES, PROTOCOL.with_settings(normalisation=("fold",)), Ridge)
        _, share = model.predict(whole.data.wells, whole.data.well_control, whole.X)
        flagged += list(share[new] < final.LEVEL)
        _, share = model.predict(whole.data.wells, whole.data.well_control, whole.X + 20)
        far += list(share < final.LEVEL)
    assert 0.005 < np.mean(flagged) < 0.12
    assert np.all(far)


def test_plates_without_controls_are_refused_by_a_model_that_needs_them(screen):
    own = screen(perturbations=20)
    model = final.fit(
        own.data, own.X, NAMES, PROTOCOL.with_settings(normalisation=("plate-standardise",)), Ridge
    )
    with pytest.raises(TaskError, match="negative controls"):
        model.predict(own.data.wells, np.zeros(len(own.X), bool), own.X)
    with pytest.raises(TaskError, match="5 features"):
        model.predict(own.data.wells, own.data.well_control, own.X[:, :5])


def test_a_normalisation_that_mixes_plates_is_not_on_the_menu(screen):
    own = screen(perturbations=20)
    with pytest.raises(TaskError, match="one plate can have alone"):
        final.fit(own.data, own.X, NAMES, PROTOCOL.with_settings(normalisation=("tvn",)), Ridge)


def test_a_stratum_has_a_model_of_its_own_and_a_strange_one_none(screen):
    own = screen(perturbations=20, doses=2)
    data = dataclasses.replace(own.data, fit_by=("Metadata_Dose",))
    model = final.fit(data, own.X, NAMES, PROTOCOL.with_settings(normalisation=("fold",)), Ridge)
    assert sorted(model.strata) == ["Metadata_Dose=0", "Metadata_Dose=1"]
    wells = own.data.wells.copy()
    wells["Metadata_Dose"] = 7
    assert np.isnan(model.predict(wells, data.well_control, own.X)[0]).all()
    assert np.isfinite(model.predict(own.data.wells, data.well_control, own.X)[0]).all()


def test_the_normalisation_is_the_one_that_a_fold_would_choose_on_the_same_units(screen):
    """With one unit tested alone, a fold trains on all the others, as the model does on them."""
    own = screen(perturbations=24)
    table = make(own.data, PROTOCOL)
    result = run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Ridge)
    tested = result.rows
    rows = np.setdiff1d(np.arange(len(own.data.groups)), tested)
    data = dataclasses.replace(
        own.data, units=own.data.units.iloc[rows], members=own.data.members[rows], Y=own.data.Y[rows],
        groups=own.data.groups[rows], control=own.data.control[rows],
    )  # fmt: skip
    model = final.fit(data, own.X, NAMES, PROTOCOL, Ridge)
    assert model.normalisation == result.chosen["normalisation"]
    predicted, _ = model.predict(own.data.wells, own.data.well_control, own.X)
    np.testing.assert_allclose(predicted[tested], result.prediction, rtol=1e-4, atol=1e-5)
