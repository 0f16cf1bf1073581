"""Skill within strata: doses, conditions, and perturbations by how active they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd

from leaderboard.figures.base import Figure, named_axis, scale_of, shape_of
from leaderboard.figures.readouts import scores_by_stratum
from leaderboard.tables.naming import Absent, labels, metric_title

if TYPE_CHECKING:
    from leaderboard.board import Board

NUMBER = re.compile(r"=\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)$")


def by_stratum(board: Board) -> Figure | Absent:
    """Mean score of every run in the strata that the scores hold (``score_by`` of the layer)."""
    names = labels(board)
    parts = []
    for entry in board.entries:
        if entry.role in ("floor", "permuted"):
            continue
        for stratum, scores in scores_by_stratum(entry, board.metric).items():
            known = scores[np.isfinite(scores)]
            parts.append((names[entry.run], stratum, known.mean() if len(known) else np.nan))
    title = "Skill by condition or dose"
    data = pd.DataFrame(parts, columns=["entrant", "stratum", "score"]).dropna()
    if data.empty:
        return Absent(title, "the layer's score_by names no column, so no score was computed within strata")
    return profile(
        data,
        metric_title(board),
        "strata",
        title,
        "Mean over readouts of the score within each stratum of the layer's score_by.",
    )


def profile(data: pd.DataFrame, y_title: str, name: str, title: str, caption: str) -> Figure:
    """Draw one line per entrant over strata; numeric ones (``dose=3``) stand on a logarithmic axis.

    Parameters
    ----------
    data
        ``entrant``, ``stratum``, ``score``; further columns are kept as data.
    """
    doses = data["stratum"].str.extract(NUMBER)[0].astype(float)
    order = list(dict.fromkeys(data["entrant"]))
    colour = alt.Color("entrant:N", sort=order, scale=scale_of(order), legend=alt.Legend(labelLimit=180))
    shape = alt.Shape("entrant:N", sort=order, scale=shape_of(order))
    y = alt.Y("score:Q", title=y_title)
    tips = ["entrant:N", "stratum:N", alt.Tooltip("score:Q", format=".3f")]
    if doses.notna().all() and (doses > 0).all():
        data = data.assign(value=doses)
        what = data["stratum"].iloc[0].split("=")[0].replace("Metadata_", "").lower()
        x = alt.X(
            "value:Q",
            title=f"{what}, in the data's unit (log)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=sorted(set(doses))),
        )
        base = alt.Chart(data).encode(x=x, y=y, color=colour)
        chart = base.mark_line() + base.mark_point(filled=True, size=60, opacity=1).encode(
            shape=shape, tooltip=tips
        )
    else:
        strata = list(dict.fromkeys(data["stratum"]))
        chart = (
            alt.Chart(data)
            .mark_point(filled=True, size=60, opacity=1)
            .encode(
                x=alt.X("stratum:N", sort=strata, axis=named_axis(labelAngle=-30)),
                y=y,
                color=colour,
                shape=shape,
                tooltip=tips,
            )
        )
    return Figure(name, title, caption, chart.properties(width="container", height=260), data)


def skill_in_groups(board: Board, groups: pd.Series) -> pd.DataFrame:
    """Mean skill of every run over perturbations of one group: ``entrant``, ``stratum``, ``score``.

    Within a group the skill of a readout is 1 - sum e / sum e0 over the group's cells, the floor being that
    of the whole cross-validation; the mean is over readouts whose floor errs there.

    Parameters
    ----------
    groups
        Index: perturbation; values: name of its group. Perturbations without one are left out.
    """
    names = labels(board)
    rows = []
    for entry in board.entries:
        if entry.role in ("floor", "permuted") or entry.fold_values is not None:
            continue
        group = groups.reindex(list(entry.perturbations))
        for name in dict.fromkeys(groups):
            inside = (group == name).to_numpy()
            if not inside.any():
                continue
            e, e0 = entry.e[:, inside], entry.e0[:, inside]
            both = np.isfinite(e) & np.isfinite(e0)
            total = np.where(both, e0, 0.0).sum(axis=(0, 1), dtype=np.float64)
            own = np.where(both, e, 0.0).sum(axis=(0, 1), dtype=np.float64)
            known = total > 0
            score = float((1 - own[known] / total[known]).mean()) if known.any() else np.nan
            rows.append((names[entry.run], str(name), score, int(inside.sum())))
    return pd.DataFrame(rows, columns=["entrant", "stratum", "score", "perturbations"])


def by_activity(board: Board, activity: pd.Series, what: str, bins: int = 4) -> Figure | Absent:
    """Skill against the phenotypic activity of the perturbation, in bins of equal size.

    Parameters
    ----------
    activity
        Index: perturbation; values: how far it moves the images away from negative controls.
    what
        How activity was measured, one clause.
    """
    title = "Skill by phenotypic activity of the perturbation"
    if board.entries[0].fold_values is not None:
        return Absent(title, "scores that exist per fold only have no part per perturbation")
    known = activity.dropna().sort_values(kind="stable")
    if len(known) < 2 * bins:
        return Absent(title, f"activity is known of {len(known)} perturbations; {2 * bins} are needed")
    cut = np.arange(len(known)) * bins // len(known)
    names = [
        f"{i + 1} of {bins}" + (" (weakest)", "", " (strongest)")[(i > 0) + (i == bins - 1)]
        for i in range(bins)
    ]
    groups = pd.Series([names[i] for i in cut], index=known.index)
    data = skill_in_groups(board, groups)
    if data["score"].isna().all():
        return Absent(title, "no run has a defined score within the groups")
    caption = (
        f"Perturbations in {bins} groups of equal size by activity: {what}. Mean skill over readouts within "
        "each group; the floor is the training mean of all perturbations."
    )
    order = list(dict.fromkeys(data["entrant"]))
    chart = (
        alt.Chart(data)
        .mark_line(point=alt.OverlayMarkDef(size=60, filled=True))
        .encode(
            x=alt.X("stratum:N", sort=names, axis=named_axis(labelAngle=0, title="group by activity")),
            y=alt.Y("score:Q", title=metric_title(board)),
            color=alt.Color(
                "entrant:N", sort=order, scale=scale_of(order), legend=alt.Legend(labelLimit=180)
            ),
            tooltip=["entrant:N", "stratum:N", "perturbations:Q", alt.Tooltip("score:Q", format=".3f")],
        )
        .properties(width="container", height=260)
    )
    return Figure("activity", title, caption, chart, data)
