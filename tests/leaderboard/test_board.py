"""Boards: who stands where, what is counted, and what a reader is told."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import BoardError, Leaderboard, Rules, compare
from leaderboard.adjust import hierarchical
from leaderboard.decide import decide
from leaderboard.predictable import against_entry, against_floor
from leaderboard.render.pair import Pair
from leaderboard.summands import summands

RULES = Rules(flips=200)


def only(entries):
    boards = Leaderboard(entries, RULES).boards
    assert len(boards) == 1
    return boards[0]


def row(board, label):
    rows = board.rows[board.rows["label"].str.startswith(label)]
    assert len(rows) == 1, label
    return rows.iloc[0]


def by_name(entries, name):
    return next(entry for entry in entries if entry.name == name)


def test_a_screen_with_a_known_order_is_ranked_in_it(board):
    assert board.rows["name"].tolist()[:4] == ["oracle", "mae", "vits-imagenet", "stains"]
    ranked = board.rows[board.rows["rank"].notna()]
    assert ranked["name"].tolist() == ["mae", "vits-imagenet", "stains"]
    assert ranked["rank_low"].tolist() == [1, 1, 3]
    assert ranked["rank_high"].tolist() == [2, 2, 3]
    assert ranked["ties"].tolist() == ["a", "a", "b"]
    assert ranked["above_verdict"].tolist() == ["", "tied", "worse"]


def test_a_row_repeats_what_the_rooms_compute(screen, board):
    first, second = by_name(screen, "vits-imagenet"), by_name(screen, "stains")
    left, right = (summands(entry.e, entry.e0, entry.folds) for entry in (first, second))
    found = row(board, "stains")
    decision = decide(left, right, margin=0.01)
    assert found["skill"] == pytest.approx(right.skill)
    assert found["median_skill"] == pytest.approx(np.median(right.skill_by_readout))
    assert found["above_difference"] == pytest.approx(-decision.difference)
    assert found["above_mdd80"] == pytest.approx(decision.mdd80)
    test = against_floor(second.e, second.e0, second.folds, right.defined, Rules())
    assert found["predictable"] == (test.q < 0.05).sum()


def test_skill_is_the_mean_over_readouts_of_one_minus_the_error_ratio(screen, board):
    entry = by_name(screen, "mae")
    ratio = entry.e.sum(axis=(0, 1), dtype=float) / entry.e0.sum(axis=(0, 1), dtype=float)
    assert row(board, "mae[")["skill"] == pytest.approx(np.mean(1 - ratio))


def test_half_the_readouts_have_no_link_and_are_not_called_predictable(board):
    readouts = board.readouts[board.readouts["run"] == row(board, "mae[")["run"]]
    linked = readouts["readout"].str[4:].astype(int) < 200
    assert readouts.loc[linked, "predictable"].mean() > 0.9
    assert readouts.loc[~linked, "predictable"].sum() == 0


def test_the_permuted_run_gives_the_expected_count_of_its_entrant_alone(board):
    assert row(board, "mae[")["predictable_permuted"] == row(board, "mae-permuted")["predictable"]
    assert board.rows.loc[board.rows["name"] != "mae", "predictable_permuted"].isna().all()


def test_a_permuted_run_is_not_lent_to_another_run_of_the_same_name(small_screen):
    own = replace(by_name(small_screen, "mae"), label="mae")
    imported = replace(own, run="imported", label="mae [imported]")
    others = [entry for entry in small_screen if entry.name != "mae"]
    board = only([*others, own, imported])
    assert row(board, "mae [")["predictable_permuted"] is pd.NA
    counts = board.rows.set_index("run")["predictable_permuted"]
    assert counts[own.run] == counts.dropna().iloc[0]


def test_the_permuted_run_of_another_head_is_not_taken(small_screen):
    twin = replace(by_name(small_screen, "mae-permuted"), head="knn")
    entries = [twin if entry.role == "permuted" else entry for entry in small_screen]
    assert only(entries).rows["predictable_permuted"].isna().all()


def test_beyond_controls_needs_every_control_and_predictability(small_screen):
    entry = by_name(small_screen, "mae")
    worst = []
    for name in ("cell-count", "position"):
        control = by_name(small_screen, name)
        test = against_entry(entry.e, control.e, entry.folds, np.ones(30, bool), RULES)
        worst.append(np.where(test.effect > 0, test.p, 1.0))
    from scipy.stats import false_discovery_control

    beats = false_discovery_control(np.max(worst, axis=0)) < 0.05
    board = only(small_screen)
    mine = board.readouts[board.readouts["run"] == entry.run]
    np.testing.assert_array_equal(mine["beyond_controls"], beats & mine["predictable"])
    assert 0 < mine["beyond_controls"].sum() < 30
    assert row(board, "mae[")["beyond_controls"] == mine["beyond_controls"].sum()


def test_without_controls_beyond_is_unknown_and_said(small_screen):
    board = only([entry for entry in small_screen if entry.role != "control"])
    assert board.rows["beyond_controls"].isna().all()
    assert any("No control stands on this board" in note for note in board.notes)


def test_an_entrant_that_does_not_beat_cell_count_has_shown_nothing_beyond_it(small_screen):
    weak = replace(by_name(small_screen, "cell-count"), run="weak", name="weak", label="weak", role="entrant")
    notes = only([*small_screen, weak]).notes
    assert any("weak does not beat cell-count" in note and "number of cells" in note for note in notes)
    assert not any(note.startswith("mae[") and "does not beat" in note for note in notes)


def test_one_control_that_is_as_good_leaves_nothing_beyond_controls_unless_its_head_differs(small_screen):
    mae = by_name(small_screen, "mae")
    strong = replace(mae, run="strong", label="intensity", name="intensity", role="control")
    board = only([*small_screen, strong])
    assert row(board, "mae[")["beyond_controls"] == 0
    assert any(note.startswith("mae[") and "does not beat intensity" in note for note in board.notes)
    other_head = only([*small_screen, replace(strong, head="knn")])
    assert row(other_head, "mae[")["beyond_controls"] == row(only(small_screen), "mae[")["beyond_controls"]


def test_controls_of_another_head_are_held_against_an_entrant_that_has_none_of_its_own(small_screen):
    weak = replace(by_name(small_screen, "cell-count"), run="weak", label="weak", role="entrant", head="knn")
    assert any(note.startswith("weak does not beat cell-count") for note in only([*small_screen, weak]).notes)


def test_controls_floor_and_ceiling_are_compared_but_not_ranked(board):
    others = board.rows[board.rows["role"] != "entrant"]
    assert others["rank"].isna().all()
    mae = row(board, "mae[")["run"]
    against = board.pairs[(board.pairs["a"] == mae) | (board.pairs["b"] == mae)]
    assert set(against["a"]) | set(against["b"]) >= {"run-oracle", "run-cell-count", "run-mean"}
    assert against.loc[against["b"] == "run-cell-count", "p_holm"].isna().all()


def test_runs_of_other_protocols_or_versions_are_never_ranked_together(small_screen):
    other = replace(
        small_screen[0], run="r2", protocol="random-wells", protocol_hash="other", optimistic=True
    )
    third = replace(small_screen[0], run="r3", dataset_version="2")
    found = Leaderboard([*small_screen, other, third], RULES)
    assert [len(board.rows) for board in found.boards] == [8, 1, 1]
    assert "protocol differs (nested-cv and random-wells)" in found.separations[0]
    assert "version of the dataset differs (1 and 2)" in found.separations[1]
    assert "OPTIMISTIC PROTOCOL (random-wells)" in found.boards[1].banner
    assert found.boards[0].banner == ""


def test_a_partly_run_entry_is_shown_and_not_ranked(small_screen):
    best = by_name(small_screen, "oracle")
    partial = replace(best, run="part", label="part", name="part", role="entrant", coverage=0.93)
    board = only([*small_screen, partial])
    assert row(board, "part")["unranked"] == "it was partly run (93 % of the units)"
    assert any(note.startswith("part is not ranked") for note in board.notes)


def test_a_head_that_predicts_some_readouts_only_is_said_in_readouts(small_screen):
    best = by_name(small_screen, "oracle")
    e = best.e.copy()
    e[:, :, 12:] = np.nan
    some = replace(best, run="part", label="part", name="part", role="entrant", coverage=0.4, e=e)
    board = only([*small_screen, some])
    assert row(board, "part")["unranked"] == "it was partly run (12 of 30 readouts)"


def test_beside_partly_run_entries_the_others_are_ranked(small_screen):
    best = by_name(small_screen, "oracle")
    board = only([*small_screen, replace(best, run="part", label="part", role="entrant", coverage=0.93)])
    assert row(board, "mae[")["rank"] == 1 or row(board, "vits")["rank"] == 1


def test_missing_predictions_do_not_make_an_entrant_better(small_screen):
    entry = by_name(small_screen, "stains")
    e = entry.e.copy()
    e[:, :, 15:] = np.nan
    picky = replace(entry, run="picky", label="picky", e=e)
    board = only([*small_screen, picky])
    assert row(board, "picky")["skill"] > row(board, "stains")["skill"]
    assert row(board, "picky")["unranked"] == "it has no finite prediction for values of 15 of 30 readouts"


def test_leaving_the_floor_out_too_does_not_hide_missing_predictions(small_screen):
    entry = by_name(small_screen, "stains")
    e, e0 = entry.e.copy(), entry.e0.copy()
    e[:, :, 15:], e0[:, :, 15:] = np.nan, np.nan
    board = only([*small_screen, replace(entry, run="picky", label="picky", e=e, e0=e0)])
    assert row(board, "picky")["unranked"] == "it has no finite prediction for values of 15 of 30 readouts"


def test_a_control_with_a_gap_is_compared_over_the_rest(small_screen):
    gapped = []
    for entry in small_screen:
        if entry.name == "cell-count":
            e, e0 = entry.e.copy(), entry.e0.copy()
            e[:, 3], e0[:, 3] = np.nan, np.nan
            e0[:, 4] *= 1.5  # one of its wells has no cells: other rows of the perturbation
            entry = replace(entry, e=e, e0=e0)
        gapped.append(entry)
    board = only(gapped)
    pair = board.pairs[
        (board.pairs["a"] == by_name(gapped, "mae").run) & (board.pairs["b"] == "run-cell-count")
    ]
    mae = by_name(gapped, "mae")
    rest = [i for i in range(120) if i not in (3, 4)]
    skills = [
        summands(entry.e[:, rest], entry.e0[:, rest], entry.folds[:, rest]).skill
        for entry in (mae, by_name(gapped, "cell-count"))
    ]
    assert pair.iloc[0]["difference"] == pytest.approx(skills[0] - skills[1])
    assert row(board, "mae[")["beyond_controls"] > 0


def test_a_run_without_any_score_is_shown_last_with_its_reason(small_screen):
    broken = replace(small_screen[0], run="nan", label="broken", e=np.full_like(small_screen[0].e, np.nan))
    board = only([*small_screen, broken])
    assert board.rows.iloc[-1]["label"] == "broken"
    assert board.rows.iloc[-1]["unranked"] == "no readout has a defined score"
    assert not any("readouts have no defined skill" in note for note in board.notes)


def test_only_runs_without_scores_make_a_board_in_words(small_screen):
    broken = replace(small_screen[0], e=np.full_like(small_screen[0].e, np.nan))
    board = only([broken])
    assert board.notes[0] == "No entrant can be ranked."
    assert "No run has a defined score." in board.notes


def test_one_entrant_alone_has_an_interval_and_no_opponent(small_screen):
    board = only([small_screen[0]])
    assert np.isfinite(board.rows.loc[0, "skill_low"])
    assert board.rows.loc[0, "rank_high"] == 1
    assert board.notes[0].startswith("One entrant only")


def test_no_runs_are_said_to_be_none():
    found = Leaderboard([])
    assert (found.boards, found.separations) == ([], ["There is no run to show."])


def test_a_run_that_lacks_readouts_is_not_ranked_and_one_with_more_is_cut(small_screen, make_entry):
    entry = by_name(small_screen, "stains")
    fewer = replace(
        entry,
        run="few",
        label="few",
        readouts=entry.readouts[:20],
        e=entry.e[..., :20],
        e0=entry.e0[..., :20],
    )
    more = replace(
        entry,
        run="more",
        label="more",
        readouts=("extra", *entry.readouts),
        e=np.concatenate([entry.e[..., :1], entry.e], axis=2),
        e0=np.concatenate([entry.e0[..., :1], entry.e0], axis=2),
    )
    board = only([fewer, more, *small_screen])
    assert row(board, "few")["unranked"] == "it lacks 10 of the board's 30 readouts"
    assert row(board, "more")["skill"] == row(board, "stains")["skill"]
    assert row(board, "more")["rank"] == row(board, "stains")["rank"] - 1


def test_a_constant_readout_is_left_out_counted_and_said(small_screen):
    flat = []
    for entry in small_screen:
        e0 = entry.e0.copy()
        e0[:, :, 4] = 0.0
        flat.append(replace(entry, e0=e0))
    board = only(flat)
    assert (board.rows["readouts_undefined"] == 1).all()
    assert any("1 of 30 readouts has no defined skill" in note for note in board.notes)


def test_a_run_with_the_first_repeat_only_is_compared_over_what_both_have(small_screen):
    entry = by_name(small_screen, "stains")
    first = replace(entry, run="first", label="first", e=entry.e[:1], e0=entry.e0[:1], folds=entry.folds[:1])
    folds = entry.folds.copy()
    folds[1:] = -1
    masked = replace(entry, run="masked", label="masked", folds=folds)
    board = only([*small_screen, first, masked])
    assert row(board, "first")["rank"] == row(board, "masked")["rank"] - 1
    pair = board.pairs[(board.pairs["a"] == "run-stains") | (board.pairs["b"] == "run-stains")]
    twins = pair[pair["a"].isin(["first", "masked"]) | pair["b"].isin(["first", "masked"])]
    np.testing.assert_allclose(twins["difference"], 0, atol=1e-7)


def test_a_run_over_chosen_folds_is_not_ranked_and_takes_no_figure_from_the_others(small_screen):
    entry = by_name(small_screen, "stains")
    folds = np.where(entry.folds == 0, entry.folds, -1)
    board = only([*small_screen, replace(entry, run="chosen", label="chosen", folds=folds)])
    assert row(board, "chosen")["rank"] is pd.NA
    assert "leaves out 90 perturbations" in row(board, "chosen")["unranked"]
    told = [note for note in board.notes if note.startswith("Effective number")]
    assert told == [note for note in only(small_screen).notes if note.startswith("Effective number")]


def test_a_run_scored_against_another_floor_is_not_ranked(small_screen):
    alien = replace(small_screen[2], run="alien", label="alien", e0=small_screen[2].e0[:, ::-1])
    board = only([*small_screen, alien])
    assert "different floors" in row(board, "alien")["unranked"]


def test_an_unmeasured_protocol_shows_no_interval_and_no_verdict(small_screen):
    board = only([replace(entry, variance_measured=False) for entry in small_screen])
    assert board.rows[["skill_low", "skill_high", "above_mdd80"]].isna().all(axis=None)
    assert set(board.rows["above_verdict"]) <= {"", "undecided"}
    assert board.rows["rank_high"].dropna().eq(3).all()
    assert any("No interval and no verdict" in note for note in board.notes)
    counts = ["predictable", "predictable_permuted", "beyond_controls"]
    assert only(small_screen).rows[counts].notna().any().all()
    assert board.rows[counts].isna().all(axis=None)
    assert board.readouts[["p", "q", "q_controls"]].isna().all(axis=None)
    assert not board.readouts["predictable"].any()


def test_an_unmeasured_protocol_gives_no_verdict_per_readout(small_screen):
    pair = [by_name(small_screen, name) for name in ("vits-imagenet", "stains")]
    assert "better" in set(compare(*pair, RULES).readouts["verdict"])
    found = compare(*(replace(run, variance_measured=False) for run in pair), RULES)
    assert set(found.readouts["verdict"]) == {"undecided"}
    assert found.readouts[["p", "q"]].isna().all(axis=None)
    assert found.overall.verdict == "undecided"


def test_few_strong_perturbations_are_called_not_resolvable(small_screen):
    strong = []
    for entry in small_screen:
        weight = np.ones((1, 120, 1), np.float32)
        weight[:, :3] = 200
        strong.append(replace(entry, e=entry.e * weight, e0=entry.e0 * weight))
    assert any("not resolvable" in note for note in only(strong).notes)


def test_the_effective_number_is_that_of_whole_runs(small_screen):
    folds = small_screen[0].folds.copy()
    folds[:, 10:] = -1
    part = replace(small_screen[0], run="part", label="part", folds=folds, coverage=0.1)
    effective = [n for n in only(small_screen).notes if n.startswith("Effective")]
    assert effective == [n for n in only([*small_screen, part]).notes if n.startswith("Effective")]
    assert "of 120" in effective[0]


def test_a_resolved_lead_within_the_margin_is_a_tie_and_said(screen):
    board = only([replace(entry, margin=0.2) for entry in screen])
    assert board.rows["rank_high"].dropna().eq(3).all()
    assert any("resolved but within the margin 0.2: tied" in note for note in board.notes)


def test_selected_panels_and_audit_warnings_are_repeated(small_screen):
    flagged = replace(
        small_screen[0], facts={"panel_selected_by": "training skill"}, warnings=("plate is decodable",)
    )
    notes = only([flagged, *small_screen[1:]]).notes
    assert any("selected by a score (training skill)" in note for note in notes)
    assert "plate is decodable" in notes


def test_too_few_flips_for_a_large_panel_are_said(small_screen):
    found = Leaderboard(small_screen, Rules(flips=20)).boards[0]
    assert (found.rows["predictable"].dropna() == 0).all()
    assert any("0 does not mean none" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"perturbations": ("a",)}, "must be"),
        ({"folds": np.zeros((1, 1), np.int16)}, "folds"),
        ({"readouts": ("a",) * 30}, "listed twice"),
    ],
)
def test_an_entry_whose_names_and_arrays_disagree_is_refused(small_screen, change, words):
    with pytest.raises(BoardError, match=words):
        Leaderboard([replace(small_screen[0], **change)])


def test_the_same_run_twice_is_refused(small_screen):
    with pytest.raises(BoardError, match="given twice"):
        Leaderboard([small_screen[0], small_screen[0]])


def test_progress_is_told_once_per_run(small_screen):
    told = []
    Leaderboard(small_screen, RULES, tick=lambda stage, done, total: told.append((stage, done, total)))
    assert told == [("testing readouts", done, 8) for done in range(1, 9)]


def test_the_order_of_the_runs_changes_nothing(small_screen, board):
    one, other = only(small_screen), only(small_screen[::-1])
    assert one.rows.equals(other.rows)
    assert one.notes == other.notes


def test_a_comparison_agrees_with_the_board_and_lists_every_readout(small_screen):
    a, b = by_name(small_screen, "mae"), by_name(small_screen, "stains")
    found = compare(a, b, RULES)
    board = only(small_screen)
    pair = board.pairs[(board.pairs["a"] == a.run) & (board.pairs["b"] == b.run)].iloc[0]
    assert found.overall.difference == pytest.approx(pair["difference"])
    assert found.overall.verdict == pair["verdict"] == "better"
    assert found.readouts["readout"].tolist() == list(a.readouts)
    assert found.readouts["difference"].mean() == pytest.approx(found.overall.difference)
    mirrored = compare(b, a, RULES)
    swap = {"better": "worse", "worse": "better", "tied": "tied"}
    assert mirrored.readouts["verdict"].tolist() == [swap[v] for v in found.readouts["verdict"]]


def test_the_same_errors_are_said_to_be_the_same(small_screen):
    entry = by_name(small_screen, "stains")
    other = replace(entry, run="copy", label="copy")
    pair = Pair(entry, other, compare(entry, other), Rules())
    assert pair.conclusion() == "stains and copy made the same errors: there is nothing to tell apart."


def test_a_comparison_aligns_readouts_and_perturbations_by_name(small_screen):
    a, b = by_name(small_screen, "mae"), by_name(small_screen, "stains")
    rows, columns = np.arange(120)[::-1], np.random.default_rng(0).permutation(30)
    shuffled = replace(
        b,
        perturbations=tuple(b.perturbations[i] for i in rows),
        readouts=tuple(b.readouts[g] for g in columns),
        e=b.e[:, rows][:, :, columns],
        e0=b.e0[:, rows][:, :, columns],
        folds=b.folds[:, rows],
    )
    one, other = compare(a, b, RULES), compare(a, shuffled, RULES)
    assert other.overall.standard_error == pytest.approx(one.overall.standard_error)
    np.testing.assert_allclose(one.readouts["p"], other.readouts["p"])


def test_a_comparison_is_over_the_cells_both_have(small_screen):
    a, b = by_name(small_screen, "mae"), by_name(small_screen, "stains")
    e = b.e.copy()
    e[0, :5, :7] = np.nan
    gapped = compare(a, replace(b, e=e), RULES)
    both = a.e.copy()
    both[0, :5, :7] = np.nan
    assert gapped.skill_a == pytest.approx(summands(both, a.e0, a.folds).skill)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer": "proteins"}, "readout layer differs"),
        ({"readouts": tuple(f"x{i}" for i in range(30))}, "share no readout"),
        ({"e0": None}, "different floors"),
        ({"folds": None}, "tested perturbations in different ones"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(small_screen, change, words):
    b = small_screen[2]
    change = {key: (getattr(b, key)[:, ::-1] if value is None else value) for key, value in change.items()}
    with pytest.raises(BoardError, match=words):
        compare(small_screen[0], replace(b, **change), RULES)


def test_every_decided_pair_has_posterior_probabilities_that_agree_with_its_verdict(board):
    pairs = board.pairs
    assert (pairs[["p_worse", "p_same", "p_better"]].sum(axis=1) - 1).abs().max() < 1e-12
    assert (pairs.loc[pairs["verdict"] == "better", "p_better"] > 0.5).all()
    tied = pairs[(pairs["a"] == "run-vits-imagenet") | (pairs["b"] == "run-vits-imagenet")]
    tied = tied[(tied["a"] == "run-mae") | (tied["b"].str.startswith("run-mae["))]
    assert (tied["p_same"] > tied["p_worse"]).all()


def test_families_of_readouts_are_tested_over_ranked_entrants(small_screen):
    own = Leaderboard(small_screen, RULES).boards[0]
    families = Leaderboard(small_screen, replace(RULES, families="readouts")).boards[0]
    entrants = [entry.run for entry in small_screen if entry.role == "entrant"]
    p = own.readouts.pivot_table(index="run", columns="readout", values="p").loc[entrants]
    expected = hierarchical(p.to_numpy(), RULES.q)
    found = families.readouts.pivot_table(index="run", columns="readout", values="predictable").loc[entrants]
    np.testing.assert_array_equal(found.to_numpy() > 0, expected)
    controls = families.rows[families.rows["role"] == "control"].set_index("run")["predictable"]
    assert controls.equals(own.rows[own.rows["role"] == "control"].set_index("run")["predictable"])


def test_skill_is_shown_as_a_share_of_the_noise_ceiling_over_readouts_that_have_one(small_screen):
    ceiling = np.linspace(0.2, 0.8, 30)
    ceiling[:6] = np.nan
    names = small_screen[0].readouts
    stated = pd.DataFrame({"readout": names, "stratum": "all", "noise_ceiling": ceiling})
    other = pd.DataFrame({"readout": names, "stratum": "dose=1", "noise_ceiling": 0.01})
    board = only([replace(e, scores=pd.concat([other, stated])) for e in small_screen])
    own = board.readouts[board.readouts["run"] == by_name(small_screen, "mae").run]
    expected = own["skill"][6:].mean() / ceiling[6:].mean()
    assert row(board, "mae[")["share_of_ceiling"] == pytest.approx(expected)
    assert row(board, "mae[")["noise_ceiling"] == pytest.approx(ceiling[6:].mean())
    assert not any("noise ceiling" in note for note in board.notes)
    none = only([replace(e, scores=stated.assign(noise_ceiling=np.nan)) for e in small_screen])
    assert none.rows["share_of_ceiling"].isna().all()
    assert any(note.startswith("No noise ceiling") for note in none.notes)
    assert only(small_screen).rows["noise_ceiling"].isna().all()


def without_a_well(entry, perturbations, **changes):
    """The run as it is scored when a well of each of these perturbations has no prediction."""
    e, e0 = entry.e.copy(), entry.e0.copy()
    e[:, perturbations] *= 0.3
    e0[:, perturbations] *= 1.4  # the floor of the wells that are left
    return replace(entry, e=e, e0=e0, **{"coverage": 1 - len(perturbations) / 480} | changes)


def test_entrants_that_lack_a_well_are_ranked_over_the_perturbations_that_all_have(small_screen):
    others = [e for e in small_screen if e.name not in ("mae", "stains")]
    mae = without_a_well(by_name(small_screen, "mae"), [3, 40])
    lost = np.array(by_name(small_screen, "stains").e)
    lost[:, 7] = np.nan  # its only well
    stains = replace(by_name(small_screen, "stains"), e=lost, coverage=0.99)
    board = only([*others, mae, stains])
    rest = [i for i in range(120) if i not in (3, 7, 40)]
    a, b = (
        summands(e.e[:, rest], e.e0[:, rest], e.folds[:, rest])
        for e in (by_name(small_screen, "vits-imagenet"), mae)
    )
    assert row(board, "vits-imagenet")["skill"] == pytest.approx(a.skill)
    assert row(board, "mae[")["skill"] == pytest.approx(b.skill)
    pair = board.pairs[board.pairs["a"].isin([mae.run]) | board.pairs["b"].isin([mae.run])]
    pair = pair[(pair["a"] == "run-vits-imagenet") | (pair["b"] == "run-vits-imagenet")].iloc[0]
    expected = decide(a, b, margin=0.01)
    assert abs(pair["difference"]) == pytest.approx(abs(expected.difference))
    assert pair["p"] == pytest.approx(expected.p)
    assert board.rows.set_index("name").loc[["mae", "stains"], "rank"].notna().all()
    assert (board.rows["perturbations"] == 117).all()
    (note,) = [n for n in board.notes if n.startswith("Left out of all scores")]
    assert note.endswith(": cpd003, cpd007, cpd040.")
    assert "stains" in note


def test_the_best_run_without_the_hardest_perturbations_gains_nothing(small_screen):
    twin = by_name(small_screen, "stains")
    hardest = np.argsort(-twin.e.mean(axis=(0, 2)))[:5]
    e = twin.e.copy()
    e[:, hardest] = np.nan
    picky = replace(twin, run="picky", label="picky", name="picky", e=e, coverage=0.96)
    board = only([*small_screen, picky])
    assert row(board, "picky")["skill"] == row(board, "stains")["skill"]
    assert row(board, "picky")["ties"] == row(board, "stains")["ties"]


def test_too_many_gaps_or_no_run_that_has_all_leave_an_entrant_unranked(small_screen):
    wide = without_a_well(by_name(small_screen, "mae"), list(range(8)), coverage=0.97)
    board = only([*[e for e in small_screen if e.name != "mae"], wide])
    assert row(board, "mae[")["unranked"].startswith("it was partly run")
    assert (board.rows.loc[board.rows["name"] != "mae", "perturbations"] == 120).all()
    alone = only([without_a_well(by_name(small_screen, "mae"), [3])])
    assert alone.rows["rank"].isna().all()


@pytest.mark.parametrize("place", [0, 99])
def test_the_order_of_runs_does_not_decide_whether_an_entrant_with_a_gap_is_ranked(small_screen, place):
    others = [e for e in small_screen if e.name != "mae" and e.role != "permuted"]
    twin = by_name(small_screen, "stains")
    mixed = np.random.default_rng(0).permutation(len(twin.perturbations))
    permuted = replace(twin, run="permuted", role="permuted", e=twin.e[:, mixed], e0=twin.e0[:, mixed])
    entries = [*others, without_a_well(by_name(small_screen, "mae"), [3, 40])]
    entries.insert(place, permuted)
    assert row(only(entries), "mae[")["unranked"] == ""
