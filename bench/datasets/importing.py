"""Ready-made profiles into the store: one part per plate, as if a featurizer had made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets.cells import CELL_COUNT, COMPARTMENTS, collect, is_cells, write_profiles
from bench.datasets.load import load, settings_file
from bench.datasets.model import NONFINITE, Nonfinite, ProfileTable
from bench.datasets.profiles import Profiles, read_table, record
from bench.datasets.tables import PLATE, WELL, is_remote, natural, shorten
from bench.errors import DatasetError, UsageError
from bench.store.names import escape

if TYPE_CHECKING:
    from bench.datasets.model import Dataset
    from bench.store import PartKey, Store


@dataclass(frozen=True, eq=False)
class Imported:
    """Profiles as they stand in the store: a part per plate, and how many were new."""

    parts: Mapping[str, PartKey]
    profiles: Profiles
    written: int


@dataclass(frozen=True, eq=False)
class Addressed:
    """Profiles as read, the document behind their key, and where each plate stands in the store."""

    profiles: Profiles
    document: Mapping[str, Any]
    parts: Mapping[str, PartKey]


def addressed(dataset: Dataset, table: ProfileTable) -> Addressed:
    """Read a profile table and say where it stands in a store; nothing is written."""
    from bench.featurize import identity
    from bench.store import PartKey
    from bench.store.keys import digest

    profiles = read_table(table, dataset.perturbation)
    document = {
        "kind": "profiles",
        "schema": 1,
        "name": table.name,
        "content": profiles.digest,
        "nonfinite": table.nonfinite,
        "dropped": dict(profiles.dropped),
    }
    key = digest(document)
    plates = sorted(set(profiles.wells[PLATE]), key=natural)
    parts = {plate: PartKey(identity(dataset), table.name, key, plate) for plate in plates}
    return Addressed(profiles, document, parts)


def store_profiles(store: Store, dataset: Dataset, table: ProfileTable) -> Imported:
    """Commit a dataset's profile table to the store; what is there already is left alone.

    The key digests the content (wells, names, values), so another file with the same content is the same
    features and a changed one stands beside the old.

    Raises
    ------
    DatasetError
        When the table is wrong, or none of its wells is in the dataset's wells table.
    """
    from bench.provenance import provenance
    from bench.store import write_part

    found = addressed(dataset, table)
    profiles = found.profiles
    ours = set(zip(dataset.wells[PLATE], dataset.wells[WELL], strict=True))
    if not ours & set(zip(profiles.wells[PLATE], profiles.wells[WELL], strict=True)):
        plate, well = profiles.wells[[PLATE, WELL]].iloc[0]
        there = "/".join(dataset.wells[[PLATE, WELL]].iloc[0]) if len(dataset.wells) else "empty"
        raise DatasetError(
            f"{table.table}: none of its wells is in the wells table of dataset {dataset.name!r} "
            f"(profiles start with {plate}/{well}, wells with {there}); make plate and well agree"
        )
    written = 0
    for plate, part in found.parts.items():
        rows = np.flatnonzero((profiles.wells[PLATE] == plate).to_numpy())
        extra = {"key_document": found.document, "provenance": provenance(table=Path(table.table).name)}
        wells = profiles.wells.iloc[rows].reset_index(drop=True)
        written += write_part(store, part, wells, profiles.X[rows], profiles.columns, extra)
    return Imported(found.parts, profiles, written)


def import_profiles(
    uri: str,
    *,
    name: str,
    root: Path,
    store: Path,
    rename: Mapping[str, str] | None = None,
    nonfinite: str = "refuse",
    aggregate: str = "",
    compartments: Sequence[str] = COMPARTMENTS,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Import profiles for the dataset in ``root`` and list them in its ``dataset.toml``.

    Single cells of CellProfiler (:mod:`bench.datasets.cells`) become a table with one row per well first,
    ``profiles/NAME.parquet`` in the dataset's folder, which is then imported like any other.

    Parameters
    ----------
    aggregate
        ``mean`` or ``median`` over a well's cells (the default for single cells); empty for a table that has
        one row per well.
    compartments
        Of single cells, which to take.
    report
        Told the wells done and all wells, while cells are read.

    Returns
    -------
    ``wells``, ``plates``, ``features``, ``written`` (parts that were new), ``dropped`` columns,
    ``unmatched`` (sentences on wells that only one side has), ``recorded``; of single cells ``cells``,
    ``layout``, ``aggregate``, ``empty`` (wells without a cell) and ``orphans``.

    Raises
    ------
    DatasetError, UsageError
        As :func:`store_profiles`; nothing is recorded then.
    """
    if nonfinite not in NONFINITE:
        raise UsageError(f"--nonfinite {nonfinite!r} is none of {', '.join(NONFINITE)}")
    dataset = load(root)
    rule: Nonfinite = "drop-columns" if nonfinite == "drop-columns" else "refuse"
    if not aggregate and not is_cells(uri):
        path = uri if is_remote(uri) else str(Path(uri).absolute())
        return _store_and_record(store, root, ProfileTable(name, path, rule, dict(rename or {})))
    made = dataset.root / "profiles" / f"{escape(name)}.parquet"
    known = next((table for table in dataset.features if table.name == name), None)
    if known is not None and Path(known.table) != made:
        raise DatasetError(
            f"{dataset.root}: [[features]] {name!r} is {known.table}; choose another --name or remove that"
        )
    cells = collect(uri, aggregate or "median", compartments, rename, report)
    origin = {
        "cells": int(cells.frame[CELL_COUNT].astype(int).sum()),
        "layout": cells.layout,
        "aggregate": aggregate or "median",
        "empty": list(cells.empty),
        "orphans": cells.orphans,
    }
    about = {k: str(origin[k]) for k in ("layout", "aggregate", "cells")} | {"source": Path(uri).name}
    with _unless_it_fails(made):
        write_profiles(cells, made, about)
        return _store_and_record(store, root, ProfileTable(name, str(made), rule)) | origin


def _store_and_record(store: Path, root: Path, table: ProfileTable) -> dict[str, Any]:
    from bench.store import Store as Open

    dataset = load(root)
    done = store_profiles(Open(store), dataset, table)
    return {
        "name": table.name,
        "wells": len(done.profiles.wells),
        "plates": len(done.parts),
        "features": len(done.profiles.columns),
        "written": done.written,
        "dropped": dict(done.profiles.dropped),
        "unmatched": _unmatched(dataset, done.profiles),
        "recorded": record(settings_file(root), table),
    }


@contextmanager
def _unless_it_fails(path: Path) -> Iterator[None]:
    """Put ``path`` back as it was when the block raises."""
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    except BaseException:
        if before is not None:
            path.write_bytes(before)
        else:
            path.unlink(missing_ok=True)
        raise


def _unmatched(dataset: Dataset, profiles: Profiles) -> list[str]:
    ours, theirs = (
        {f"{p}/{w}" for p, w in zip(f[PLATE], f[WELL], strict=True)} for f in (dataset.wells, profiles.wells)
    )
    both = (
        ("profiles have no row in the wells table", theirs - ours),
        ("wells have no profile", ours - theirs),
    )
    return [f"{len(names)} {what}: {shorten(sorted(names, key=natural))}" for what, names in both if names]
