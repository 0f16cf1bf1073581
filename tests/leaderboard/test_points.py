"""Boards without a measured variance whose scores are no ROC AUC: what their sentences say."""

import numpy as np
import pandas as pd

from leaderboard import Leaderboard
from leaderboard.render import markdown


def runs(make_entry, entrant, control):
    def one(label, value, role, **scores):
        values = np.full((1, 1, 4), value, np.float32)
        values[0, 0, 3] = np.nan
        frame = pd.DataFrame({"readout": [f"gene{i:04d}" for i in range(4)], "stratum": "all", **scores})
        nothing = np.zeros((1, 6, 4), np.float32)
        return make_entry(
            nothing,
            nothing,
            np.zeros((1, 6), np.int16),
            label=label,
            role=role,
            head="none",
            scores=frame,
            fold_values=values,
            metric="mAP",
            variance_measured=False,
        )

    tested = {"chance": 0.2, "p": [0.001, 0.5, 0.002, np.nan], "q": [0.003, 0.5, 0.003, np.nan]}
    made = [
        one("mae", entrant, "entrant", **tested),
        one("position", control, "control"),
        one("chance", 0.2, "floor"),
    ]
    return [type(e)(**{**vars(e), "e": e.e[:, :, :0], "e0": e.e0[:, :, :0]}) for e in made]


def test_a_control_that_scores_as_high_is_named_though_nothing_is_tested(make_entry):
    (board,) = Leaderboard(runs(make_entry, 0.6, 0.7)).boards
    notes = " ".join(board.notes)
    assert "mae scores no higher than position (points, not tested)." in notes
    (other,) = Leaderboard(runs(make_entry, 0.7, 0.6)).boards
    assert "no higher" not in " ".join(other.notes)


def test_nothing_found_is_explained_where_a_perfect_score_would_hardly_be_significant(make_entry):
    entries = runs(make_entry, 0.6, 0.3)
    scores = entries[0].scores.assign(q=0.2, p_least=0.03)
    entries[0] = type(entries[0])(**{**vars(entries[0]), "scores": scores})
    (board,) = Leaderboard(entries).boards
    assert "a perfect score has p = 0.03, so that fewer than 3 cannot be found" in " ".join(board.notes)


def test_readouts_beyond_random_orders_are_counted_and_auc_levels_are_not(make_entry):
    (board,) = Leaderboard(runs(make_entry, 0.6, 0.3)).boards
    notes = " ".join(board.notes)
    assert "mae: 2 of 3 readouts found better than in random orders, q < 0.05 within the run." in notes
    assert "at least 0.6" not in notes
    assert "1 of 4 readouts has no defined mAP (nothing could be right" in notes
    assert "what a random order is expected to score" in markdown(board)
    assert "No interval and no verdict" in notes
