"""Skill within strata: doses, conditions, and perturbations by how active they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import altair as alt

from leaderboard.figures.base import Figure, named_axis, scale_of, shape_of
from leaderboard.schema import BoardError
from leaderboard.strata import FEW, SCORES_ONLY, by_score_stratum
from leaderboard.strata import by_activity as activity_parts
from leaderboard.tables.naming import Absent, metric_title

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.board import Board

NUMBER = re.compile(r"=\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)$")


def by_stratum(board: Board) -> Figure | Absent:
    """Mean score of every run in the strata that the scores hold (``score_by`` of the layer)."""
    title = "Skill by condition or dose"
    try:
        data = _points(by_score_stratum(board))
    except BoardError:
        return Absent(title, "the layer's score_by names no column, so no score was computed within strata")
    if data.empty:
        return Absent(title, "no score is defined within the strata")
    caption = f"Mean over readouts of the score within each stratum of the layer's score_by. {SCORES_ONLY}."
    return profile(data, metric_title(board), "strata", title, caption)


def _points(parts: pd.DataFrame) -> pd.DataFrame:
    """Parts of a board as :func:`profile` draws them."""
    columns = {"skill": "score", "n": "number"}
    wanted = ["entrant", "stratum", "score", "number", "of"]
    return parts.rename(columns=columns)[wanted].dropna(subset="score").reset_index(drop=True)


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
    try:
        data = _points(activity_parts(board, activity, bins))
    except BoardError as error:
        return Absent(title, str(error).removeprefix(f"{board.title}: "))
    if data.empty:
        return Absent(title, "no run has a defined score within the groups")
    names = list(dict.fromkeys(data["stratum"]))
    caption = (
        f"Perturbations in {bins} groups of equal size by activity, weakest first, each with its range: "
        f"{what}. Mean skill over readouts within each group; the floor is the training mean of all "
        f"perturbations. {FEW}."
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
            tooltip=["entrant:N", "stratum:N", "number:Q", alt.Tooltip("score:Q", format=".3f")],
        )
        .properties(width="container", height=260)
    )
    return Figure("activity", title, caption, chart, data)
