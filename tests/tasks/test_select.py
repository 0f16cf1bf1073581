"""Feature selection against pycytominer, and what a head sees after it."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import evaluate, folds
from tasks.base import Block, FoldId, TaskError
from tasks.design import design, project
from tasks.heads.mean import Mean
from tasks.heads.ridge import Ridge
from tasks.protocol import Selection, load
from tasks.select import correlations, keep

ALL = (
    "drop_na_columns",
    "variance_threshold",
    "frequency_threshold",
    "correlation_threshold",
    "drop_outliers",
)
BLOCKLIST = ("Nuclei_Correlation_Manders_*", "Nuclei_Correlation_RWC_*", "Nuclei_Granularity_1[456]_*")


def awkward(seed, m=60, gaps=True):
    """Columns of every kind: correlated, constant, discrete, outlying, missing."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(m, 6))
    X = np.hstack(
        [
            base @ rng.normal(size=(6, 14)) + 0.3 * rng.normal(size=(m, 14)),
            base[:, :4] + 0.05 * rng.normal(size=(m, 4)),
            -base[:, :2] + 0.05 * rng.normal(size=(m, 2)),
            np.full((m, 1), 3.5),
            (rng.random((m, 3)) < [0.01, 0.03, 0.5]).astype(float),
            1e-4 * rng.normal(size=(m, 2)),
            900.0 * rng.normal(size=(m, 2)),
            1e4 + rng.normal(size=(m, 2)),
        ]
    )[:, rng.permutation(30)]
    if gaps:
        X[rng.random(X.shape) < np.where(np.arange(30) % 5 == 0, 0.08, 0.01)] = np.nan
    return X


def theirs(X, operations, **settings):
    from pycytominer import feature_select

    names = [f"f{i}" for i in range(X.shape[1])]
    frame = feature_select(
        pd.DataFrame(X, columns=names), features=names, operation=list(operations), **settings
    )
    return np.isin(names, frame.columns)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("operation", ALL)
def test_each_operation_drops_what_pycytominer_drops(operation, gaps):
    dropped = 0
    for seed in range(4):
        X = awkward(seed, gaps=gaps)
        kept = keep(X, Selection(operations=(operation,)))
        np.testing.assert_array_equal(kept, theirs(X, (operation,)))
        dropped += (~kept).sum()
    assert dropped or (operation == "drop_na_columns" and not gaps)


@settings(max_examples=12)
@given(order=st.permutations(ALL), seed=st.integers(0, 999), corr=st.sampled_from([0.5, 0.9]))
def test_operations_in_any_order_agree_with_pycytominer(order, seed, corr):
    X = awkward(seed, m=40)
    kept = keep(X, Selection(operations=tuple(order), corr_threshold=corr, freq_cut=0.1, unique_cut=0.06))
    expected = theirs(X, order, corr_threshold=corr, freq_cut=0.1, unique_cut=0.06)
    np.testing.assert_array_equal(kept, expected)


def test_a_blocklist_of_patterns_is_pycytominers_default():
    from pycytominer.cyto_utils.blocklist import Blocklist

    listed = Blocklist(blocklist_name="default").to_list()
    near = ["Nuclei_Correlation_Correlation_AGP_DNA", "Nuclei_Granularity_13_AGP", "Cells_Granularity_14_AGP"]
    kept = keep(
        np.zeros((3, len(listed) + 3)),
        Selection(operations=("blocklist",), blocklist=BLOCKLIST),
        [*listed, *near],
    )
    np.testing.assert_array_equal(kept, [False] * len(listed) + [True] * 3)


def test_a_blocklist_without_names_is_refused():
    with pytest.raises(TaskError, match="needs the names"):
        keep(np.zeros((3, 2)), Selection(operations=("blocklist",), blocklist=("x",)))


def test_correlations_with_gaps_are_those_of_the_rows_both_columns_have():
    X = awkward(3)
    np.testing.assert_allclose(correlations(X), pd.DataFrame(X).corr().to_numpy(), atol=1e-9)


def test_of_two_equal_columns_one_stays():
    X = awkward(1, gaps=False)[:, :3]
    kept = keep(np.hstack([X, X]), Selection(operations=("correlation_threshold",)))
    assert kept.sum() == keep(X, Selection(operations=("correlation_threshold",))).sum()


def test_thousands_of_columns_take_matrix_products_and_no_loop_over_pairs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 2000)) + 0.5 * rng.normal(size=(300, 2000))
    started = time.process_time()
    kept = keep(X, Selection(operations=ALL))
    assert time.process_time() - started < 5  # pycytominer's loop over pairs takes minutes
    assert 0 < kept.sum() < 2000


def test_projection_is_scikit_learns_pca_of_the_training_rows():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    for m, D in ((40, 12), (20, 50)):
        Z = rng.normal(size=(60, D)) * np.geomspace(5, 0.1, D)
        train = np.arange(m)
        pca = PCA().fit(Z[train])
        scores = project(Z, train, "components-5")
        expected = pca.transform(Z)[:, :5]
        np.testing.assert_allclose(np.abs(scores), np.abs(expected), atol=1e-8)
        k = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), 0.9)) + 1
        assert project(Z, train, "variance-0.9").shape == (60, k)
        assert project(Z, train, "components-500").shape[1] == min(m - 1, D)


def test_selection_and_projection_are_blind_to_tested_rows_and_rows_without_features_stay_empty():
    X = awkward(5)
    X[-1] = np.nan
    train = np.arange(40)
    poisoned = X.copy()
    poisoned[40:-1] *= 1e6
    rules = Selection(operations=ALL)
    for normalisation in ("fold", "none"):
        Z, settled = design([X], train, normalisation, "variance-0.9", rules)
        again, _ = design([poisoned], train, normalisation, "variance-0.9", rules)
        assert Z[train].tobytes() == again[train].tobytes()
        assert np.isnan(Z[-1]).all()
        assert np.isfinite(Z[:-1]).all()
        assert 0 < settled["components"] <= settled["features_kept"] < 30


def test_without_normalisation_features_are_as_they_were_and_gaps_at_the_training_mean():
    X = awkward(2)
    Z, settled = design([X], np.arange(30), "none", "none", Selection())
    known = ~np.isnan(X)
    np.testing.assert_array_equal(Z[known], X[known])
    assert settled == {}
    row, column = np.argwhere(~known)[0]
    assert Z[row, column] == pytest.approx(np.nanmean(X[:30, column]))


def test_where_nothing_is_left_a_head_predicts_the_mean_and_the_count_says_so(screen):
    own = screen(perturbations=14)
    protocol = load("nested-cv").with_settings(
        repeats=1, selection=Selection(operations=("drop_outliers",), outlier_cutoff=0.0)
    )
    table = folds.make(own.data, protocol)
    result = evaluate.run_fold(own.data, own.features, protocol, table, FoldId(0, 0), Ridge)
    assert result.chosen["features_kept"] == 0
    np.testing.assert_allclose(result.prediction, result.floor, rtol=1e-5)


def test_a_fold_selects_and_projects_and_stores_what_it_chose(screen):
    own = screen(perturbations=20, D=30)
    protocol = load("nested-cv").with_settings(
        repeats=1,
        pca=("none", "components-3"),
        selection=Selection(operations=("correlation_threshold",), corr_threshold=0.5),
    )
    table = folds.make(own.data, protocol)
    result = evaluate.run_fold(own.data, own.features, protocol, table, FoldId(0, 1), Ridge)
    assert result.chosen["pca"] in ("none", "components-3")
    assert 0 < result.chosen["features_kept"] < 30
    assert ("components" in result.chosen) == (result.chosen["pca"] != "none")


def test_the_floor_is_the_same_under_every_preparation_of_features(screen):
    own = screen(perturbations=14)
    base = load("nested-cv").with_settings(repeats=1)
    table = folds.make(own.data, base)
    plain = evaluate.run_fold(own.data, own.features, base, table, FoldId(0, 0), Mean)
    nothing = np.zeros((len(own.X), 1), np.float32)  # what the floor is given
    for changed in (
        {"pca": ("components-5",)}, {"selection": Selection(operations=ALL)}, {"normalisation": ("none",)},
        {"normalisation": ("tvn",)},
    ):  # fmt: skip
        other = base.with_settings(**changed)
        result = evaluate.run_fold(own.data, lambda _: nothing, other, table, FoldId(0, 0), Mean)
        assert result.prediction.tobytes() == plain.prediction.tobytes() == result.floor.tobytes()


def test_a_blocklist_acts_on_the_names_that_the_features_come_with(screen):
    own = screen(perturbations=14, D=12)
    protocol = load("nested-cv").with_settings(
        repeats=1, normalisation=("fold",), selection=Selection(operations=("blocklist",), blocklist=("x_*",))
    )
    table = folds.make(own.data, protocol)
    names = tuple(f"x_{i}" if i < 5 else f"y_{i}" for i in range(12))
    result = evaluate.run_fold(
        own.data, lambda _: [Block("image", own.X, names=names)], protocol, table, FoldId(0, 0), Ridge
    )
    assert result.chosen["features_kept"] == 7
    without = own.X.copy()[:, 5:]
    plain = protocol.with_settings(selection=Selection())
    expected = evaluate.run_fold(own.data, lambda _: without, plain, table, FoldId(0, 0), Ridge)
    np.testing.assert_allclose(result.prediction, expected.prediction, rtol=1e-5, atol=1e-6)
    with pytest.raises(TaskError, match="needs the names"):
        evaluate.run_fold(own.data, own.features, protocol, table, FoldId(0, 0), Ridge)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('pca = "pc-50"', "components-N"),
        ('pca = ["none", "none"]', "each once"),
        ("[selection]\ncorr_treshold = 0.9", "no entry 'corr_treshold'; did you mean 'corr_threshold'"),
        ("[selection]\noperations = ['correlation']", "did you mean 'correlation_threshold'"),
        ("[selection]\ncorr_threshold = 2.0", "from 0 to 1"),
        ("[selection]\noperations = ['blocklist']", "go together"),
        ('split = "leave-out"', "need the name of a column"),
        ('split = "random-splits"', "outer_folds = 1"),
        ('split = "random-splits"\nouter_folds = 1\n[shares]\ntrain = 0.5', "sum to 1"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=message):
        load(path)


def test_settings_that_came_later_leave_the_hash_of_those_who_do_not_use_them_alone():
    protocol = load("nested-cv")
    assert protocol.hash == "417ea6e7bb85e80135acbab1f9294365cb94d9a2173bb0d435d8342584b47ac5"
    others = [
        protocol.with_settings(selection=Selection(operations=("variance_threshold",))),
        protocol.with_settings(pca=("components-9",)), protocol.with_settings(perturbation_folds=3),
    ]  # fmt: skip
    assert len({own.hash for own in (protocol, *others)}) == 4
    from tasks.protocol import from_settings

    for own in (*others, load("image2omics"), load("plate-out")):
        assert from_settings(own.settings) == own
