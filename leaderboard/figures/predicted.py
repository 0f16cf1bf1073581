"""Measured against predicted values of single readouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from leaderboard.figures.base import OKABE_ITO, Figure, named_axis
from leaderboard.folded import AUC
from leaderboard.tables.naming import Absent, labels

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.board import Board

SHOWN = 6
"""Readouts in the figure; every readout of the panel can be opened in the search."""
COLUMNS = 3


def measured_against_predicted(board: Board, predictions: pd.DataFrame | None) -> Figure | Absent:
    """Out-of-fold predictions of the leading entrant on the first readouts of the panel.

    Parameters
    ----------
    predictions
        ``run``, ``readout``, ``unit``, ``measured``, ``predicted``.
    """
    title = "Measured against predicted"
    if board.metric not in ("skill", AUC):
        return Absent(title, "this task predicts no value per unit")
    if predictions is None or predictions.empty:
        return Absent(title, "no predictions were given with this board")
    names = labels(board)
    run = next(
        (e.run for e in board.entries if e.role == "entrant" and (predictions["run"] == e.run).any()), None
    )
    if run is None:
        return Absent(title, "no entrant has stored predictions")
    own = predictions[predictions["run"] == run]
    shown = list(dict.fromkeys(own["readout"]))[:SHOWN]
    data = own[own["readout"].isin(shown)][["readout", "unit", "measured", "predicted"]].reset_index(
        drop=True
    )
    if board.metric == AUC:
        return _by_class(data, shown, title, names[run])
    chart = (
        alt.Chart(data)
        .mark_point(filled=True, size=16, opacity=0.5, color="#0072B2")
        .encode(
            x=alt.X("measured:Q", title="measured, in the layer's unit", scale=alt.Scale(zero=False)),
            y=alt.Y("predicted:Q", title="predicted", scale=alt.Scale(zero=False)),
            tooltip=[
                "unit:N",
                alt.Tooltip("measured:Q", format=".3f"),
                alt.Tooltip("predicted:Q", format=".3f"),
            ],
        )
        .properties(width=240, height=170)
        .facet(
            alt.Facet("readout:N", sort=shown, title=None, header=alt.Header(labelLimit=240)), columns=COLUMNS
        )
        .resolve_scale(x="independent", y="independent")
    )
    caption = (
        f"{names[run]}: predictions for units of perturbations that the model had not seen, first repeat; "
        "the best and the worst readouts, and those named. Every unit once."
    )
    return Figure("predicted", title, caption, chart, data, wide=True)


def _by_class(data: pd.DataFrame, shown: list[str], title: str, name: str) -> Figure:
    """Predicted scores of the units of either class, each a tick."""
    data = data.assign(call=data["measured"].map({0.0: "not called", 1.0: "called"}))
    chart = (
        alt.Chart(data)
        .mark_tick(thickness=2, opacity=0.6)
        .encode(
            x=alt.X("predicted:Q", title="predicted score", scale=alt.Scale(zero=False)),
            y=alt.Y("call:N", sort=["called", "not called"], axis=named_axis()),
            color=alt.Color(
                "call:N",
                title="measured",
                scale=alt.Scale(domain=["called", "not called"], range=[OKABE_ITO[1], OKABE_ITO[0]]),
            ),
            tooltip=["unit:N", "call:N", alt.Tooltip("predicted:Q", format=".3f")],
        )
        .properties(width=240, height=60)
        .facet(
            alt.Facet("readout:N", sort=shown, title=None, header=alt.Header(labelLimit=240)), columns=COLUMNS
        )
        .resolve_scale(x="independent")
    )
    caption = (
        f"{name}: predicted scores of units of perturbations that the model had not seen, by what was "
        "measured; first repeat, whose folds are models of their own; the best and the worst readouts, and "
        "those named. Units without a call are left out."
    )
    return Figure("predicted", title, caption, chart, data, wide=True)
