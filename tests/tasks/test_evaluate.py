"""One outer fold: nothing of a tested unit reaches the fit, and what is chosen is stored."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from tasks import evaluate, folds, normalise
from tasks.base import FoldId, Head, TaskError
from tasks.heads.mean import Mean
from tasks.heads.ridge import Ridge, RidgeConfig
from tasks.protocol import load

PROTOCOL = load("nested-cv").with_settings(repeats=2)


def recording(made):
    """A factory of ridge heads that keeps every head it makes."""

    def make():
        made.append(Ridge(RidgeConfig(PROTOCOL.penalties, PROTOCOL.inner_folds, PROTOCOL.seed)))
        return made[-1]

    return make


@pytest.mark.parametrize("poison", [1e12, np.nan], ids=["huge", "missing"])
@pytest.mark.parametrize("doses", [1, 2])
def test_poisoned_test_rows_change_no_bit_of_what_is_fitted(screen, poison, doses):
    own = screen(perturbations=14, doses=doses, D=40)
    data = own.data
    table = folds.make(data, PROTOCOL)
    other = np.random.default_rng(5).normal(size=(7, 40))
    for fold in evaluate.all_ids(table)[:3]:
        test, _ = evaluate.split(table, fold)
        X, Y = own.X.copy(), data.Y.copy()
        X[data.members[test].indices] = poison
        Y[test] = 1e12
        clean, dirty = [], []
        a = evaluate.run_fold(data, own.features, PROTOCOL, table, fold, recording(clean))
        b = evaluate.run_fold(replace(data, Y=Y), lambda _, X=X: X, PROTOCOL, table, fold, recording(dirty))
        assert len(clean) == len(dirty) == 3  # one per member of the menu
        for left, right in zip(clean, dirty, strict=True):
            assert left.coef_.tobytes() == right.coef_.tobytes()
            assert left.intercept_.tobytes() == right.intercept_.tobytes()
            assert left.inner_loss_.tobytes() == right.inner_loss_.tobytes()
            assert left.predict(other).tobytes() == right.predict(other).tobytes()
        assert a.chosen["normalisation"] == b.chosen["normalisation"]
        assert a.chosen["alpha"].tobytes() == b.chosen["alpha"].tobytes()
        assert a.floor.tobytes() == b.floor.tobytes()
        if np.isnan(poison):
            assert np.isnan(b.prediction).all()


def test_the_poison_test_can_fail(screen):
    own = screen(perturbations=14)
    table = folds.make(own.data, PROTOCOL)
    _, train = evaluate.split(table, FoldId(0, 0))
    X = own.X.copy()
    X[train[0]] *= 2
    clean, dirty = [], []
    evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), recording(clean))
    evaluate.run_fold(own.data, lambda _: X, PROTOCOL, table, FoldId(0, 0), recording(dirty))
    assert clean[0].coef_.tobytes() != dirty[0].coef_.tobytes()


def test_a_fold_equals_the_steps_done_by_hand(screen):
    own = screen(perturbations=14, doses=2)
    data, protocol = own.data, PROTOCOL.with_settings(normalisation=("plate-standardise",))
    table = folds.make(data, protocol)
    result = evaluate.run_fold(data, own.features, protocol, table, FoldId(1, 2), Ridge)
    test = np.array([u for r, k, u in table[["repeat", "fold", "unit"]].to_numpy() if (r, k) == (1, 2)])
    train = np.array([u for u in range(len(data.Y)) if u not in test and not data.control[u]])
    layout = normalise.plates(data.wells, data.well_control, own.X)
    X = normalise.apply("plate-standardise", own.X, layout)
    X = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
    mask = np.ones((len(train), data.Y.shape[1]), bool)
    head = Ridge.for_protocol(protocol).fit(X[train], data.Y[train], mask, data.groups[train])
    np.testing.assert_array_equal(result.rows, test)
    np.testing.assert_allclose(result.prediction, head.predict(X[test]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.floor, np.tile(data.Y[train].mean(axis=0), (len(test), 1)), rtol=1e-5)
    assert set(data.groups[test]).isdisjoint(data.groups[train])


class Picky(Head):
    """A head whose inner loss is smallest where the first training value is smallest."""

    name, version = "picky", "1"

    def fit(self, X, Y, mask, groups):
        self.inner_loss_ = np.full(Y.shape[1], np.abs(X).max())
        self.chosen_ = {}
        return self

    def predict(self, X):
        return np.zeros((len(X), 5), np.float32)


def test_the_normalisation_with_the_smallest_inner_loss_is_chosen_and_ties_go_to_the_first(screen):
    own = screen()
    table = folds.make(own.data, PROTOCOL)
    losses = {}
    for name in PROTOCOL.normalisation:
        head = Picky()
        single = PROTOCOL.with_settings(normalisation=(name,))
        evaluate.run_fold(own.data, own.features, single, table, FoldId(0, 0), lambda head=head: head)
        losses[name] = head.inner_loss_[0]
    result = evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Picky)
    assert result.chosen["normalisation"] == min(losses, key=losses.get)
    assert len(set(losses.values())) == 3
    result = evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Mean)
    assert result.chosen["normalisation"] == "fold"


def test_plate_effects_make_plate_normalisation_the_choice(screen):
    own = screen(perturbations=20, D=8, noise=0.1)
    plate = (own.data.wells["Metadata_Plate"] == "P1").to_numpy()
    X = own.X + 30 * plate[:, None] * np.random.default_rng(0).normal(size=8).astype(np.float32)
    X[plate] *= 5
    table = folds.make(own.data, PROTOCOL)
    results = evaluate.run(own.data, lambda _: X, PROTOCOL, table, Ridge, [FoldId(0, k) for k in range(5)])
    assert all(r.chosen["normalisation"].startswith("plate-") for r in results)


def test_without_controls_the_plate_menu_is_unavailable_and_the_reason_is_stored(screen):
    own = screen(controls=0)
    table = folds.make(own.data, PROTOCOL)
    result = evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Ridge)
    assert result.chosen["normalisation"] == "fold"
    assert "P0 has 0 negative controls" in result.chosen["plate_normalisation_unavailable"]
    protocol = PROTOCOL.with_settings(normalisation=("plate-mad",))
    with pytest.raises(TaskError, match="plate normalisations only"):
        evaluate.run_fold(own.data, own.features, protocol, table, FoldId(0, 0), Ridge)


def test_units_without_features_are_predicted_missing_and_do_not_move_the_floor(screen):
    own = screen()
    table = folds.make(own.data, PROTOCOL)
    test, train = evaluate.split(table, FoldId(0, 0))
    X = own.X.copy()
    X[[test[1], train[0], train[5]]] = np.nan
    result = evaluate.run_fold(own.data, lambda _: X, PROTOCOL, table, FoldId(0, 0), Ridge)
    missing = np.isnan(result.prediction).all(axis=1)
    np.testing.assert_array_equal(missing, test == test[1])
    assert np.isfinite(result.prediction[~missing]).all()
    whole = evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Mean)
    assert result.floor.tobytes() == whole.floor.tobytes()


def test_the_mean_head_predicts_the_floor_to_the_last_bit(screen):
    own = screen(perturbations=14, doses=2)
    Y = own.data.Y.copy()
    Y[np.random.default_rng(2).random(Y.shape) < 0.1] = np.nan
    data = replace(own.data, Y=Y, fit_by=("Metadata_Dose",))
    table = folds.make(data, PROTOCOL)
    for result in evaluate.run(data, own.features, PROTOCOL, table, Mean):
        assert result.prediction.tobytes() == result.floor.tobytes()


def test_units_average_the_wells_that_have_features():
    members = sparse.csr_array(np.array([[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75], [0, 0, 0, 1.0]]))
    data = type("Data", (), {"members": members})
    X = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0], [np.nan, np.nan]])
    np.testing.assert_allclose(evaluate.to_units(data, X), [[2, 2], [5, 6], [np.nan, np.nan]])


def test_strata_of_fit_by_are_separate_models(screen):
    own = screen(perturbations=14, doses=2)
    data = replace(own.data, fit_by=("Metadata_Dose",))
    table = folds.make(data, PROTOCOL)
    both = evaluate.run_fold(
        data, own.features, PROTOCOL.with_settings(normalisation=("fold",)), table, FoldId(0, 1), Ridge
    )
    for dose in (0, 1):
        here = (data.units["Metadata_Dose"] == dose).to_numpy()
        alone = replace(own.data, control=own.data.control | ~here)
        single = evaluate.run_fold(
            alone, own.features, PROTOCOL.with_settings(normalisation=("fold",)),
            table[here[table["unit"]]], FoldId(0, 1), Ridge,
        )  # fmt: skip
        rows = here[both.rows]
        np.testing.assert_array_equal(both.rows[rows], single.rows)
        assert both.prediction[rows].tobytes() == single.prediction.tobytes()
        assert both.floor[rows].tobytes() == single.floor.tobytes()
        np.testing.assert_array_equal(both.chosen[f"alpha[Metadata_Dose={dose}]"], single.chosen["alpha"])


def test_the_same_fold_twice_gives_the_same_bytes(screen):
    own = screen()
    table = folds.make(own.data, PROTOCOL)
    a, b = (evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(1, 1), Ridge) for _ in range(2))
    assert a.prediction.tobytes() == b.prediction.tobytes()


def test_each_fold_asks_for_its_own_features(screen):
    own = screen()
    asked = []

    def supply(fold):
        asked.append(fold)
        return own.X

    table = folds.make(own.data, PROTOCOL)
    evaluate.run(own.data, supply, PROTOCOL, table, Mean)
    assert asked == [FoldId(r, k) for r in range(2) for k in range(5)]


def test_permuted_readouts_move_whole_rows_between_perturbations_only(screen):
    data = screen(perturbations=15, doses=2).data
    moved = evaluate.permuted(data, 3)
    np.testing.assert_array_equal(moved.Y[data.control], data.Y[data.control])
    donors = {}
    for u in np.flatnonzero(~data.control):
        (source,) = np.flatnonzero((moved.Y[u] == data.Y).all(axis=1))
        donors.setdefault(data.groups[u], set()).add(data.groups[source])
    assert all(len(d) == 1 for d in donors.values())
    assert sorted(d for (d,) in donors.values()) == sorted(donors)
    assert sum({g} != d for g, d in donors.items()) > 8
    np.testing.assert_array_equal(moved.Y, evaluate.permuted(data, 3).Y)
    assert (moved.Y != evaluate.permuted(data, 4).Y).any()


def test_permutation_stays_within_fit_by_and_wraps_unequal_sizes(screen):
    data = screen(perturbations=15, doses=2, plates=1).data
    drop = np.flatnonzero((data.groups == "cpd03") & (data.units["Metadata_Dose"] == 1))
    data = replace(
        data, control=data.control | np.isin(np.arange(len(data.Y)), drop), fit_by=("Metadata_Plate",)
    )
    moved = evaluate.permuted(data, 0)
    for u in np.flatnonzero(~data.control):
        assert (moved.Y[u] == data.Y).all(axis=1).sum() == 1
    split = replace(screen(perturbations=15, doses=2).data, fit_by=("Metadata_Dose",))
    moved = evaluate.permuted(split, 0)
    dose = split.units["Metadata_Dose"].to_numpy()
    for u in np.flatnonzero(~split.control):
        (source,) = np.flatnonzero((moved.Y[u] == split.Y).all(axis=1))
        assert dose[source] == dose[u]


def test_a_permuted_run_is_the_run_on_permuted_readouts(screen):
    own = screen()
    table = folds.make(own.data, PROTOCOL)
    a = evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Ridge, permute_seed=7)
    b = evaluate.run_fold(evaluate.permuted(own.data, 7), own.features, PROTOCOL, table, FoldId(0, 0), Ridge)
    assert a.prediction.tobytes() == b.prediction.tobytes()
    assert a.floor.tobytes() == b.floor.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:-1], "one per well"),
        (lambda X: X[:, :0], "no columns"),
        (
            lambda X: np.where(np.arange(X.size).reshape(X.shape) == 13, np.inf, X),
            "feature 1 of well row 1 is infinite",
        ),
    ],
)
def test_wrong_features_are_refused(screen, change, message):
    own = screen()
    table = folds.make(own.data, PROTOCOL)
    with pytest.raises(TaskError, match=message):
        evaluate.run_fold(own.data, lambda _: change(own.X), PROTOCOL, table, FoldId(0, 0), Ridge)


def test_a_fold_that_does_not_exist_is_refused(screen):
    own = screen()
    with pytest.raises(TaskError, match="no fold 9"):
        evaluate.split(folds.make(own.data, PROTOCOL), FoldId(0, 9))


def test_heads_compute_on_the_device_that_is_given(screen):
    own = screen(perturbations=14)
    table = folds.make(own.data, PROTOCOL)
    here, there = (
        evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Ridge, device=device)
        for device in ("cpu", "cpu:0")
    )
    np.testing.assert_allclose(there.prediction, here.prediction, rtol=1e-5, atol=1e-5)
    with pytest.raises(TaskError, match="nowhere"):
        evaluate.run_fold(own.data, own.features, PROTOCOL, table, FoldId(0, 0), Ridge, device="nowhere")
