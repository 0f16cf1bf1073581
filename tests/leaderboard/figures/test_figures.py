"""Figures: what they draw, by which rule, and why one is absent."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import BoardError, Leaderboard
from leaderboard.figures import (
    Absent,
    by_activity,
    by_stratum,
    cost,
    intervals,
    matrix,
    scatter,
    shares,
    violins,
)
from leaderboard.figures.base import MOST_POINTS
from leaderboard.figures.explained import by_location, forest
from leaderboard.figures.wells import canonical, maps, plates
from leaderboard.strata import within
from leaderboard.tables import significant


def values_of(figure):
    """All rows that a specification holds."""
    return [row for rows in figure.spec()["datasets"].values() for row in rows]


@pytest.fixture(scope="module")
def drawn(board):
    return {
        "intervals": intervals(board),
        "matrix": matrix(board),
        "cost": cost(board),
        "violins": violins([board]),
    }


def test_intervals_are_those_of_the_board(board, drawn):
    data = drawn["intervals"].data.set_index("entrant")
    rows = board.rows.set_index("label")
    for column, source in (("skill", "skill"), ("low", "skill_low"), ("high", "skill_high")):
        np.testing.assert_allclose(data[column], rows.loc[data.index, source])


def test_the_matrix_mirrors_every_pair(board, drawn):
    data = drawn["matrix"].data
    assert len(data) == 2 * len(board.pairs)
    cell = data.set_index(["row", "against"])
    for (a, b), one in cell.iterrows():
        assert cell.loc[(b, a), "difference"] == -one["difference"]
        assert {one["verdict"], cell.loc[(b, a), "verdict"]} in ({"better", "worse"}, {"tied"}, {"undecided"})


def test_the_chance_of_worse_is_that_of_better_seen_from_the_other_side(drawn):
    data = drawn["matrix"].data
    if "p_better" not in data:
        pytest.skip("pairs hold no chances")
    cell = data.set_index(["row", "against"])
    for (a, b), one in cell.iterrows():
        assert one["p_better"] == cell.loc[(b, a), "p_worse"]


def test_bars_start_at_zero_and_hold_every_readout(board):
    figure = shares(significant(board))
    text = json.dumps(figure.spec())
    assert '"domain": [0, 1]' in text
    totals = figure.data.groupby("entrant")["share"].sum()
    np.testing.assert_allclose(totals, 1.0)


def test_every_quantitative_axis_has_a_title(drawn, board):
    def axes(node):
        if isinstance(node, dict):
            encoding = node.get("encoding", {})
            for channel in ("x", "y"):
                own = encoding.get(channel)
                if isinstance(own, dict) and own.get("type") == "quantitative" and "axis" not in own:
                    yield own
            for value in node.values():
                yield from axes(value)
        elif isinstance(node, list):
            for value in node:
                yield from axes(value)

    for name, figure in drawn.items():
        titles = [own.get("title") for own in axes(figure.spec())]
        assert any(titles) or not titles, name


def test_a_violin_is_as_wide_as_its_highest_point_and_leaves_out_the_farthest(drawn):
    data = drawn["violins"].data
    widest = data.groupby("entrant")["right"].max()
    np.testing.assert_allclose(widest, 1.0)
    np.testing.assert_allclose(data["left"], -data["right"])


def test_a_scatter_of_many_readouts_is_binned_and_counts_all(make_entry, make_folds):
    rng = np.random.default_rng(0)
    folds = make_folds(2, 2, 6)
    e0 = np.ones((2, 6, MOST_POINTS + 1))
    runs = [make_entry(rng.random(e0.shape), e0, folds, label=name) for name in ("a", "b")]
    board = Leaderboard(runs).boards[0]
    figure = scatter(board, "run-a", "run-b")
    assert figure.data["readouts"].sum() == MOST_POINTS + 1
    assert "bins" in figure.caption
    few = scatter(
        Leaderboard(
            [replace(r, e=r.e[:, :, :5], e0=r.e0[:, :, :5], readouts=r.readouts[:5]) for r in runs]
        ).boards[0],
        "run-a",
        "run-b",
    )
    assert len(few.data) == 5


def test_skill_in_groups_is_worked_by_hand(make_entry, make_folds):
    folds = make_folds(1, 2, 4)
    e = np.array([[[1.0, 0.0], [1.0, 4.0], [0.0, 0.0], [2.0, np.nan]]])
    e0 = np.array([[[2.0, 4.0], [2.0, 4.0], [1.0, 0.0], [2.0, 3.0]]])
    board = Leaderboard([make_entry(e, e0, folds, label="a")]).boards[0]
    groups = pd.Series({"cpd000": "weak", "cpd001": "weak", "cpd002": "strong", "cpd003": "strong"})
    found = within(board, groups).set_index("stratum")["skill"]
    assert found["weak"] == pytest.approx(np.mean([1 - 2 / 4, 1 - 4 / 8]))
    assert found["strong"] == pytest.approx(1 - 2 / 3)  # the second readout's floor makes no error there


def test_skill_by_activity_has_bins_of_equal_size(board):
    rng = np.random.default_rng(0)
    activity = pd.Series(rng.random(80), index=[f"cpd{i:03d}" for i in range(80)])
    figure = by_activity(board, activity, "a test")
    assert set(figure.data["number"]) == {20}
    few = by_activity(board, activity.iloc[:5], "a test")
    assert isinstance(few, Absent)
    assert "5 of its perturbations" in few.reason


def test_strata_with_doses_stand_on_an_axis_of_numbers(board):
    scores = pd.DataFrame(
        {
            "readout": ["g"] * 3,
            "stratum": ["all", "Metadata_Dose=1", "Metadata_Dose=10"],
            "r2": [0.1, 0.2, 0.3],
        }
    )
    changed = replace(board, entries=tuple(replace(e, scores=scores) for e in board.entries))
    figure = by_stratum(changed)
    assert sorted(set(figure.data["value"])) == [1.0, 10.0]
    assert isinstance(by_stratum(board), Absent)


def test_violins_have_a_row_per_condition_where_the_scores_have_strata(board):
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        {"readout": list("abcd") * 2, "stratum": ["M1"] * 4 + ["M2"] * 4, "r2": rng.random(8)}
    )
    changed = replace(board, entries=tuple(replace(e, scores=scores) for e in board.entries))
    assert set(violins([changed]).data["layer"]) == {"transcripts", "transcripts, M1", "transcripts, M2"}


def test_a_board_without_intervals_draws_points_alone(make_entry, make_folds):
    rng = np.random.default_rng(0)
    folds = make_folds(2, 2, 6)
    e0 = np.ones((2, 6, 4))
    runs = [
        make_entry(rng.random(e0.shape), e0, folds, label=name, variance_measured=False, seconds=1.0)
        for name in ("a", "b")
    ]
    board = Leaderboard(runs).boards[0]
    for figure in (intervals(board), cost(board)):
        marks = [layer["mark"]["type"] for layer in figure.spec()["layer"] if "x2" in layer["encoding"]]
        assert marks == []
        assert len(figure.data) == 2


def test_the_dashed_line_is_what_the_floor_scores(board):
    from leaderboard.tables.naming import floor_value

    assert floor_value(board) == 0.0
    without = board.rows[board.rows["role"] != "floor"]
    assert floor_value(replace(board, rows=without)) == 0.0
    other = replace(board, rows=without, metric="mAP")
    assert floor_value(other) is None
    assert intervals(other).data["skill"].notna().all()


def test_a_board_whose_only_run_has_no_score_gives_reasons_and_no_empty_figure(make_entry, make_folds):
    folds = make_folds(2, 2, 6)
    e = np.full((2, 6, 3), np.nan)
    board = Leaderboard([make_entry(e, np.ones_like(e), folds)]).boards[0]
    for found in (intervals(board), matrix(board), cost(board), violins([board])):
        assert isinstance(found, Absent)
        assert found.reason


def test_figures_save_as_svg_png_and_csv_and_refuse_others(drawn, tmp_path):
    figure = drawn["intervals"]
    for suffix in ("svg", "png", "csv", "json"):
        figure.save(tmp_path / f"f.{suffix}")
    assert (tmp_path / "f.svg").read_text().startswith("<svg")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "f.csv")) == len(figure.data)
    with pytest.raises(BoardError, match="gif"):
        figure.save(tmp_path / "f.gif")


def test_a_figure_shows_itself_in_a_notebook(drawn):
    bundle = drawn["intervals"]._repr_mimebundle_(None, None)
    assert any(
        "vegalite" in kind or "html" in kind for kind in (bundle[0] if isinstance(bundle, tuple) else bundle)
    )


def test_plates_have_rows_and_columns_of_their_wells():
    frame = pd.DataFrame(
        {"plate": ["p", "p", "q"], "well": ["A01", "AF12", "B3"], "value": [1.0, np.nan, 2.0]}
    )
    figure = plates(frame, "x", "t", "unit", "c.")
    assert figure.data[["row", "column"]].to_numpy().tolist() == [["A", 1], ["B", 3]]
    assert isinstance(plates(frame.assign(well="?"), "x", "t", "unit", "c."), Absent)


def test_maps_and_canonical_correlations_say_why_they_are_absent():
    wells = pd.DataFrame({"Metadata_Plate": ["p"] * 4})
    assert "20 are needed" in maps(np.zeros((4, 2)), wells, "x").reason
    assert "fewer than two" in canonical({"a": np.zeros((4, 2))}, np.array(list("abcd"))).reason
    two = {"a": np.eye(4), "b": np.eye(4)}
    assert "10 perturbations" in canonical(two, np.array(list("abcd"))).reason


def test_locations_leave_out_and_count_readouts_without_one(board):
    run = board.rows["run"].iloc[1]
    pairs = pd.DataFrame(
        {"readout": [f"gene{i:04d}" for i in range(40)], "location": ["Cytosol", "Nucleus"] * 20}
    )
    figure = by_location(board, run, pairs)
    assert "360 of 400 readouts have no location" in figure.caption
    assert len(figure.data) == 40
    assert isinstance(by_location(board, run, pairs.assign(readout="unknown")), Absent)
    table = forest(board, run, pairs, None, None)
    assert not isinstance(table, Absent)
    assert isinstance(forest(board, run, pairs.assign(readout="unknown"), None, None), Absent)


def test_metadata_with_dots_and_brackets_in_its_name_colours_the_map(monkeypatch):
    from leaderboard.figures import wells as room

    monkeypatch.setattr(room, "_umap", lambda values, seed: values[:, :2])
    rng = np.random.default_rng(0)
    wells = pd.DataFrame({"Metadata_Plate": ["a", "b"] * 20, "Metadata_x.y[0]": ["u"] * 20 + ["v"] * 20})
    figure = maps(rng.normal(size=(40, 4)), wells, "x")
    assert figure.data["x.y[0]"].value_counts().to_dict() == {"u": 40, "v": 40}
    tips = [tip["field"] for tip in figure.spec()["spec"]["encoding"]["tooltip"]]
    assert tips == ["Plate", r"x\.y\[0\]"]


@pytest.mark.slow
def test_the_map_is_the_same_for_the_same_features_and_has_both_stages():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    wells = pd.DataFrame({"Metadata_Plate": ["a", "b"] * 30, "Metadata_Dose": [1.0, 2.0, 3.0] * 20})
    first, second = maps(X, wells, "x"), maps(X, wells, "x")
    pd.testing.assert_frame_equal(first.data, second.data)
    assert set(first.data["stage"]) == {"as computed", "after CORAL"}
    assert first.data["Dose"].unique().tolist() == ["1", "2", "3"]


def test_calls_are_drawn_by_class_and_attribution_maps_as_pictures(board):
    from leaderboard.figures.attribution import Explained, attribution
    from leaderboard.figures.predicted import measured_against_predicted

    run = next(e.run for e in board.entries if e.role == "entrant")
    predictions = pd.DataFrame(
        {"run": run, "readout": "g", "unit": ["a", "b", "c"], "measured": [1.0, 0.0, 1.0], "predicted": 0.5}
    )
    figure = measured_against_predicted(replace(board, metric="ROC AUC"), predictions)
    assert figure.data["call"].tolist() == ["called", "not called", "called"]
    other = measured_against_predicted(replace(board, metric="mAP"), predictions)
    assert isinstance(other, Absent)

    pixels = np.zeros((2, 4, 4), np.float32)
    pixels[0, 1, 2] = 9.0
    example = Explained("well A01", ("DNA", "<b>"), pixels, np.stack([3.0 * pixels[0], -pixels[0]]))
    drawn = attribution([example], "t", "c")
    shares = drawn.data.drop_duplicates("channel").set_index("channel")["share"]
    assert shares.to_dict() == {"DNA": 0.75, "<b>": 0.25}  # of |map|
    assert "image" not in drawn.data
    rows = next(iter(drawn.spec()["datasets"].values()))
    assert len(rows) == 4
    assert all(row["image"].startswith("data:image/png;base64,") for row in rows)
