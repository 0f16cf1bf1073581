"""Figures of wells: plates as heatmaps, embeddings as maps, and how two feature sets relate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from leaderboard.explain.canonical import FOLDS, canonical_correlations
from leaderboard.explain.coral import components, coral
from leaderboard.figures.base import MOST_POINTS, OKABE_ITO, SHAPES, Figure, scale_of, shape_of
from leaderboard.schema import BoardError
from leaderboard.tables.naming import Absent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WELL = re.compile(r"^([A-Za-z]{1,2})0*(\d+)$")
MOST_PLATES = 12
NEIGHBOURS, APART = 15, 0.5
"""UMAP's settings (Image2Omics: 15 neighbours, smallest distance 0.5)."""
MOST_LEVELS = 12
"""Levels of a metadata column that get a colour of their own."""
LEAST_WELLS = 20


def plates(values: pd.DataFrame, name: str, title: str, value_title: str, caption: str) -> Figure | Absent:
    """Draw a value per well as one heatmap per plate.

    Parameters
    ----------
    values
        ``plate``, ``well`` (``A01``), ``value``; wells without a finite value are left blank.
    value_title
        What is drawn, with its unit.
    """
    split = values["well"].astype(str).str.extract(WELL)
    known = split[0].notna() & np.isfinite(values["value"].to_numpy(np.float64))
    if not known.any():
        return Absent(title, "no well has both a place such as A01 and a value")
    data = pd.DataFrame(
        {
            "plate": values["plate"].astype(str),
            "row": split[0].str.upper(),
            "column": pd.to_numeric(split[1]),
            "value": values["value"].astype(float),
        }
    )[known]
    names = sorted(data["plate"].unique())
    shown = names[:MOST_PLATES]
    data = data[data["plate"].isin(shown)].reset_index(drop=True)
    data["column"] = data["column"].astype(int)
    rows = sorted(data["row"].unique(), key=lambda r: (len(r), r))
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X("column:O", title="column of the plate", axis=alt.Axis(labelOverlap=True, labelAngle=0)),
            y=alt.Y("row:O", sort=rows, title="row", axis=alt.Axis(labelOverlap=True)),
            color=alt.Color(
                "value:Q",
                title=value_title,
                scale=alt.Scale(scheme="viridis"),
                legend=alt.Legend(titleLimit=300),
            ),
            tooltip=["plate:N", "row:N", "column:O", alt.Tooltip("value:Q", format=".3g")],
        )
        .properties(width=400, height=250)
        .facet(alt.Facet("plate:N", title=None, sort=shown, header=alt.Header(labelLimit=380)), columns=2)
    )
    if len(names) > len(shown):
        caption += f" The first {len(shown)} of {len(names)} plates."
    return Figure(name, title, caption, chart, data, wide=True)


def maps(
    X: NDArray[np.floating], wells: pd.DataFrame, label: str, seed: int = 0, name: str = "map"
) -> Figure | Absent:
    """UMAP of well embeddings before and after CORAL plate correction, coloured by any metadata column.

    Parameters
    ----------
    X
        (N, D) features.
    wells
        N rows with ``Metadata_Plate`` and further columns to colour by.
    label
        Whose features they are.
    """
    title = f"Map of wells before and after plate correction: {label}"
    known = np.isfinite(X).all(axis=1)
    X, wells = np.asarray(X)[known], wells[known].reset_index(drop=True)
    if len(X) > MOST_POINTS:
        rows = np.unique(np.linspace(0, len(X) - 1, MOST_POINTS).round().astype(int))
        X, wells = X[rows], wells.iloc[rows].reset_index(drop=True)
    if len(X) < LEAST_WELLS:
        return Absent(title, f"{len(X)} wells have features; {LEAST_WELLS} are needed")
    before = components(X)
    if before.shape[1] < 2:
        return Absent(title, "the features have a single direction of variation")
    plate = wells["Metadata_Plate"].astype(str).to_numpy(np.str_)
    stages = {"as computed": before}
    if len(np.unique(plate)) > 1:
        stages["after CORAL"] = coral(before, plate)
    colours = _colourings(wells)
    parts = []
    for stage, values in stages.items():
        xy = _umap(values, seed)
        parts.append(pd.DataFrame({"stage": stage, "x": xy[:, 0], "y": xy[:, 1], **colours}))
    data = pd.concat(parts, ignore_index=True)
    fields = list(colours)
    chosen = alt.param(
        name="colour", bind=alt.binding_select(options=fields, name="colour by "), value=fields[0]
    )
    legend = alt.Legend(title=None, columns=4, symbolLimit=40)
    chart = (
        alt.Chart(data)
        .transform_calculate(shown="datum[colour]")
        .mark_point(filled=True, size=24, opacity=0.75)
        .encode(
            x=alt.X("x:Q", title="UMAP 1 (no unit)", scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", title="UMAP 2 (no unit)", scale=alt.Scale(zero=False)),
            color=alt.Color("shown:N", legend=legend, scale=alt.Scale(range=list(OKABE_ITO))),
            shape=alt.Shape("shown:N", legend=legend, scale=alt.Scale(range=list(SHAPES))),
            tooltip=[alt.Tooltip(field=_literal(f), type="nominal", title=f) for f in fields],
        )
        .properties(width=360, height=320)
        .add_params(chosen)
        .facet(alt.Facet("stage:N", sort=list(stages), title=None), columns=2)
        .resolve_scale(x="independent", y="independent")
    )
    caption = (
        f"UMAP ({NEIGHBOURS} neighbours, smallest distance {APART}, seed {seed}) of the leading principal "
        "components, before and after every plate's mean and covariance were aligned to those of all wells "
        f"(CORAL). {len(X)} wells. Distances between clusters mean nothing."
    )
    if len(stages) == 1:
        caption += " There is a single plate, so nothing is corrected."
    return Figure(name, title, caption, chart, data, wide=True)


def canonical(
    features: Mapping[str, NDArray[np.floating]], groups: NDArray[np.str_], most: int = 6
) -> Figure | Absent:
    """Held-out canonical correlations of every pair of feature sets.

    Parameters
    ----------
    features
        Name to (N, D) features of the same wells.
    groups
        (N,) perturbation of each well.
    """
    title = "Canonical correlation between feature sets"
    names = list(features)
    if len(names) < 2:
        return Absent(title, "fewer than two feature sets stand in the store for these wells")
    parts, reasons = [], []
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]][:most]
    for a, b in pairs:
        try:
            table = canonical_correlations(features[a], features[b], groups)
        except BoardError as error:
            reasons.append(str(error))
            continue
        parts.append(table.assign(sets=f"{a} and {b}"))
    if not parts:
        return Absent(title, reasons[0])
    data = pd.concat(parts, ignore_index=True)
    order = list(dict.fromkeys(data["sets"]))
    colour = alt.Color(
        "sets:N", sort=order, title=None, scale=scale_of(order), legend=alt.Legend(columns=1, labelLimit=380)
    )
    base = alt.Chart(data).encode(
        x=alt.X("pair:O", title="pair of canonical variates", axis=alt.Axis(labelAngle=0)), color=colour
    )
    chart = base.mark_line().encode(
        y=alt.Y("correlation:Q", title="correlation, held out", scale=alt.Scale(domain=[-0.2, 1]))
    ) + base.mark_point(filled=True, size=50, opacity=1).encode(
        y="correlation:Q",
        shape=alt.Shape("sets:N", sort=order, title=None, scale=shape_of(order)),
        tooltip=[
            "sets:N",
            "pair:O",
            *(alt.Tooltip(f"{c}:Q", format=".3f") for c in ("correlation", "low", "high")),
        ],
    )
    caption = (
        "Fitted on training perturbations with shrunk covariances (Ledoit–Wolf), on at most 50 principal "
        f"components a set; correlation over wells of perturbations left out, mean of {FOLDS} folds. What is "
        "fitted to noise shows as 0."
    )
    return Figure("canonical", title, caption, chart.properties(width="container", height=260), data)


def _literal(field: str) -> str:
    """Return a field's name so that Vega takes its dots and brackets as they are."""
    return re.sub(r"([\\.\[\]])", r"\\\1", field)


def _umap(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return (N, 2); one thread, so that the same values give the same map."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP

        fitted: Any = UMAP(
            n_neighbors=min(NEIGHBOURS, len(values) - 1), min_dist=APART, random_state=seed, n_jobs=1
        ).fit_transform(values)
    return np.asarray(fitted, np.float64)


def _colourings(wells: pd.DataFrame) -> dict[str, list[str]]:
    """Metadata column to a level per well; columns of one level, and of many, are merged or left out."""
    found: dict[str, list[str]] = {}
    for column in wells.columns:
        if not column.startswith("Metadata_") or column == "Metadata_Well":
            continue
        text = wells[column].map(
            lambda v: "none" if pd.isna(v) else f"{v:g}" if isinstance(v, float) else str(v)
        )
        levels = text.value_counts()
        if len(levels) < 2 or (len(levels) > MOST_LEVELS and levels.iloc[0] == 1):
            continue
        if len(levels) > MOST_LEVELS:
            text = text.where(text.isin(levels.index[: MOST_LEVELS - 1]), "others")
        found[column.removeprefix("Metadata_")] = text.tolist()
    return found or {"wells": ["all"] * len(wells)}
