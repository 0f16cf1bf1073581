"""From cells to one row per well: mean or median over the cells, a well at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from bench.datasets.cells.csvs import CsvReader
from bench.datasets.cells.model import COMPARTMENTS, Reader
from bench.datasets.cells.parquet import IMAGE_NUMBERS, ParquetReader, parquet_names
from bench.datasets.cells.sqlite import SUFFIXES, SqliteReader
from bench.datasets.tables import is_remote, shorten
from bench.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Aggregate = Literal["mean", "median"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
CELL_COUNT, SITE_COUNT = "Metadata_Object_Count", "Metadata_Site_Count"
"""Named as pycytominer names them."""


@dataclass(frozen=True, eq=False)
class Collected:
    """Profiles of wells from single cells.

    Parameters
    ----------
    frame
        A row per well that has cells: plate, well, ``Metadata_Object_Count``, ``Metadata_Site_Count`` and
        float32 features in CellProfiler's names, by compartment and then of images.
    layout
        Which kind of source it was.
    empty
        Wells without a cell, left out.
    orphans
        Objects left out for want of a partner in another compartment.
    """

    frame: pd.DataFrame
    layout: str
    empty: tuple[str, ...]
    orphans: int


def is_cells(source: str) -> bool:
    """Whether a source is CellProfiler's single-cell output: a folder, a database, or CytoTable's Parquet."""
    if is_remote(source):
        return False
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix.lower() in (".parquet", ".pq") and path.is_file():
        names = parquet_names(path)
        return any(n in names for n in IMAGE_NUMBERS) and any(
            n.startswith(tuple(f"{c}_" for c in COMPARTMENTS)) for n in names
        )
    return False


def collect(
    source: str,
    aggregate: str = "median",
    compartments: Sequence[str] = COMPARTMENTS,
    rename: Mapping[str, str] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Collected:
    """Read single cells and aggregate them to wells.

    Parameters
    ----------
    source
        Folder of CSV files, SQLite database or Parquet file, on a local disk.
    aggregate
        ``median`` or ``mean`` over a well's cells, of each feature over the cells where it is defined;
        features of images go the same way over the well's images.
    compartments
        Which to read, in the order of the columns.
    rename
        New names of the images' columns, for plate and well.
    report
        Told the number of wells done and of all.

    Raises
    ------
    DatasetError, UsageError
        For a source that is damaged, incomplete or inconsistent, or an unknown rule.
    """
    if aggregate not in AGGREGATES:
        raise UsageError(f"--aggregate {aggregate!r} is none of {', '.join(AGGREGATES)}")
    if not compartments or len(set(compartments)) < len(compartments):
        raise UsageError(f"--compartments must be distinct names, not {', '.join(compartments) or 'nothing'}")
    reader = _open(Path(source), compartments, rename)
    rule = np.nanmedian if aggregate == "median" else np.nanmean
    left = reader.blocks.copy()
    waiting: dict[int, list[NDArray[np.float64]]] = {}
    images: dict[int, dict[Any, NDArray[np.float64]]] = {}
    names = (*reader.columns, *reader.image_columns)
    out = np.full((len(reader.wells), len(names)), np.nan, np.float32)
    cells = np.zeros(len(reader.wells), np.int64)
    orphans = done = 0
    for block in reader.read():
        waiting.setdefault(block.well, []).append(block.cells)
        images.setdefault(block.well, {}).update(block.images)
        orphans += block.orphans
        left[block.well] -= 1
        if left[block.well]:
            continue
        rows = np.concatenate(waiting.pop(block.well))
        cells[block.well] = len(rows)
        if len(rows):
            both = [_reduce(rule, rows), _reduce(rule, np.stack(list(images.pop(block.well).values())))]
            with np.errstate(over="ignore"):
                out[block.well] = np.concatenate(both)
        done += 1
        if report is not None:
            report(done, len(left))
    return _collected(reader, out, cells, names, orphans)


def _open(path: Path, compartments: Sequence[str], rename: Mapping[str, str] | None) -> Reader:
    if is_remote(str(path)):
        raise DatasetError(f"{path}: single-cell tables must be on a local disk; download them first")
    if path.is_dir():
        return CsvReader(path, compartments, rename)
    if path.suffix.lower() in SUFFIXES:
        return SqliteReader(path, compartments, rename)
    if path.suffix.lower() in (".parquet", ".pq"):
        return ParquetReader(path, compartments, rename)
    raise DatasetError(
        f"{path}: not a folder of CSV files, a SQLite database ({', '.join(SUFFIXES)}) or a Parquet file of "
        "single cells; for a table with one row per well leave out --aggregate"
    )


def _reduce(rule: Callable[..., Any], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``rule`` over the rows where they are finite, NaN where none is."""
    rows = np.where(np.isfinite(rows), rows, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        values: NDArray[np.float64] = rule(rows, axis=0)
    return values


def _collected(
    reader: Reader, out: NDArray[np.float32], cells: NDArray[np.int64], names: Sequence[str], orphans: int
) -> Collected:
    kept = np.flatnonzero(cells)
    labels = [f"{p}/{w}" for p, w in reader.wells.itertuples(index=False)]
    if not kept.size:
        raise DatasetError(f"no cell in any of {len(labels)} wells ({shorten(labels, 3)}); nothing to import")
    counts = {CELL_COUNT: cells[kept].astype(str), SITE_COUNT: reader.sites[kept].astype(str)}
    about = reader.wells.iloc[kept].reset_index(drop=True).assign(**counts)
    frame = pd.concat([about, pd.DataFrame(out[kept], columns=list(names))], axis=1)
    empty = tuple(labels[i] for i in np.flatnonzero(cells == 0))
    return Collected(frame, reader.layout, empty, orphans)


def write_profiles(collected: Collected, path: Path, about: Mapping[str, str]) -> None:
    """Write the profiles as Parquet, whole or not at all; ``about`` goes into its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(collected.frame, preserve_index=False)
    table = table.replace_schema_metadata({f"wellbench.{k}": v for k, v in about.items()})
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, draft)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DatasetError(
            f"{path}: cannot be written ({error.strerror}); make its folder writable"
        ) from error
