"""Figures of annotation: scores by location, and the forest plot of what goes with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd

from leaderboard.explain.forest import associations
from leaderboard.figures.base import Figure, by_rows, named_axis
from leaderboard.schema import BoardError
from leaderboard.tables.naming import Absent, labels, metric_title

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leaderboard.board import Board

GROUPS = 8
"""Locations shown, the largest ones (Image2Omics)."""
EACH_SIDE = 5
"""Pathways shown at each side of the forest plot."""
FEWEST = 3
"""Readouts that a location needs to be drawn."""


def scores_of(board: Board, run: str) -> pd.Series:
    """Index: readout; values: score of one run."""
    own = board.readouts[board.readouts["run"] == run]
    return pd.Series(own["skill"].to_numpy(np.float64), index=own["readout"].astype(str))


def by_location(board: Board, run: str, locations: pd.DataFrame) -> Figure | Absent:
    """Score over the readouts of each of the largest locations: median, quartiles, every readout a tick."""
    title = f"Score by location: {labels(board)[run]}"
    scores = scores_of(board, run)
    here = locations[locations["readout"].isin(scores.index)]
    data = here.assign(score=here["readout"].map(scores)).dropna(subset=["score"])
    sizes = data["location"].value_counts()
    shown = sizes[sizes >= FEWEST].index[:GROUPS]
    missing = int((~scores.index.isin(locations["readout"])).sum())
    if not len(shown):
        return Absent(
            title,
            f"{missing} of {len(scores)} readouts have no location in the table, and no "
            f"location has {FEWEST} of the others",
        )
    data = data[data["location"].isin(shown)].reset_index(drop=True)
    order = data.groupby("location")["score"].median().sort_values(ascending=False).index.tolist()
    by = data.groupby("location")["score"]
    quartiles = pd.DataFrame({"q25": by.quantile(0.25), "median": by.median(), "q75": by.quantile(0.75)})
    box = quartiles.assign(readouts=data["location"].value_counts()).reset_index()
    y = alt.Y("location:N", sort=order, axis=named_axis())
    ticks = data if len(data) <= 3000 else data.sample(3000, random_state=0).sort_index()
    chart = (
        alt.Chart(ticks)
        .mark_tick(opacity=0.35, color="#0072B2")
        .encode(
            x=alt.X("score:Q", title=metric_title(board, "")),
            y=y,
            tooltip=["readout:N", "location:N", alt.Tooltip("score:Q", format=".3f")],
        )
        + alt.Chart(box).mark_rule(strokeWidth=4, color="#E69F00").encode(x="q25:Q", x2="q75:Q", y=y)
        + alt.Chart(box)
        .mark_point(filled=True, size=80, color="#D55E00", opacity=1)
        .encode(
            x="median:Q",
            y=y,
            tooltip=["location:N", "readouts:Q", alt.Tooltip("median:Q", format=".3f")],
        )
    )
    caption = (
        f"The {len(order)} largest locations by median; the thick line holds the middle half, ticks are "
        f"readouts (a readout may have several locations). {missing} of {len(scores)} readouts have no "
        "location in the table and are not drawn."
    )
    chart = chart.properties(width="container", height=by_rows(order))
    return Figure("locations", title, caption, chart, data)


def forest(
    board: Board,
    run: str,
    locations: pd.DataFrame | None,
    pathways: Mapping[str, frozenset[str]] | None,
    abundance: pd.Series | None,
) -> Figure | Absent:
    """Coefficients of :func:`leaderboard.explain.forest.associations` with their intervals."""
    title = f"What goes with the score: {labels(board)[run]}"
    try:
        table, remarks = associations(scores_of(board, run), locations, pathways, abundance)
    except BoardError as error:
        return Absent(title, str(error).rstrip("."))
    ordered = table[table["kind"] == "pathway"].sort_values("coefficient", ascending=False)
    ends = pd.concat([ordered.head(EACH_SIDE), ordered.iloc[EACH_SIDE:].tail(EACH_SIDE)])
    shown = pd.concat([table[table["kind"] != "pathway"].sort_values("coefficient", ascending=False), ends])
    shown = shown.reset_index(drop=True)
    y = alt.Y("property:N", sort=shown["property"].tolist(), axis=named_axis())
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=["location", "pathway", "abundance"], range=["#0072B2", "#009E73", "#E69F00"]),
    )
    x_title = f"change of {board.metric} (coefficient)"
    base = alt.Chart(shown)
    chart = (
        alt.Chart(pd.DataFrame({"at": [0]})).mark_rule(strokeDash=[4, 3], color="#888888").encode(x="at:Q")
        + base.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", title=x_title), x2="high:Q", y=y, color=colour
        )
        + base.mark_point(filled=True, size=60, opacity=1).encode(
            x=alt.X("coefficient:Q", title=x_title),
            y=y,
            color=colour,
            shape=alt.Shape("kind:N", scale=alt.Scale(domain=["location", "pathway", "abundance"])),
            tooltip=[
                "property:N",
                "members:Q",
                *(alt.Tooltip(f"{c}:Q", format=".3f") for c in ("coefficient", "low", "high")),
            ],
        )
    )
    said = "; ".join(remarks)
    caption = (
        "Ordinary least squares over readouts of location, pathway and mean abundance together, 95 % "
        "intervals that take readouts as independent, which they are not: they rank associations and prove "
        f"none. Shown: every location and abundance, and {EACH_SIDE} pathways at each end."
        + (f" {said}." if said else "")
    )
    chart = chart.properties(width="container", height=by_rows(shown["property"].tolist(), 20))
    return Figure("forest", title, caption, chart, shown)
