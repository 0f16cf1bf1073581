"""Figures of a whole board: skills with their intervals, who beats whom, cost against quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd

from leaderboard.figures.base import ROLES, VERDICTS, Figure, by_rows, named_axis, shape_of
from leaderboard.tables.naming import Absent, floor_value, labels, metric_title

if TYPE_CHECKING:
    from leaderboard.board import Board

FLIPPED = {"better": "worse", "worse": "better"}


def intervals(board: Board) -> Figure | Absent:
    """Mean skill of every run with its interval (D2)."""
    title = f"Mean {board.metric} and its interval"
    rows = board.rows
    names = labels(board)
    data = pd.DataFrame(
        {
            "entrant": [names[run] for run in rows["run"]],
            "role": rows["role"],
            "skill": rows["skill"],
            "low": rows["skill_low"],
            "high": rows["skill_high"],
        }
    )
    data = data[np.isfinite(data["skill"])].reset_index(drop=True)
    if data.empty:
        return Absent(title, "no run has a defined score")
    order = data["entrant"].tolist()
    y = alt.Y("entrant:N", sort=order, axis=named_axis())
    present = [role for role in ROLES if role in set(data["role"])]
    colour = alt.Color("role:N", title="role", scale=_roles(present))
    chart = alt.Chart(data)
    spans = (
        alt.Chart(_with_interval(data))
        .mark_rule(strokeWidth=2)
        .encode(
            x=alt.X(
                "low:Q", title=metric_title(board), scale=alt.Scale(zero=board.metric == "skill", nice=True)
            ),
            x2="high:Q",
            y=y,
            color=colour,
        )
    )
    points = chart.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("skill:Q", title=metric_title(board)),
        y=y,
        color=colour,
        shape=alt.Shape("role:N", title="role", scale=shape_of(present)),
        tooltip=[
            alt.Tooltip("entrant:N"),
            alt.Tooltip("role:N"),
            *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("skill", "low", "high")),
        ],
    )
    nothing = (
        alt.Chart(pd.DataFrame({"floor": [floor_value(board)]}).dropna())
        .mark_rule(strokeDash=[4, 3], color="#888888")
        .encode(x="floor:Q")
    )
    level = 100 * (1 - board.rules.level)
    lines = f"lines: {level:g} % interval of the procedure's expected value"
    if not len(_with_interval(data)):
        lines = "no interval, because error rates under this protocol have not been measured"
    caption = (
        f"Points: mean {board.metric} over readouts; {lines}. Dashed: what the floor scores. Overlapping "
        "intervals do not decide a pair: see the comparison of every pair."
    )
    layers = [nothing, spans, points] if len(_with_interval(data)) else [nothing, points]
    whole = alt.layer(*layers).properties(width="container", height=by_rows(order))
    return Figure("intervals", title, caption, whole, data)


def matrix(board: Board) -> Figure | Absent:
    """Every decided pair: difference, verdict, and the chances of worse, same and better where known."""
    title = "Comparison of every pair"
    pairs = board.pairs[board.pairs["difference"].notna()]
    if pairs.empty:
        return Absent(title, "fewer than two runs of this board can be compared")
    names = labels(board)
    chances = [c for c in ("p_worse", "p_same", "p_better") if c in pairs and pairs[c].notna().all()]
    records = []
    for pair in pairs.to_dict("records"):
        mirrored = {"p_worse": "p_better", "p_better": "p_worse", "p_same": "p_same"}
        own = {c: pair[c] for c in chances}
        records.append(
            {"row": names[pair["a"]], "against": names[pair["b"]], "difference": pair["difference"]}
            | {"verdict": pair["verdict"]}
            | own
        )
        records.append(
            {"row": names[pair["b"]], "against": names[pair["a"]], "difference": -pair["difference"]}
            | {"verdict": FLIPPED.get(pair["verdict"], pair["verdict"])}
            | {c: pair[mirrored[c]] for c in chances}
        )
    data = pd.DataFrame(records)
    order = [names[run] for run in board.rows["run"] if names[run] in set(data["row"])]
    base = alt.Chart(data).encode(
        x=alt.X("against:N", sort=order, axis=named_axis(labelAngle=-40, title="column", labelLimit=120)),
        y=alt.Y("row:N", sort=order, axis=named_axis(title="row")),
    )
    cells = base.mark_rect(stroke="#ffffff", strokeWidth=1, opacity=1).encode(
        color=alt.Color(
            "verdict:N",
            title="row against column",
            scale=alt.Scale(domain=list(VERDICTS), range=list(VERDICTS.values())),
        ),
        tooltip=[
            alt.Tooltip("row:N"),
            alt.Tooltip("against:N"),
            alt.Tooltip("difference:Q", format="+.3f"),
            alt.Tooltip("verdict:N"),
            *(alt.Tooltip(f"{c}:Q", format=".2f", title=c.replace("p_", "P ")) for c in chances),
        ],
    )
    shown = base.mark_text(fontSize=11, dy=-5 if chances else 0).encode(
        text=alt.Text("difference:Q", format="+.3f"),
        color=alt.condition("datum.verdict !== 'better'", alt.value("#111"), alt.value("#fff")),
    )
    layers = cells + shown
    tail = ""
    if chances:
        layers += base.mark_text(fontSize=9, dy=8).encode(
            text=alt.Text("p_better:Q", format=".2f"),
            color=alt.condition("datum.verdict !== 'better'", alt.value("#111"), alt.value("#fff")),
        )
        tail = (
            f" Below it the probability that the row is better by more than {board.entries[0].margin:g}; "
            "worse and the same are in the tooltip and in the data."
        )
    caption = f"Row minus column, mean {board.metric}; the colour is the verdict (better, worse, tied).{tail}"
    return Figure("matrix", title, caption, layers.properties(width=alt.Step(58), height=alt.Step(34)), data)


def cost(board: Board) -> Figure | Absent:
    """Mean skill against the time an entrant took, features and heads together."""
    title = "Cost against quality"
    rows = board.rows[board.rows["role"].isin(("entrant", "control"))]
    rows = rows[np.isfinite(rows["skill"]) & (rows["seconds"] > 0)]
    if rows.empty:
        return Absent(title, "no run has both a time and a score")
    names = labels(board)
    data = pd.DataFrame(
        {
            "entrant": [names[run] for run in rows["run"]],
            "role": rows["role"],
            "seconds": rows["seconds"].astype(float),
            "skill": rows["skill"],
            "low": rows["skill_low"],
            "high": rows["skill_high"],
            "memory_mb": rows["peak_memory_mb"].astype(float),
        }
    ).reset_index(drop=True)
    x = alt.X(
        "seconds:Q", title="processor seconds, all wells (log)", scale=alt.Scale(type="log", padding=36)
    )
    present = [role for role in ROLES if role in set(data["role"])]
    colour = alt.Color("role:N", scale=_roles(present))
    base = alt.Chart(data)
    spans = (
        alt.Chart(_with_interval(data))
        .mark_rule(strokeWidth=2, opacity=0.6)
        .encode(
            x=x,
            y=alt.Y("low:Q", title=metric_title(board), scale=alt.Scale(zero=board.metric == "skill")),
            y2="high:Q",
            color=colour,
        )
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=x,
        y=alt.Y("skill:Q", title=metric_title(board)),
        color=colour,
        shape=alt.Shape("role:N", scale=shape_of(present)),
        tooltip=[
            "entrant:N",
            "role:N",
            alt.Tooltip("skill:Q", format=".3f"),
            alt.Tooltip("seconds:Q", format=",.1f"),
            alt.Tooltip("memory_mb:Q", format=",.0f"),
        ],
    )
    text = base.mark_text(align="left", dx=8, dy=-6, limit=150).encode(x=x, y="skill:Q", text="entrant:N")
    caption = (
        "Time is what features, weights and heads took when they were computed, summed over processes; the "
        "machine is in the versions. Vertical lines, where there are any: intervals."
    )
    layers = [spans, points, text] if len(_with_interval(data)) else [points, text]
    chart = alt.layer(*layers).properties(width="container", height=280)
    return Figure("cost", title, caption, chart, data)


def _with_interval(data: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose interval is known."""
    known: pd.DataFrame = data[np.isfinite(data["low"]) & np.isfinite(data["high"])]
    return known


def _roles(present: list[str]) -> alt.Scale:
    return alt.Scale(domain=present, range=[ROLES[role] for role in present])
