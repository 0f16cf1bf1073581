"""Runs as a folder of four plain Parquet tables, for whoever keeps scores in tables.

``runs`` has one row per run with the plain fields of :class:`~leaderboard.schema.Entry`; ``folds`` says in
which outer fold a perturbation was tested (``run``, ``repeat``, ``perturbation``, ``fold``); ``errors``
holds squared errors (``run``, ``repeat``, ``perturbation``, ``readout``, ``e``, ``e0``); ``fold_values``
stands in its place for scores that exist per fold only (``run``, ``repeat``, ``fold``, ``readout``,
``score``); ``scores``, which may be left out, holds further estimands (``run``, ``readout``, ``stratum``
and one column each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from leaderboard.schema import BoardError, Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS = ("readouts", "perturbations", "e", "e0", "folds", "scores", "fold_values", "warnings", "facts")
PLAIN = tuple(f for f in fields(Entry) if f.name not in ARRAYS)
"""Fields of a run that ``runs.parquet`` holds."""
NEEDED = {
    "runs": tuple(f.name for f in PLAIN if f.default is MISSING),
    "folds": ("run", "repeat", "perturbation", "fold"),
    "errors": ("run", "repeat", "perturbation", "readout", "e", "e0"),
    "fold_values": ("run", "repeat", "fold", "readout", "score"),
    "scores": ("run", "readout", "stratum"),
}


def read_folder(folder: str | Path) -> list[Entry]:
    """Read every run of a folder, in the order of ``runs.parquet``.

    Raises
    ------
    BoardError
        When a table or a column is missing, a cell stands twice, or a run has neither errors nor scores.
    """
    folder = Path(folder)
    tables = {name: _table(folder, name) for name in NEEDED}
    runs = tables["runs"]
    if runs is None or tables["folds"] is None:
        raise BoardError(f"{folder}: needs runs.parquet and folds.parquet; see docs/report.md")
    by_run = {
        name: {} if frame is None else dict(iter(frame.groupby("run", sort=False)))
        for name, frame in tables.items()
        if name != "runs"
    }
    return [
        _entry(folder, record, {name: own.get(record["run"]) for name, own in by_run.items()})
        for record in runs.to_dict("records")
    ]


def write_folder(entries: Sequence[Entry], folder: str | Path) -> None:
    """Write runs so that :func:`read_folder` gives them back (without ``warnings`` and ``facts``)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in NEEDED}
    parts["runs"].append(pd.DataFrame([{f.name: getattr(e, f.name) for f in PLAIN} for e in entries]))
    for entry in entries:
        tested = np.argwhere(entry.folds >= 0)
        names = np.array(entry.perturbations, dtype=object)
        parts["folds"].append(
            pd.DataFrame(
                {
                    "run": entry.run,
                    "repeat": tested[:, 0],
                    "perturbation": names[tested[:, 1]],
                    "fold": entry.folds[entry.folds >= 0],
                }
            )
        )
        if len(entry.scores):
            parts["scores"].append(entry.scores.assign(run=entry.run))
        readouts = np.array(entry.readouts, dtype=object)
        if entry.fold_values is not None:
            r, k, t = np.indices(entry.fold_values.shape).reshape(3, -1)
            columns = {"repeat": r, "fold": k, "readout": readouts[t], "score": entry.fold_values.reshape(-1)}
            parts["fold_values"].append(pd.DataFrame({"run": entry.run, **columns}))
            continue
        r, p, t = np.indices(entry.e.shape).reshape(3, -1)
        columns = {"repeat": r, "perturbation": names[p], "readout": readouts[t]}
        values = {"e": entry.e.reshape(-1), "e0": entry.e0.reshape(-1)}
        parts["errors"].append(pd.DataFrame({"run": entry.run, **columns, **values}))
    for name, frames in parts.items():
        if frames:
            pd.concat(frames, ignore_index=True).to_parquet(folder / f"{name}.parquet", index=False)


def _table(folder: Path, name: str) -> pd.DataFrame | None:
    path = folder / f"{name}.parquet"
    if not path.exists():
        return None
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise BoardError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    lacking = [column for column in NEEDED[name] if column not in frame.columns]
    if lacking:
        raise BoardError(f"{path}: has no column {lacking[0]!r}; it needs {', '.join(NEEDED[name])}")
    return frame


def _entry(folder: Path, record: dict[Any, Any], own: dict[str, pd.DataFrame | None]) -> Entry:
    run, folds = record["run"], own["folds"]
    values = own["errors"] if own["errors"] is not None else own["fold_values"]
    if folds is None or values is None:
        lacks = "folds" if folds is None else "errors or fold_values"
        raise BoardError(f"{folder}: run {run!r} has no rows in {lacks}; add them or leave the run out")
    perturbation, perturbations = pd.factorize(folds["perturbation"].astype(str))
    readout, readouts = pd.factorize(values["readout"].astype(str))
    repeat = folds["repeat"].to_numpy(np.int64)
    repeats = int(repeat.max()) + 1
    shape = (repeats, len(perturbations))
    where = (repeat, perturbation)
    table = _placed(f"{folder}: folds of run {run!r}", folds["fold"], where, shape, -1.0).astype(np.int16)
    e = e0 = np.zeros((*shape, 0), np.float32)
    per_fold = None
    if own["errors"] is not None:
        places = perturbations.get_indexer(pd.Index(values["perturbation"].astype(str)))
        if (places < 0).any():
            name = values["perturbation"].iloc[int(np.argmax(places < 0))]
            raise BoardError(f"{folder}: run {run!r} has errors of {name!r}, which stands in no fold")
        at = (values["repeat"].to_numpy(np.int64), places, readout)
        what = f"{folder}: errors of run {run!r}"
        e = _placed(what, values["e"], at, (*shape, len(readouts)))
        e0 = _placed(what, values["e0"], at, (*shape, len(readouts)))
    else:
        at = (values["repeat"].to_numpy(np.int64), values["fold"].to_numpy(np.int64), readout)
        size = (repeats, int(table.max()) + 1, len(readouts))
        per_fold = _placed(f"{folder}: scores per fold of run {run!r}", values["score"], at, size)
    scores = own["scores"]
    plain = {f.name: record[f.name] for f in PLAIN if f.name in record and not _missing(record[f.name])}
    return Entry(
        **plain,
        readouts=tuple(readouts),
        perturbations=tuple(perturbations),
        e=e,
        e0=e0,
        folds=table,
        scores=pd.DataFrame() if scores is None else scores.drop(columns="run").reset_index(drop=True),
        fold_values=per_fold,
    )


def _placed(
    what: str,
    values: pd.Series,
    places: tuple[NDArray[np.int64], ...],
    shape: tuple[int, ...],
    fill: float = np.nan,
) -> NDArray[np.float32]:
    """Return an array with the values at their places; a place outside or taken twice is refused."""
    for axis, size in zip(places, shape, strict=True):
        if len(axis) and (axis.min() < 0 or axis.max() >= size):
            raise BoardError(f"{what} name a repeat or fold that the folds do not have")
    flat = np.ravel_multi_index(places, shape)
    if len(np.unique(flat)) < len(flat):
        raise BoardError(f"{what}: a cell stands twice; keep one row of each")
    out = np.full(shape, fill, np.float32)
    out.reshape(-1)[flat] = values.to_numpy(np.float32)
    return out


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
