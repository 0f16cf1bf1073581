"""Checks of readout layers and of ready-made profiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.datasets.checks.finding import Finding, Severity, finding
from bench.datasets.joins import JoinReport, join_frame
from bench.datasets.prepare import apply
from bench.datasets.profiles import read_table
from bench.datasets.tables import PLATE, PREFIX, WELL, natural, read_frame, shorten
from bench.datasets.units import label
from bench.errors import DatasetError
from bench.words import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset, Layer, ProfileTable

_ALLOWED = {"regulation": (-1.0, 0.0, 1.0), "target": (0.0, 1.0)}


def check_layer(dataset: Dataset, layer: Layer) -> list[Finding]:
    """Return what is wrong with a layer's table and with how it meets the wells."""
    file = layer.table
    try:
        frame = layer.read()
    except DatasetError as error:
        return [finding("error", "unreadable-layer", file, str(error), f"correct layer {layer.name!r}")]
    names = list(frame.columns[len(layer.key) :])
    values = frame[names].to_numpy(np.float64)
    out = _values(layer, names, values)
    out += _flat(f"layer {layer.name!r}", file, "readout", names, values)
    try:
        done = apply(dataset, layer, frame)
        _, report = join_frame(dataset, done.layer, done.frame, dataset.wells)
    except DatasetError as error:
        return [*out, finding("error", "no-join", file, str(error), "correct the key or the tables")]
    return out + _meeting(dataset, done.layer, done.frame, report)


def _values(layer: Layer, names: list[str], values: NDArray[np.float64]) -> list[Finding]:
    """Return values that no number of this kind and scale can be."""
    file, out = layer.table, []

    def add(code: str, bad: NDArray[np.bool_], what: str, remedy: str) -> None:
        if bad.any():
            columns = shorten(names[t] for t in np.flatnonzero(bad.any(axis=0)))
            text = f"layer {layer.name!r}: {int(bad.sum())} values {what}, in {columns}"
            out.append(finding("error", code, file, text, remedy, np.flatnonzero(bad.any(axis=1))))

    add(
        "infinite-readout", np.isinf(values), "are infinite", "leave the field empty where a value is missing"
    )
    finite = np.isfinite(values)
    if layer.kind in _ALLOWED:
        allowed = _ALLOWED[layer.kind]
        words = ", ".join(f"{v:g}" for v in allowed)
        wrong = finite & ~np.isin(values, allowed)
        add("bad-call", wrong, f"are none of {words}", f"a {layer.kind} layer holds {words} or nothing")
    elif layer.scale in ("counts", "ratio"):
        remedy = f"correct them, or the layer's scale ({layer.scale} cannot be negative)"
        add("negative-readout", finite & (values < 0), "are negative", remedy)
    return out


def _flat(whose: str, file: str, noun: str, names: list[str], values: NDArray[np.float64]) -> list[Finding]:
    """Return columns without information: all missing, or one value; and how much is missing."""
    missing = np.isnan(values)
    empty = missing.all(axis=0)
    low = np.where(missing, np.inf, values).min(axis=0, initial=np.inf)
    high = np.where(missing, -np.inf, values).max(axis=0, initial=-np.inf)
    constant = ~empty & (low == high)
    out = []
    for code, chosen, what in (
        (f"all-missing-{noun}", empty, "have no value at all"),
        (f"constant-{noun}", constant, "have one distinct value"),
    ):
        if chosen.any():
            listed = shorten(names[t] for t in np.flatnonzero(chosen))
            text = f"{whose}: {int(chosen.sum())} of {len(names)} {noun}s {what}: {listed}"
            out.append(finding("warning", code, file, text, "drop them; nothing can be learnt from them"))
    partly = missing & ~empty
    if partly.any() and noun == "readout":
        columns = int(partly.any(axis=0).sum())
        gaps = count(int(partly.sum()), "value", "are")
        text = f"{whose}: {gaps} missing, in {columns} of {len(names)} {noun}s"
        rows = np.flatnonzero(partly.any(axis=1))
        out.append(finding("warning", "missing-value", file, text, "nothing, if that is meant", rows))
    return out


def _meeting(dataset: Dataset, layer: Layer, frame: pd.DataFrame, report: JoinReport) -> list[Finding]:
    out = []
    if report.rows_without_wells:
        alone = set(report.rows_without_wells)
        rows = [r for r in range(len(frame)) if label(layer, frame, r) in alone]
        listed = shorten(report.rows_without_wells)
        what = f"layer {layer.name!r}: {count(len(rows), 'row', 'have')} no well: {listed}"
        remedy = "make the key's values agree with the wells table"
        out.append(finding("warning", "readout-without-unit", layer.table, what, remedy, rows))
    if report.wells_without_readouts:
        lonely = set(report.wells_without_readouts)
        places = zip(dataset.wells[PLATE], dataset.wells[WELL], strict=True)
        rows = [int(dataset.wells.index[i]) for i, (p, w) in enumerate(places) if f"{p}/{w}" in lonely]
        what = f"layer {layer.name!r}: {count(len(rows), 'treated well', 'have')} no readouts: "
        what += shorten(report.wells_without_readouts)
        remedy = "nothing, if they were not measured; they take no part"
        out.append(finding("warning", "unit-without-readout", dataset.files["wells"], what, remedy, rows))
    return out


def check_profiles(dataset: Dataset, table: ProfileTable) -> list[Finding]:
    """Return what is wrong with ready-made profiles: NaN, infinite and constant features, unknown wells."""
    file, whose = table.table, f"features {table.name!r}"
    try:
        frame = read_frame(file, rename=table.rename)
        names = [c for c in frame.columns if not c.startswith(PREFIX)]
        numeric = [c for c in names if pd.api.types.is_numeric_dtype(frame[c])]
        values = frame[numeric].to_numpy(np.float64, na_value=np.nan)
    except DatasetError as error:
        return [finding("error", "unreadable-profiles", file, str(error), "correct the table")]
    out = []
    bad = ~np.isfinite(values)
    if bad.any():
        counts = (f"{numeric[t]}: {int(bad[:, t].sum())}" for t in np.flatnonzero(bad.any(axis=0)))
        what = f"{whose}: {count(int(bad.sum()), 'value', 'are')} NaN or infinite ({shorten(counts)})"
        severity: Severity = "warning" if table.nonfinite == "drop-columns" else "error"
        remedy = 'correct them, or set nonfinite = "drop-columns"'
        out.append(
            finding(severity, "nonfinite-feature", file, what, remedy, np.flatnonzero(bad.any(axis=1)))
        )
    out += _flat(whose, file, "feature", numeric, np.where(bad, np.nan, values))
    try:
        profiles = read_table(replace(table, nonfinite="drop-columns"), dataset.perturbation)
    except DatasetError as error:
        return [*out, finding("error", "unreadable-profiles", file, str(error), "correct the table")]
    ours = set(zip(dataset.wells[PLATE], dataset.wells[WELL], strict=True))
    theirs = list(zip(profiles.wells[PLATE], profiles.wells[WELL], strict=True))
    rows = [i for i, place in enumerate(theirs) if place not in ours]
    if rows:
        listed = shorten(sorted((f"{p}/{w}" for p, w in set(theirs) - ours), key=natural))
        what = f"{whose}: {count(len(rows), 'row', 'are')} not in the wells table: {listed}"
        severity = "error" if len(rows) == len(theirs) else "warning"
        out.append(finding(severity, "profile-without-well", file, what, "make plate and well agree", rows))
    without = ours - set(theirs)
    if without:
        listed = shorten(sorted((f"{p}/{w}" for p, w in without), key=natural))
        what = f"{whose}: {count(len(without), 'well', 'have')} no profile: {listed}"
        file = dataset.files["wells"]
        out.append(finding("warning", "well-without-profile", file, what, "nothing, if that is meant"))
    return out
