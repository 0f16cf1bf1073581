"""Runs as Parquet tables: what is written is what is read, and a wrong table gets one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import BoardError, Leaderboard
from leaderboard.folder import read_folder, write_folder


def test_a_folder_gives_the_same_boards_back(small_screen, tmp_path):
    entries = [
        replace(small_screen[0], scores=pd.DataFrame({"readout": ["g"], "stratum": ["all"], "r2": [0.5]}))
    ]
    entries += small_screen[1:]
    write_folder(entries, tmp_path / "folder")
    expected, found = Leaderboard(entries).boards[0], Leaderboard.read(tmp_path / "folder").boards[0]
    pd.testing.assert_frame_equal(found.rows, expected.rows, check_dtype=False)
    pd.testing.assert_frame_equal(found.readouts, expected.readouts)
    scores = next(e for e in found.entries if e.run == entries[0].run).scores
    assert scores["r2"].tolist() == [0.5]


def test_scores_per_fold_and_untested_cells_come_back(make_entry, make_folds, tmp_path):
    folds = make_folds(2, 2, 6)
    folds[0, 0] = -1
    values = np.random.default_rng(0).random((2, 2, 3)).astype(np.float32)
    values[1, 1, 2] = np.nan
    nothing = np.zeros((2, 6, 0), np.float32)
    entry = replace(
        make_entry(nothing, nothing, folds), fold_values=values, metric="ROC AUC", readouts=("a", "b", "c")
    )
    write_folder([entry], tmp_path)
    back = read_folder(tmp_path)[0]
    order = [back.perturbations.index(name) for name in entry.perturbations]
    np.testing.assert_array_equal(back.folds[:, order], entry.folds)
    np.testing.assert_array_equal(back.fold_values, entry.fold_values)
    assert back.metric == "ROC AUC"
    assert back.seconds != back.seconds


@pytest.fixture
def folder(small_screen, tmp_path):
    write_folder(small_screen[:2], tmp_path)
    return tmp_path


def change(folder, name, edit):
    path = folder / f"{name}.parquet"
    edit(pd.read_parquet(path)).to_parquet(path)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("errors", lambda f: f.drop(columns="e0"), "no column 'e0'"),
        ("errors", lambda f: pd.concat([f, f.iloc[:1]]), "a cell stands twice"),
        ("errors", lambda f: f.assign(perturbation="nobody"), "'nobody', which stands in no fold"),
        ("errors", lambda f: f.assign(repeat=9), "a repeat or fold that the folds do not have"),
        ("errors", lambda f: f[f["run"] == f["run"].iloc[0]], "has no rows in errors"),
        ("runs", lambda f: f.drop(columns="layer"), "no column 'layer'"),
    ],
)
def test_a_wrong_table_gets_one_sentence(folder, name, edit, message):
    change(folder, name, edit)
    with pytest.raises(BoardError, match=message):
        read_folder(folder)


def test_a_folder_without_its_tables_is_refused(tmp_path):
    with pytest.raises(BoardError, match=r"needs runs\.parquet and folds\.parquet"):
        read_folder(tmp_path)
