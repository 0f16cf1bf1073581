"""Tables of the founding papers against hand-worked cases, and CSV that no spreadsheet runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import Leaderboard
from leaderboard.tables import ends, guarded, levels, significant
from leaderboard.tables.folds import fold_scores, spread
from leaderboard.tables.naming import Absent, labels


@pytest.fixture
def auc_board(make_entry, make_folds):
    """Two runs over four readouts with known AUC: .55, .65, .85, .95 and .5 throughout; one undefined."""
    folds = make_folds(1, 2, 8)
    nothing = np.zeros((1, 8, 0))

    def run(name, values, **changes):
        return replace(
            make_entry(nothing, nothing, folds, label=name, **changes),
            readouts=tuple(f"g{i}" for i in range(5)),
            fold_values=np.tile(np.array(values, np.float32), (1, 2, 1)),
            metric="ROC AUC",
            task="classification",
        )

    good = run("good", [0.55, 0.65, 0.85, 0.95, np.nan])
    return Leaderboard([good, run("chance", [0.5, 0.5, 0.5, 0.5, np.nan])]).boards[0]


def test_levels_count_readouts_at_or_above_each_level(auc_board):
    table = levels([auc_board])
    row = table.frame.set_index("entrant").loc["good"]
    assert row["mean AUC"] == pytest.approx(0.75)
    assert row["readouts"] == 4
    assert [row[f"≥ {level:g}"] for level in (0.6, 0.7, 0.8, 0.9)] == [3, 2, 2, 1]
    assert row["share ≥ 0.6"] == pytest.approx(3 / 4)
    texts = dict(zip(table.frame.columns, table.texts()[0], strict=True))
    assert texts["mean AUC"] == "0.750"
    assert texts["share ≥ 0.6"] == "75.0 %"


def test_levels_of_a_board_of_errors_are_absent_with_a_reason(board):
    found = levels([board])
    assert isinstance(found, Absent)
    assert "ROC AUC" in found.reason


def test_fold_scores_are_one_minus_the_ratio_of_summed_errors_within_each_fold(make_entry):
    e = np.array([[[1.0], [3.0], [2.0], [np.nan]]])
    e0 = np.array([[[2.0], [2.0], [4.0], [5.0]]])
    folds = np.array([[0, 0, 1, 1]], np.int16)
    scores = fold_scores(make_entry(e, e0, folds), np.array([0]))
    # fold 0: 1 - (1 + 3) / (2 + 2) = 0; fold 1: the pair without an error does not count, 1 - 2 / 4 = 0.5
    assert scores.ravel().tolist() == pytest.approx([0.0, 0.5])


def test_spread_is_the_quantiles_over_folds_and_undefined_from_one():
    values = np.array([[0.0, 1.0], [1.0, np.nan]])
    low, high = spread(values)
    assert low[0] == pytest.approx(0.025)
    assert high[0] == pytest.approx(0.975)
    assert np.isnan(low[1])
    assert np.isnan(high[1])


def test_ends_are_the_best_and_the_worst_in_order_and_never_overlap(board):
    run = board.rows.loc[board.rows["rank"] == 1, "run"].iloc[0]
    own = board.readouts[board.readouts["run"] == run].sort_values("skill", ascending=False)
    table = ends(board, run, size=3).frame
    assert table["readout"].tolist() == [*own["readout"].head(3), *own["readout"].tail(3)]
    assert table["rank"].tolist() == [1, 2, 3, len(own) - 2, len(own) - 1, len(own)]
    whole = ends(board, run, size=300).frame
    assert whole["readout"].is_unique
    assert len(whole) == len(own)


def test_ends_show_smape_where_the_task_gives_it(board):
    run = board.rows.loc[board.rows["rank"] == 1, "run"].iloc[0]
    entry = next(e for e in board.entries if e.run == run)
    scores = pd.DataFrame({"readout": list(entry.readouts), "stratum": "all", "smape": 12.5})
    changed = replace(
        board, entries=tuple(replace(e, scores=scores) if e is entry else e for e in board.entries)
    )
    assert ends(changed, run, size=2).frame["SMAPE, %"].tolist() == [12.5] * 4
    assert "SMAPE, %" not in ends(board, run, size=2).frame


def test_significant_shares_add_up_and_hold_the_range_over_repeats(board):
    table = significant(board).frame.set_index("entrant")
    parts = table[["significant", "not significant", "without a score"]].sum(axis=1)
    assert (parts == 400).all()
    counts = board.rows.set_index("label")["predictable"]
    assert table.loc["vits-imagenet", "significant"] == counts["vits-imagenet"]
    assert table.loc["vits-imagenet", "share"] == counts["vits-imagenet"] / 400
    assert (
        table.loc["vits-imagenet", "share, least repeat"] <= table.loc["vits-imagenet", "share, most repeat"]
    )
    assert np.isnan(table.loc["cell-count", "share, least repeat"])


def test_labels_are_unique_where_heads_and_runs_repeat(make_entry, make_folds):
    folds = make_folds(2, 2, 8)
    rng = np.random.default_rng(0)
    e, e0 = rng.random((2, 8, 3)), rng.random((2, 8, 3)) + 1
    runs = [
        make_entry(e, e0, folds, label="a", run="r1"),
        make_entry(e, e0, folds, label="a", run="r2", head="knn"),
        make_entry(e, e0, folds, label="b", run="s123456789"),
        make_entry(e, e0, folds, label="b", run="s987654321"),
    ]
    names = labels(Leaderboard(runs).boards[0])
    assert names["r1"] == "a (ridge)"
    assert names["r2"] == "a (knn)"
    assert len(set(names.values())) == 4


def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe_and_numbers_do_not():
    frame = pd.DataFrame({"=name": ["=1+1", "@x", "plain", None], "value": [-1.5, 2.0, 3.0, np.nan]})
    safe = guarded(frame)
    assert safe.columns.tolist() == ["'=name", "value"]
    assert safe["'=name"].tolist()[:3] == ["'=1+1", "'@x", "plain"]
    assert safe["value"].tolist()[0] == -1.5
    assert frame.columns.tolist() == ["=name", "value"]
