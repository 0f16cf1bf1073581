"""Sentences under a board: what cannot be concluded, who is not ranked, which controls were not beaten."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from leaderboard.folded import AUC
from leaderboard.readouts import controls_of, noise_ceiling, twin
from leaderboard.render.cells import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from leaderboard.panel import Standing
    from leaderboard.rules import Rules
    from leaderboard.schema import Entry


LEVELS = (0.6, 0.7, 0.8, 0.9)
"""ROC AUC levels whose readouts are counted."""


def banner(entries: Sequence[Entry]) -> str:
    """Return the line above an optimistic board; empty for an honest protocol."""
    if not any(entry.optimistic for entry in entries):
        return ""
    return (
        f"OPTIMISTIC PROTOCOL ({entries[0].protocol}): perturbations stand in train and test, so these "
        "skills do not tell what is predicted for a new perturbation."
    )


def notes(
    placed: Sequence[Standing], rows: pd.DataFrame, pairs: pd.DataFrame, margin: float, rules: Rules
) -> list[str]:
    """Return the sentences of one board, the most important first."""
    label = _labels(rows)
    found = [
        *_conclusions(rows, pairs, label, placed[0].entry.metric),
        *_within_margin(pairs, label, margin, rules),
        *_effective(placed, rows, rules),
        *_unmeasured(placed),
        *_controls(placed, pairs, label),
        *_gaps(placed),
        *_unranked(rows),
        *_readouts(placed, rows, rules),
        *_levels(placed),
        *_ceiling(placed),
        *_against_random_orders(placed, rules),
        *_over_splits(placed),
    ]
    warnings = dict.fromkeys(warning for s in placed for warning in s.entry.warnings)
    return [*found, *warnings]


RESOLVABLE = "smallest difference of one pair alone, found in 4 of 5 such screens"


def _labels(rows: pd.DataFrame) -> dict[str, str]:
    """Name of each run in sentences: its label, with the head where labels repeat."""
    twice = rows["label"].duplicated(keep=False)
    full = rows["label"].where(~twice, rows["label"] + " (" + rows["head"] + ")")
    return dict(zip(rows["run"].astype(str), full.astype(str), strict=True))


def _conclusions(rows: pd.DataFrame, pairs: pd.DataFrame, label: dict[str, str], metric: str) -> list[str]:
    ranked = rows[rows["rank"].notna()]
    if len(ranked) == 0:
        return ["No entrant can be ranked."]
    if len(ranked) == 1:
        rivals = rows.loc[rows["role"] == "control", "run"]
        against = pairs[pairs["mdd80"].notna() & (pairs["a"].isin(rivals) | pairs["b"].isin(rivals))]
        told = (
            f"; {RESOLVABLE} against controls: {_span(against['mdd80'])} mean {metric}"
            if len(against)
            else ""
        )
        return [f"One entrant only: there is nothing to rank it against{told}."]
    between = pairs[pairs["p_holm"].notna()]
    if between.empty:
        return ["No pair of entrants can be decided."]
    if between["mdd80"].isna().all():
        return ["The ranked runs made the same errors: there is nothing to tell apart."]
    groups = _tie_groups(ranked, label)
    told = f"not told apart: {'; '.join(groups)}" if groups else f"all {len(ranked)} entrants are told apart"
    return [f"{RESOLVABLE[0].upper()}{RESOLVABLE[1:]}: {_span(between['mdd80'])} mean {metric}; {told}."]


def _span(values: pd.Series) -> str:
    low, high = number(values.min()), number(values.max())
    return low if low == high else f"{low}–{high}"


def _within_margin(pairs: pd.DataFrame, label: dict[str, str], margin: float, rules: Rules) -> list[str]:
    close = pairs[(pairs["p_holm"] <= rules.level) & (pairs["difference"].abs() <= margin)]
    return [
        f"{label[a]} leads {label[b]} by {difference:.3f}, resolved but within the margin {margin:g}: tied."
        for a, b, difference in zip(close["a"], close["b"], close["difference"], strict=True)
    ]


def _tie_groups(ranked: pd.DataFrame, label: dict[str, str]) -> list[str]:
    letters = dict.fromkeys("".join(ranked["ties"]))
    groups = [
        [label[run] for run, ties in zip(ranked["run"], ranked["ties"], strict=True) if letter in ties]
        for letter in letters
    ]
    return [" = ".join(group) for group in groups if len(group) > 1]


def _effective(placed: Sequence[Standing], rows: pd.DataFrame, rules: Rules) -> list[str]:
    if placed[0].entry.fold_values is not None:
        return []  # a rank statistic has no strong perturbations that carry it
    known = rows[rows["skill"].notna() & (rows["coverage"] >= 1)]
    if known.empty:
        return []
    number = int(known["perturbations"].max())
    effective = known.loc[known["perturbations"] == number, "effective_perturbations"].min()
    figure = f"Effective number of perturbations {effective:.0f} of {number}"
    if effective < rules.effective_minimum:
        few = number < 2 * effective
        why = "the screen has few" if few else "a few strong perturbations carry most of the floor's error"
        return [
            f"{figure}: not resolvable, {why}, and below {rules.effective_minimum:.0f} no test has much "
            "power."
        ]
    return [f"{figure}."]


def _unmeasured(placed: Sequence[Standing]) -> list[str]:
    entry = placed[0].entry
    if entry.variance_measured:
        return []
    return [
        f"No interval and no verdict, overall or per readout: error rates under {entry.protocol!r} have not "
        "been measured."
    ]


def _controls(placed: Sequence[Standing], pairs: pd.DataFrame, label: dict[str, str]) -> list[str]:
    """Say which controls, and whether the floor, a ranked entrant fails to beat by D1."""
    ranked = [s.entry for s in placed if not s.unranked]
    if not ranked:
        return []
    if not ranked[0].variance_measured:
        return _controls_as_points(placed, label)
    better = set(pairs.loc[pairs["verdict"] == "better", ["a", "b"]].itertuples(index=False, name=None))
    sentences = []
    if not any(s.entry.role == "control" for s in placed):
        sentences.append(
            "No control stands on this board: a skill may be cell count or plate position alone."
        )
    floors = [s for s in placed if s.entry.role == "floor" and s.comparable]
    for standing in (s for s in placed if not s.unranked):
        entry = standing.entry
        rivals = [s.entry for s in (*controls_of(standing, placed), *floors)]
        unbeaten = [r for r in rivals if (entry.run, r.run) not in better]
        if not unbeaten:
            continue
        verdict = "nothing shown beyond that"
        if any(rival.role == "floor" for rival in unbeaten):
            verdict = "nothing shown at all"
        elif any(rival.name == "cell-count" for rival in unbeaten):
            verdict = "nothing shown beyond the number of cells"
        names = ", ".join(label[rival.run] for rival in unbeaten)
        sentences.append(f"{label[entry.run]} does not beat {names}: {verdict}.")
    return sentences


def _controls_as_points(placed: Sequence[Standing], label: dict[str, str]) -> list[str]:
    """Say which controls score at least as high, where no test is to be had."""
    sentences = []
    for standing in (s for s in placed if not s.unranked):
        skill = standing.summands.skill
        rivals = [s.entry.run for s in controls_of(standing, placed) if s.summands.skill >= skill]
        if rivals:
            names = ", ".join(label[run] for run in rivals)
            sentences.append(
                f"{label[standing.entry.run]} scores no higher than {names} (points, not tested)."
            )
    return sentences


def _unranked(rows: pd.DataFrame) -> list[str]:
    shown = rows[(rows["role"] == "entrant") & (rows["unranked"] != "")]
    return [f"{row.label} is not ranked: {row.unranked}." for row in shown.itertuples()]


def _ceiling(placed: Sequence[Standing]) -> list[str]:
    """Say where a share of the noise ceiling cannot be given, and why."""
    stated = [s for s in placed if "noise_ceiling" in s.entry.scores]
    if not stated or any(np.isfinite(noise_ceiling(s.entry)).any() for s in stated):
        return []
    return ["No noise ceiling: too few perturbations have replicate measurements of their readouts."]


def _gaps(placed: Sequence[Standing]) -> list[str]:
    """Name the perturbations that the board leaves out because an entrant lacks units of them."""
    names = sorted({name for s in placed for name in s.gaps})
    if not names:
        return []
    who = ", ".join(dict.fromkeys(s.entry.label for s in placed if s.gaps))
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [f"Left out of all scores, because {who} could not be run on all of their units: {shown}."]


def _levels(placed: Sequence[Standing]) -> list[str]:
    """How many readouts of each ranked entrant, and of its permuted run, reach the levels of papers."""
    sentences = []
    for standing in (s for s in placed if not s.unranked and s.entry.metric == AUC):
        values = standing.summands.skill_by_readout[standing.summands.defined]
        other = twin(standing, placed)
        permuted = next((s.summands.skill_by_readout for s in placed if s.entry.run == other), None)
        reached = ", ".join(f"{int((values >= level).sum())} at least {level:g}" for level in LEVELS)
        if permuted is not None:
            chance = (str(int((permuted >= level).sum())) for level in LEVELS)
            reached += f" (with permuted labels {', '.join(chance)})"
        sentences.append(
            f"{standing.entry.label}: {standing.entry.metric} of {len(values)} readouts: {reached}; point "
            "estimates, which noise spreads."
        )
    return sentences


def _against_random_orders(placed: Sequence[Standing], rules: Rules) -> list[str]:
    """How many readouts of a ranked entrant beat random orders, where their scores were tested so."""
    sentences = []
    for entry in (s.entry for s in placed if not s.unranked):
        if not {"p", "q", "chance"} <= set(entry.scores.columns):
            continue
        own = entry.scores[(entry.scores["stratum"] == "all") & entry.scores["q"].notna()]
        found = int((own["q"] < rules.q).sum())
        sentence = (
            f"{entry.label}: {found} of {len(own)} readouts found better than in random orders, "
            f"q < {rules.q:g} within the run"
        )
        if "p_least" in own and len(own):
            best = float(own["p_least"].median())
            least = math.ceil(best * len(own) / rules.q)
            if found == 0 and least > 1:
                sentence += (
                    f"; with so few candidates a perfect score has p = {best:.2g}, so that fewer than "
                    f"{least} cannot be found and 0 does not mean none"
                )
        sentences.append(f"{sentence}.")
    return sentences


def _over_splits(placed: Sequence[Standing]) -> list[str]:
    """What the paper's own test says under random splits, where the scores have it; not our decision."""
    sentences = []
    for entry in (s.entry for s in placed if s.entry.role == "entrant"):
        scores = entry.scores
        if "p_wilcoxon" not in scores.columns:
            continue
        own = scores[(scores["stratum"] == "all") & scores["readout"].isin(entry.readouts)]
        found = []
        for name, test in (("Wilcoxon", "p_wilcoxon"), ("Mann-Whitney", "p_mann_whitney")):
            low, middle, high = ((own[test + end] < 0.05).sum() for end in ("_high", "", "_low"))
            found.append(f"{middle} ({low}–{high} over splits) by {name}")
        known, error = int(own["p_wilcoxon"].notna().sum()), own["error"].iloc[0]
        error = {"smape": "SMAPE", "absolute": "absolute error (SMAPE needs a non-negative scale)"}[error]
        sentences.append(
            f"{entry.label}, by the paper's uncorrected test of {error} over units, median p < 0.05 in "
            f"{' and '.join(found)} of {known} readouts; units of one perturbation are not independent."
        )
    return sentences


def _readouts(placed: Sequence[Standing], rows: pd.DataFrame, rules: Rules) -> list[str]:
    sentences = []
    # The smallest number over runs: what the data leave undefined, not what a failed run does.
    undefined, total = int(rows["readouts_undefined"].min()), int(rows["readouts"].max())
    if undefined and total:
        has, left = ("has", "is") if undefined == 1 else ("have", "are")
        metric, why = placed[0].entry.metric, "never observed, or the floor makes no error"
        if metric == AUC:
            why = "no tested fold has enough of both classes"
        elif placed[0].entry.fold_values is not None:
            why = "nothing could be right, or there is no feature"
        sentences.append(
            f"{undefined} of {undefined + total} readouts {has} no defined {metric} ({why}) and "
            f"{left} left out of means."
        )
    least = math.ceil(total / (rules.q * (rules.flips + 1)))
    if (
        placed[0].entry.fold_values is None
        and least > 1
        and (rows.loc[rows["rank"].notna(), "predictable"] == 0).any()
    ):
        sentences.append(
            f"With {rules.flips} sign-flips over {total} readouts, fewer than {least} predictable ones "
            "cannot be found; 0 does not mean none."
        )
    sentences += [
        f"{s.entry.label} is left out of beyond-controls: {s.unranked}."
        for s in placed
        if s.entry.role == "control" and s.unranked != "control"
    ]
    selections = [s.entry.facts.get("panel_selected_by") for s in placed]
    chosen = {str(selection) for selection in selections if selection}
    if chosen:
        sentences.append(
            f"The readouts were selected by a score ({', '.join(sorted(chosen))}): skills are those of a "
            "selected panel, not of the layer."
        )
    if not np.isfinite(rows["skill"]).any():
        sentences.append("No run has a defined score.")
    return sentences
