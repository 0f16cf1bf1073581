"""Mean skill of a board's runs in parts: by layer, stratum of the scores, set of readouts, or activity.

Over a part of the readouts every run still has its errors per repeat, fold and perturbation, so the interval
is that of the board (D2 over these readouts). Parts of the perturbations (doses, activity bins) are points
with their number, and ``note`` says why they have no interval.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leaderboard.decide import skill_interval
from leaderboard.folded import summands_of_folds
from leaderboard.schema import BoardError, Entry
from leaderboard.summands import summands
from leaderboard.tables.naming import labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leaderboard.board import Board

SHOWN = ("entrant", "control", "ceiling")
COLUMNS = ["board", "stratum", "n", "of", "entrant", "role", "run", "skill", "low", "high", "note"]
LEAST_MEMBERS = 5
"""Readouts that a location or pathway needs to be a part of its own."""
FEW = (
    "Points without an interval: a part has fewer perturbations than the screens in which the intervals' "
    "error rates were measured"
)
"""Why a part of the perturbations has no interval."""
SCORES_ONLY = (
    "Points without an interval: of a stratum the run's scores keep one number per readout, no errors per "
    "perturbation"
)
"""Why a stratum of the scores has none."""
ESTIMANDS = {"skill": "r2", "ROC AUC": "roc_auc"}


def by_layer(boards: Sequence[Board]) -> pd.DataFrame:
    """Return the boards side by side: one part per board, as its rows have it."""
    rows = []
    for board in boards:
        names = labels(board)
        first = board.entries[0]
        for row in board.rows.itertuples(index=False):
            if row.role in SHOWN:
                own = (row.skill, row.skill_low, row.skill_high)
                part = (_family(board), first.layer, row.readouts, "readouts")
                rows.append((*part, names[str(row.run)], row.role, row.run, *own, ""))
    return pd.DataFrame(rows, columns=COLUMNS)


def by_score_stratum(board: Board) -> pd.DataFrame:
    """Return mean scores within the strata of the layer's ``score_by`` (doses, conditions): points.

    Raises
    ------
    BoardError
        When the scores hold no stratum.
    """
    names, rows = labels(board), []
    column = ESTIMANDS.get(board.metric, "score")
    for entry in _shown(board):
        scores = entry.scores
        if column not in scores or "stratum" not in scores:
            continue
        for stratum, own in scores[scores["stratum"] != "all"].groupby("stratum", sort=False):
            known = own[column].to_numpy(np.float64)
            known = known[np.isfinite(known)]
            size = int(own["n_perturbations"].max()) if "n_perturbations" in own else len(known)
            what = "perturbations" if "n_perturbations" in own else "readouts"
            mean = float(known.mean()) if len(known) else np.nan
            part = (board.title, str(stratum), size, what)
            rows.append((*part, names[entry.run], entry.role, entry.run, mean, np.nan, np.nan, SCORES_ONLY))
    if not rows:
        raise BoardError(
            f"{board.title}: its scores have no strata; set score_by of the layer in dataset.toml and run "
            "again"
        )
    return _ordered(rows)


def by_readouts(board: Board, parts: Mapping[str, frozenset[str]], what: str) -> pd.DataFrame:
    """Return mean skill over parts of the readouts with its interval, largest part first.

    Parameters
    ----------
    board
        The board.
    parts
        Name to readouts; a readout may stand in several. Those with fewer than :data:`LEAST_MEMBERS` on the
        board are left out.
    what
        What a part is, for the message.

    Raises
    ------
    BoardError
        When no part has enough readouts on this board.
    """
    names, rows = labels(board), []
    on_board = set(board.entries[0].readouts)
    sizes = {name: len(on_board & members) for name, members in parts.items()}
    kept = sorted((n for n in parts if sizes[n] >= LEAST_MEMBERS), key=lambda n: (-sizes[n], n))
    if not kept:
        known = sum(any(g in members for members in parts.values()) for g in on_board)
        raise BoardError(
            f"{board.title}: no {what} has {LEAST_MEMBERS} of its {len(on_board)} readouts ({known} are "
            "annotated); names must be those of the layer"
        )
    outside = len(on_board) - len(on_board & frozenset().union(*(parts[name] for name in kept)))
    note = f"{outside} of {len(on_board)} readouts stand in no {what} shown here" if outside else ""
    for name in kept:
        for entry in _shown(board):
            part = restrict(entry, parts[name])
            if part is None:
                continue
            own = (
                summands(part.e, part.e0, part.folds) if part.fold_values is None else summands_of_folds(part)
            )
            found = skill_interval(own, board.rules.level, measured=entry.variance_measured)
            part_of = (board.title, name, len(part.readouts), "readouts")
            values = (own.skill, found.low, found.high)
            rows.append((*part_of, names[entry.run], entry.role, entry.run, *values, note))
    return pd.DataFrame(rows, columns=COLUMNS)


def restrict(entry: Entry, readouts: frozenset[str]) -> Entry | None:
    """Return a run with these of its readouts only; None when it has none of them."""
    columns = [i for i, name in enumerate(entry.readouts) if name in readouts]
    if not columns:
        return None
    names = tuple(entry.readouts[i] for i in columns)
    if entry.fold_values is not None:
        return replace(entry, readouts=names, fold_values=entry.fold_values[:, :, columns])
    return replace(entry, readouts=names, e=entry.e[:, :, columns], e0=entry.e0[:, :, columns])


def by_activity(board: Board, activity: pd.Series, bins: int = 4, how: str = "") -> pd.DataFrame:
    """Return skill within bins of perturbations of equal size by activity, weakest first: points.

    Parameters
    ----------
    board
        A board of squared errors.
    activity
        Index: perturbation; values: any measure of its activity.
    bins
        Number of bins; fewer where many perturbations tie.
    how
        How activity was measured, one clause for the note.

    Raises
    ------
    BoardError
        For scores that exist per fold only, or when activity is known of too few perturbations.
    """
    found = within(board, activity_bins(board, activity, bins))
    return found.assign(note=f"Activity: {how}. {FEW}" if how else FEW)


def activity_bins(board: Board, activity: pd.Series, bins: int = 4) -> pd.Series:
    """Return the bin of every perturbation whose activity is known, weakest first; names say the range.

    Bins are of equal size but for ties, which share a bin; so there may be fewer.

    Raises
    ------
    BoardError
        When it is known of too few of the board's perturbations.
    """
    tested = set(board.entries[0].perturbations)
    known = activity.dropna()
    known = known[[str(name) in tested for name in known.index]].sort_values(kind="stable")
    if len(known) < 2 * bins:
        raise BoardError(
            f"{board.title}: activity is known of {len(known)} of its perturbations; {2 * bins} are needed"
        )
    # Equal values share a bin: their order is chance.
    place = (known.rank(method="average") - 0.5) * bins // len(known)
    cut = pd.factorize(place, sort=True)[0]
    count = int(cut.max()) + 1
    ends = [(known[cut == i].min(), known[cut == i].max()) for i in range(count)]
    names = [f"{i + 1} of {count} ({low:.2g} to {high:.2g})" for i, (low, high) in enumerate(ends)]
    return pd.Series([names[i] for i in cut], index=known.index.astype(str))


def within(board: Board, groups: pd.Series) -> pd.DataFrame:
    """Return skill over the perturbations of each group: 1 - sum e / sum e0 over the group's cells.

    The floor is that of the whole cross-validation; the mean is over readouts whose floor errs there.

    Parameters
    ----------
    board
        A board of squared errors.
    groups
        Index: perturbation; values: name of its group, in the order wanted. Others are left out.

    Raises
    ------
    BoardError
        For scores that exist per fold only.
    """
    if board.per_fold:
        raise BoardError(f"{board.title}: scores that exist per fold only have no part per perturbation")
    names, rows = labels(board), []
    for group in dict.fromkeys(groups):
        members = set(groups.index[groups == group].astype(str))
        for entry in _shown(board):
            inside = np.array([name in members for name in entry.perturbations])
            if not inside.any():
                continue
            own = summands(entry.e[:, inside], entry.e0[:, inside], entry.folds[:, inside])
            part = (board.title, str(group), int(inside.sum()), "perturbations")
            rows.append((*part, names[entry.run], entry.role, entry.run, own.skill, np.nan, np.nan, FEW))
    return pd.DataFrame(rows, columns=COLUMNS)


def _shown(board: Board) -> list[Entry]:
    return [entry for entry in board.entries if entry.role in SHOWN]


def _family(board: Board) -> str:
    first = board.entries[0]
    return f"{first.dataset} {first.dataset_version} · {first.task} · {first.protocol}"


def _ordered(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    """Rows with strata in order: by the number they end in where all do, else as met."""
    frame = pd.DataFrame(list(rows), columns=COLUMNS)
    value = pd.to_numeric(frame["stratum"].str.rpartition("=")[2], errors="coerce")
    met = frame["stratum"].map({name: i for i, name in enumerate(dict.fromkeys(frame["stratum"]))})
    order = (value if value.notna().all() else met).sort_values(kind="stable").index
    return frame.loc[order].reset_index(drop=True)
