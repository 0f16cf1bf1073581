"""Figures over the readouts of a board: distributions, shares, one run against another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from leaderboard.figures.base import MOST_POINTS, Figure, by_rows, named_axis
from leaderboard.tables.naming import Absent, floor_value, labels, metric_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from leaderboard.board import Board
    from leaderboard.schema import Entry
    from leaderboard.tables.frames import Table

GRID = 80
"""Points of a density curve."""
BINS = 40
"""Bins per axis where a scatter has too many points."""
DRAWN = ("entrant", "control", "ceiling")


def violins(boards: Sequence[Board]) -> Figure | Absent:
    """Distribution of the score over readouts per run, one row per layer or condition."""
    first = boards[0]
    title = f"{first.metric[0].upper()}{first.metric[1:]} over readouts"
    parts = []
    for board in boards:
        names = labels(board)
        for entry in board.entries:
            if entry.role not in DRAWN:
                continue
            values = board.readouts.loc[board.readouts["run"] == entry.run, "skill"].to_numpy(np.float64)
            parts.append(_violin(names[entry.run], entry.layer, values))
            parts += [
                _violin(names[entry.run], f"{entry.layer}, {stratum.replace('Metadata_', '')}", scores)
                for stratum, scores in scores_by_stratum(entry, board.metric).items()
            ]
    data = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if data.empty:
        return Absent(title, "no run has two readouts with different scores")
    data["floor"] = floor_value(first)
    order = list(dict.fromkeys(data["entrant"]))
    width = int(max(44, min(120, 400 / len(order))))
    base = (
        alt.Chart()
        .mark_area(orient="horizontal", opacity=0.75)
        .encode(
            y=alt.Y("score:Q", title=metric_title(first, "")),
            x=alt.X("left:Q", axis=None, title=None),
            x2="right:Q",
        )
    )
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="#888888").encode(y="floor:Q")
    middle = alt.Chart().mark_rule(strokeWidth=2).encode(y="median:Q")
    header = alt.Header(title=None, labelLimit=width, labelAngle=-25, labelAlign="left", labelAnchor="start")
    chart = (
        alt.layer(base, zero, middle, data=data)
        .properties(width=width, height=180)
        .facet(
            column=alt.Column("entrant:N", sort=order, header=header),
            row=alt.Row("layer:N", title=None, header=alt.Header(labelLimit=160)),
        )
        .properties(spacing={"column": 4, "row": 12})
    )
    caption = (
        f"Density of {first.metric} over readouts (Gaussian kernel, each as wide as its highest point); the "
        "line is the median, the dashed line what the floor scores. The lowest and highest 0.5 % are not "
        "drawn."
    )
    return Figure("violins", title, caption, chart, data)


def scores_by_stratum(entry: Entry, metric: str) -> dict[str, NDArray[np.float64]]:
    """Scores over readouts within each stratum of ``score_by``; empty without strata."""
    column = {"skill": "r2", "ROC AUC": "roc_auc"}.get(metric, "score")
    scores = entry.scores
    if column not in scores or "stratum" not in scores:
        return {}
    own = scores[scores["stratum"] != "all"]
    return {str(s): v[column].to_numpy(np.float64) for s, v in own.groupby("stratum", sort=False)}


def _violin(name: str, layer: str, values: NDArray[np.float64]) -> pd.DataFrame:
    """Density on a grid, symmetric about 0."""
    from scipy.stats import gaussian_kde

    values = values[np.isfinite(values)]
    if len(values) < 2 or np.ptp(values) == 0:
        return pd.DataFrame()
    low, high = np.quantile(values, [0.005, 0.995])
    inside = values[(values >= low) & (values <= high)]
    if len(inside) < 2 or np.ptp(inside) == 0:
        return pd.DataFrame()
    grid = np.linspace(low, high, GRID)
    density = gaussian_kde(inside)(grid)
    half = density / density.max()
    return pd.DataFrame(
        {
            "entrant": name,
            "layer": layer,
            "score": grid,
            "left": -half,
            "right": half,
            "median": np.median(values),
        }
    )


def shares(table: Table) -> Figure:
    """Draw :func:`leaderboard.tables.significant`: bars from zero, the range over repeats as a line."""
    wide = table.frame
    kinds = ["significant", "not significant", "without a score"]
    total = wide[kinds].sum(axis=1)
    long = wide.melt(id_vars="entrant", value_vars=kinds, var_name="readouts", value_name="number")
    long["share"] = long["number"] / long["entrant"].map(dict(zip(wide["entrant"], total, strict=True)))
    long["order"] = long["readouts"].map({kind: i for i, kind in enumerate(kinds)})
    long = long.merge(wide[["entrant", "share, least repeat", "share, most repeat"]], on="entrant")
    order = wide["entrant"].tolist()
    y = alt.Y("entrant:N", sort=order, axis=named_axis())
    bars = (
        alt.Chart(long)
        .mark_bar()
        .encode(
            x=alt.X(
                "share:Q",
                title="share of readouts",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=y,
            order="order:Q",
            color=alt.Color(
                "readouts:N",
                scale=alt.Scale(domain=kinds, range=["#0072B2", "#c8c8c8", "#E69F00"]),
            ),
            tooltip=["entrant:N", "readouts:N", "number:Q", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    ranges = wide.rename(columns={"share, least repeat": "least", "share, most repeat": "most"})
    spans = (
        alt.Chart(ranges[["entrant", "least", "most"]].dropna())
        .mark_rule(strokeWidth=3, color="#111111")
        .encode(x="least:Q", x2="most:Q", y=y)
    )
    chart = (bars + spans).properties(width="container", height=by_rows(order))
    return Figure("shares", table.title, table.caption, chart, long.drop(columns="order"))


def scatter(board: Board, a: str, b: str) -> Figure | Absent:
    """Readout by readout: the score of run ``a`` against that of run ``b``."""
    names = labels(board)
    title = f"{names[a]} against {names[b]}"
    tests = board.readouts.set_index("run")
    pair = pd.DataFrame(
        {
            "readout": tests.loc[[a], "readout"].to_numpy(),
            "a": tests.loc[[a], "skill"].to_numpy(np.float64),
        }
    ).merge(
        pd.DataFrame(
            {
                "readout": tests.loc[[b], "readout"].to_numpy(),
                "b": tests.loc[[b], "skill"].to_numpy(np.float64),
            }
        ),
        on="readout",
    )
    known = pair[np.isfinite(pair["a"]) & np.isfinite(pair["b"])].reset_index(drop=True)
    if known.empty:
        return Absent(title, "no readout has a score in both runs")
    x = {"title": f"{names[b]}: {metric_title(board, '')}"}
    y = {"title": f"{names[a]}: {metric_title(board, '')}"}
    if len(known) > MOST_POINTS:
        data = _binned(known)
        chart = (
            alt.Chart(data)
            .mark_rect()
            .encode(
                x=alt.X("b_low:Q", **x),
                x2="b_high:Q",
                y=alt.Y("a_low:Q", **y),
                y2="a_high:Q",
                color=alt.Color("readouts:Q", scale=alt.Scale(scheme="viridis", type="log")),
                tooltip=["readouts:Q"],
            )
        )
        rule = f"{len(known)} readouts in {BINS} × {BINS} bins, for more than {MOST_POINTS}"
    else:
        data = known
        chart = (
            alt.Chart(data)
            .mark_point(filled=True, size=22, opacity=0.6, color="#0072B2")
            .encode(
                x=alt.X("b:Q", **x),
                y=alt.Y("a:Q", **y),
                tooltip=["readout:N", alt.Tooltip("a:Q", format=".3f"), alt.Tooltip("b:Q", format=".3f")],
            )
        )
        rule = f"every one of {len(known)} readouts"
    ends = [float(known[["a", "b"]].min().min()), float(known[["a", "b"]].max().max())]
    line = (
        alt.Chart(pd.DataFrame({"at": ends}))
        .mark_line(color="#888888", strokeDash=[4, 3])
        .encode(x="at:Q", y="at:Q")
    )
    return Figure(
        "scatter",
        title,
        f"Drawn: {rule}. On the dashed line both score the same.",
        (chart + line).properties(width="container", height=360),
        data,
    )


def _binned(known: pd.DataFrame) -> pd.DataFrame:
    edges: dict[str, Any] = {c: np.histogram_bin_edges(known[c], BINS) for c in ("a", "b")}
    counts, _, _ = np.histogram2d(known["a"], known["b"], bins=[edges["a"], edges["b"]])
    i, j = np.nonzero(counts)
    return pd.DataFrame(
        {
            "a_low": edges["a"][i],
            "a_high": edges["a"][i + 1],
            "b_low": edges["b"][j],
            "b_high": edges["b"][j + 1],
            "readouts": counts[i, j].astype(int),
        }
    )
