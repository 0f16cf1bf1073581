"""Measured against predicted values of single readouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from leaderboard.figures.base import Figure
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
    if board.metric != "skill":
        return Absent(title, "the readouts of this board are classes; see the levels of AUC")
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
