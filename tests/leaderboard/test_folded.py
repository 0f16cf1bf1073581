"""Boards of scores that exist per fold: exact means, the raw form of D1, ROC AUC per readout."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from leaderboard import BoardError, Leaderboard, compare
from leaderboard.decide import decide, skill_interval
from leaderboard.folded import VARIANCE_FACTOR, against_chance, between_runs, fold_summands, shared_folds
from leaderboard.render import markdown

from .conftest import build_entry, build_folds


def values_of(mean, seed, shape=(5, 5, 30), missing=0.0):
    rng = np.random.default_rng(seed)
    values = mean + 0.1 * rng.normal(size=shape)
    return np.where(rng.random(shape) < missing, np.nan, values).astype(np.float32)


def auc_entry(label, values, role="entrant", folds=None, **changes):
    folds = build_folds(len(values), values.shape[1], 40) if folds is None else folds
    nothing = np.zeros((len(values), 40, 0), np.float32)
    readouts = tuple(f"gene{g}" for g in range(values.shape[2]))
    more = {"metric": "ROC AUC", "task": "classification", "head": "logistic", "variance_measured": False}
    return build_entry(
        nothing,
        nothing,
        folds,
        label=label,
        fold_values=values,
        role=role,
        readouts=readouts,
        **more | changes,
    )


def test_the_mean_of_losses_is_the_mean_over_readouts_of_their_means_over_folds():
    values, folds = values_of(0.6, 0, missing=0.3), build_folds(5, 5, 40)
    values[:, :, 3] = np.nan
    out = fold_summands(values, folds)
    expected = np.full(30, np.nan)
    for g in range(30):
        known = values[:, :, g][np.isfinite(values[:, :, g])].astype(float)
        expected[g] = known.mean() if len(known) else np.nan
    np.testing.assert_allclose(out.skill_by_readout, expected, rtol=1e-12)
    assert out.skill == pytest.approx(np.nanmean(expected))
    # 40 perturbations stand in 5 equal folds, so cells weigh alike.
    assert 1 - out.loss.mean() == pytest.approx(out.skill, rel=1e-12)
    assert out.floor_loss.mean() == pytest.approx(1.0)


def test_a_floor_with_gaps_has_no_spread():
    values = np.where(np.isnan(values_of(0.6, 0, missing=0.3)), np.nan, 0.5)
    interval = skill_interval(fold_summands(values, build_folds(5, 5, 40)))
    assert interval.estimate == pytest.approx(0.5)
    assert interval.standard_error < 1e-9


def test_the_decision_is_that_of_fold_means_with_the_measured_factor():
    a, b, folds = values_of(0.65, 1), values_of(0.6, 2), build_folds(5, 5, 40)
    found = decide(fold_summands(a, folds), fold_summands(b, folds), margin=0.0)
    difference = (a.astype(float) - b).mean(axis=2).ravel()
    factor = 1 / 25 + 1 / 4
    assert found.difference == pytest.approx(difference.mean())
    assert found.standard_error == pytest.approx(np.sqrt(VARIANCE_FACTOR * factor * difference.var(ddof=1)))
    assert found.df == pytest.approx(1 / (1 / 39 + 1 / 20))


def test_a_fold_that_was_not_run_has_no_weight():
    values, folds = values_of(0.6, 0), build_folds(5, 5, 40)
    values[3:] = np.nan
    out = fold_summands(values, folds)
    assert (out.folds[3:] == -1).all()
    assert out.skill == pytest.approx(values[:3].astype(float).mean())


def board(**changes):
    return Leaderboard(
        [
            auc_entry("good", values_of(0.7, 1), **changes),
            auc_entry("weak", values_of(0.55, 2), **changes),
            auc_entry("cell-count", values_of(0.52, 3), role="control", **changes),
            auc_entry("mean", np.full((5, 5, 30), 0.5, np.float32), role="floor", **changes),
            auc_entry("twin", values_of(0.5, 4), role="permuted", permutes="good", **changes),
        ]
    ).boards[0]


def test_an_unmeasured_board_ranks_by_the_mean_and_states_no_interval():
    own = board()
    assert own.rows["label"].tolist()[:2] == ["good", "weak"]
    assert own.rows["skill"].iloc[0] == pytest.approx(0.7, abs=0.02)
    assert own.rows["skill_low"].isna().all()
    assert own.rows["predictable"].isna().all()
    assert own.readouts["q"].isna().all()
    text = markdown(own)
    assert "Mean ROC AUC" in text
    assert "not tested one by one" in text
    assert any("have not been measured" in note for note in own.notes)


def test_readouts_at_the_levels_of_papers_are_counted():
    note = next(note for note in board().notes if note.startswith("good: "))
    values = values_of(0.7, 1).astype(float).mean(axis=(0, 1))
    for level in (0.6, 0.7, 0.8, 0.9):
        assert f"{(values >= level).sum()} at least {level:g}" in note
    permuted = values_of(0.62, 9).astype(float).mean(axis=(0, 1))
    twin = auc_entry("good, permuted", values_of(0.62, 9), role="permuted", permutes="good")
    entries = [*board().entries, twin]
    told = next(n for n in Leaderboard(entries).boards[0].notes if n.startswith("good: "))
    counts = ", ".join(str((permuted >= level).sum()) for level in (0.6, 0.7, 0.8, 0.9))
    assert f"(with permuted labels {counts})" in told


def test_a_measured_board_decides():
    own = board(variance_measured=True)
    assert own.rows["above_verdict"].tolist()[1] == "worse"
    others = own.rows[own.rows["role"] != "floor"]
    assert (others["skill_low"] < others["skill"]).all()


def test_a_run_over_the_first_repeat_is_compared_over_what_both_have():
    values = values_of(0.7, 1)
    folds = build_folds(5, 5, 40)
    short = auc_entry("short", values[:1], folds=folds[:1], variance_measured=True)
    whole = auc_entry("whole", values_of(0.6, 2), folds=folds, variance_measured=True)
    left, right, _ = shared_folds(short, whole)
    assert left.loss.shape == right.loss.shape == (1, 40)
    assert compare(short, whole).skill_b == pytest.approx(values_of(0.6, 2)[:1].astype(float).mean())
    rows = Leaderboard([short, whole]).boards[0].rows
    assert rows["rank"].notna().all()


def test_comparison_is_over_shared_readouts_and_cells():
    a, b = auc_entry("a", values_of(0.7, 1, missing=0.2)), auc_entry("b", values_of(0.6, 2, missing=0.2))
    b = replace(b, readouts=("other", *b.readouts[1:]))
    found = compare(a, b)
    assert len(found.readouts) == 29
    assert set(found.readouts["verdict"]) == {"undecided"}
    both = np.isfinite(a.fold_values) & np.isfinite(b.fold_values)
    own = a.fold_values[:, :, 5][both[:, :, 5]].astype(float).mean()
    assert found.readouts.loc[found.readouts["readout"] == "gene5", "skill_a"].item() == pytest.approx(own)


def test_what_does_not_fit_is_refused():
    a = auc_entry("a", values_of(0.7, 1))
    with pytest.raises(BoardError, match="must be"):
        Leaderboard([replace(a, fold_values=a.fold_values[:, :, :7])])
    with pytest.raises(BoardError, match="Fold values must be"):
        fold_summands(values_of(0.6, 0)[:3], build_folds(5, 5, 40))
    moved = replace(a, folds=np.roll(a.folds, 1, axis=1))
    with pytest.raises(BoardError, match="in other folds"):
        shared_folds(a, moved)


def null_folds(rng, repeats, folds, positives, negatives, readouts):
    """AUC of scores without any link, new ones in every fold, over which each class is spread evenly."""
    y = np.repeat([1, 0], [positives, negatives])
    values = np.full((repeats, folds, readouts), np.nan)
    for r in range(repeats):
        fold = np.concatenate([np.arange(size) % folds for size in (positives, negatives)])
        for k in range(folds):
            p, own = rng.normal(size=((fold == k).sum(), readouts)), y[fold == k]
            if 0 < own.sum() < len(own):
                above = p[own == 1][:, None] > p[own == 0][None]
                values[r, k] = above.mean(axis=(0, 1))
    return values


def test_the_variance_of_one_repeat_of_unlinked_scores_is_mann_whitneys():
    rng = np.random.default_rng(0)
    values = null_folds(rng, 1, 5, 15, 45, 4000)
    observed = np.nanmean(values[0], axis=0).var()
    assert observed == pytest.approx((15 + 45 + 5) / (12 * 15 * 45), rel=0.1)
    counts = np.full(4000, 15.0), np.full(4000, 45.0)
    # The factor for shared training sets makes the test conservative here, where folds share nothing.
    assert 0.005 < (against_chance(values, *counts).p < 0.05).mean() < 0.05


def test_an_auc_far_from_chance_is_found_and_one_without_both_classes_is_not_tested():
    values = np.full((5, 5, 4), 0.5)
    values[:, :, 1], values[:, :, 2], values[:, :, 3] = 0.9, 0.1, np.nan
    found = against_chance(values, np.array([20.0, 20, 20, 0]), np.array([40.0, 40, 40, 60]))
    expected = stats.norm.sf(0.4 / np.sqrt((1.6 + 0.65 / 5) * 65 / (12 * 20 * 40)))
    assert found.p[1] == pytest.approx(expected)
    assert found.p[0] == 0.5
    assert found.p[2] > 0.99
    assert np.isnan(found.p[3])
    assert found.significant(0.05).tolist() == [False, True, False, False]


def test_readouts_of_two_runs_are_compared_by_the_corrected_t_test_over_folds():
    a, b = values_of(0.7, 1), values_of(0.6, 2)
    folds = build_folds(5, 5, 40)
    found = between_runs(a, b, folds)
    gains = (a.astype(float) - b).reshape(25, -1)
    least = gains.var(axis=0, ddof=1).mean()
    for g in (0, 7, 29):
        gain = gains[:, g]
        error = np.sqrt(VARIANCE_FACTOR * (1 / 25 + 1 / 4) * max(gain.var(ddof=1), least))
        df = 1 / (1 / 39 + 1 / 20)
        assert found.p[g] == pytest.approx(2 * stats.t.sf(abs(gain.mean()) / error, df))
        assert found.effect[g] == pytest.approx(gain.mean())


def test_a_board_counts_readouts_better_than_chance_and_than_controls():
    counts = pd.DataFrame(
        {"readout": [f"gene{g}" for g in range(30)], "stratum": "all", "n_pos": 15, "n_neg": 25}
    )
    strong = values_of(0.5, 1)
    strong[:, :, :6] += 0.42
    more = {"scores": counts, "variance_measured": True}
    runs = [
        auc_entry("strong", strong, **more),
        auc_entry("cell-count", values_of(0.5, 3), role="control", **more),
        auc_entry("strong, permuted labels", values_of(0.5, 4), role="permuted", permutes="strong", **more),
    ]
    board = Leaderboard(runs).boards[0]
    row = board.rows.set_index("label").loc["strong"]
    assert (row["predictable"], row["predictable_permuted"], row["beyond_controls"]) == (6, 0, 6)
    assert "better than chance" in markdown(board)
    comparison = compare(runs[0], runs[1])
    assert set(comparison.readouts["verdict"][:6]) == {"better"}
    unmeasured = Leaderboard([replace(run, variance_measured=False) for run in runs]).boards[0]
    assert unmeasured.rows["predictable"].isna().all()
    assert "not tested one by one" in markdown(unmeasured)
