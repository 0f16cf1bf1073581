"""Feature parts: the rows of one plate under one key, and the FeatureSet read back from all plates.

A part is ``features/dataset=…/featurizer=…/key=…/plate=…/images=…/`` with ``part.parquet`` (one row per well)
and, for featurizers of cells, ``cells.parquet``. Its footer repeats the folder's names, the plate's own key
and the column names; they are compared with the manifest and the folder at every read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import StoreError
from bench.store.keys import digest
from bench.store.manifest import REMEDY
from bench.store.names import escape, partitions
from bench.store.store import Store
from bench.store.tables import read_matrix, read_meta, write_matrix

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

PART = "part.parquet"
CELLS = "cells.parquet"
_CELL_ORDER = ("Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber")


@dataclass(frozen=True, slots=True)
class PartKey:
    """Where a plate's features stand.

    Parameters
    ----------
    dataset, featurizer, plate
        Any text.
    key
        Digest of all that can change a number but the images.
    images
        Digest of what is read of the plate (relative paths and content hashes of its images), so that changed
        images make another part; empty for ready-made profiles, which have none.
    """

    dataset: str
    featurizer: str
    key: str
    plate: str
    images: str = ""

    @property
    def folder(self) -> str:
        """The part's folder in the store."""
        above = _folder(self.dataset, self.featurizer, self.key)
        return f"{above}/plate={escape(self.plate)}/images={escape(self.images)}"

    @property
    def plate_key(self) -> str:
        """The plate's own key: the folder's key with the plate and its images."""
        return digest({"key": self.key, "plate": self.plate, "images": self.images})


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of wells, immutable.

    Parameters
    ----------
    wells
        N rows sorted by plate and well: ``Metadata_Plate``, ``Metadata_Well`` and whatever was stored.
    X
        (N, D) float32, raw and finite.
    columns
        D names.
    manifests
        One per plate, in the plates' order.
    """

    wells: pd.DataFrame
    X: NDArray[np.float32]
    columns: tuple[str, ...]
    manifests: tuple[dict[str, Any], ...]


def write_part(
    store: Store,
    part: PartKey,
    wells: pd.DataFrame,
    values: NDArray[np.floating[Any]],
    columns: Sequence[str],
    extra: Mapping[str, Any],
    cells: tuple[pd.DataFrame, NDArray[np.floating[Any]]] | None = None,
) -> bool:
    """Commit the features of one plate; rows are sorted by well.

    Parameters
    ----------
    store, part
        Where to.
    wells
        n rows: ``Metadata_Well`` (unique) and whatever describes the wells (``n_fields``, ``n_cells``,
        QC flags). ``Metadata_Plate`` is filled in.
    values
        (n, D), stored as float32; NaN and infinities are refused.
    columns
        D unique names.
    extra
        For the manifest: ``key_document`` (its digest is ``part.key``), ``provenance``, and further plain
        values (coverage, failures).
    cells
        Rows per cell, as (frame with ``Metadata_Well``, (m, D) values); kept beside the part.

    Returns
    -------
    bool
        False when the same part was already there.

    Raises
    ------
    StoreError
        When the rows are wrong or the disk refuses.
    """
    if store.has(part.folder):
        return False
    names = tuple(columns)
    frame, X = _rows(part, wells, values, names, "well")
    if frame["Metadata_Well"].duplicated().any():
        twice = frame.loc[frame["Metadata_Well"].duplicated(), "Metadata_Well"].iloc[0]
        msg = f"well {twice} of plate {part.plate!r} has features more than once: aggregate its rows first"
        raise StoreError(msg)
    cell_rows = None if cells is None else _rows(part, *cells, names, "cell")
    footer = {**asdict(part), "plate_key": part.plate_key, "columns": names}

    def write(folder: Path) -> None:
        write_matrix(folder / PART, frame, {"embedding": X}, footer)
        if cell_rows is not None:
            write_matrix(folder / CELLS, cell_rows[0], {"embedding": cell_rows[1]}, footer)

    manifest = {
        **extra,
        "key": part.key,
        "plate_key": part.plate_key,
        "rows": len(frame),
        "width": len(names),
    }
    return store.commit(part.folder, write, manifest)


def read_features(
    store: Store, dataset: str, featurizer: str, key: str, plates: Sequence[str] | None = None
) -> FeatureSet:
    """Read the features of some plates (default: all that are committed), sorted by plate and well.

    Raises
    ------
    StoreError
        When a plate is absent or there in two states of its images, or a part is damaged, misplaced or has
        other columns than the rest.
    """
    there = store.list(_folder(dataset, featurizer, key))
    by_plate: dict[str, list[str]] = {plate: [] for plate in plates or ()}
    for folder in there:
        plate = partitions(folder)["plate"]
        if plates is None or plate in by_plate:
            by_plate.setdefault(plate, []).append(folder)
    absent = [plate for plate, folders in by_plate.items() if not folders]
    if absent or not by_plate:
        what = f"plate {absent[0]!r} of {dataset!r}" if absent else repr(dataset)
        msg = f"no features of {featurizer!r} on {what} under key {key} in {store.root}: run bench run first"
        raise StoreError(msg)
    for plate, folders in by_plate.items():
        if len(folders) > 1:
            msg = (
                f"{store.root} holds features of plate {plate!r} from {len(folders)} states of its images: "
                "name the one that is meant with read_parts"
            )
            raise StoreError(msg)
    return read_folders(store, [folders[0] for folders in by_plate.values()])


def read_parts(store: Store, parts: Iterable[PartKey]) -> FeatureSet:
    """Read the features of these parts (at least one), sorted by plate and well.

    Raises
    ------
    StoreError
        When a part is absent, damaged, misplaced or has other columns than the rest.
    """
    return read_folders(store, [part.folder for part in parts])


def read_cells(store: Store, part: PartKey) -> tuple[pd.DataFrame, NDArray[np.float32], tuple[str, ...]]:
    """Return the rows per cell of one plate: frame (m rows), (m, D) values and D column names.

    Raises
    ------
    StoreError
        When the plate or its cells are absent or damaged.
    """
    if CELLS not in store.manifest(part.folder)["files"]:
        msg = f"{store.root / part.folder} holds no rows per cell: its featurizer made rows per field"
        raise StoreError(msg)
    return _read(store, part.folder, CELLS)[1:]


def footer_fault(meta: Mapping[str, Any], folder: str, manifest: Mapping[str, Any]) -> str | None:
    """Return how the footer of a feature file disagrees with its folder or its manifest, or None."""
    for name, value in partitions(folder).items():
        if meta.get(name) != value:
            return f"its footer says {name}={meta.get(name)!r} and its folder {value!r}"
    if meta.get("plate_key") != manifest.get("plate_key"):
        return (
            f"its footer has plate key {meta.get('plate_key')} and its manifest {manifest.get('plate_key')}"
        )
    return None


def read_folders(store: Store, folders: Sequence[str]) -> FeatureSet:
    """Read the features of parts by their folders (at least one), as :func:`read_parts` does."""
    import pandas as pd

    frames, blocks, manifests = [], [], []
    columns: tuple[str, ...] | None = None
    for folder in sorted(folders, key=lambda f: partitions(f)["plate"]):
        manifest, frame, X, names = _read(store, folder, PART)
        if columns is not None and names != columns:
            msg = f"{store.root / folder / PART} has other columns than the plates before it: read them apart"
            raise StoreError(msg)
        columns = names
        frames.append(frame)
        blocks.append(X)
        manifests.append(manifest)
    if columns is None:
        msg = f"no part of {store.root} was named: name at least one"
        raise StoreError(msg)
    return FeatureSet(pd.concat(frames, ignore_index=True), np.concatenate(blocks), columns, tuple(manifests))


def _read(
    store: Store, folder: str, name: str
) -> tuple[dict[str, Any], pd.DataFrame, NDArray[np.float32], tuple[str, ...]]:
    manifest = store.manifest(folder)
    path = store.path(folder) / name
    meta = read_meta(path)
    fault = footer_fault(meta, folder, manifest)
    if fault is not None:
        msg = f"{path} belongs elsewhere ({fault}): {REMEDY}"
        raise StoreError(msg)
    frame, matrices = read_matrix(path)
    return manifest, frame, matrices["embedding"], tuple(meta["columns"])


def _rows(
    part: PartKey, frame: pd.DataFrame, values: NDArray[np.floating[Any]], columns: tuple[str, ...], row: str
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Return the sorted frame with its plate and the float32 values in the same order, checked."""
    where = f"the {row} features of plate {part.plate!r}"
    if "Metadata_Well" not in frame.columns:
        msg = f"{where} have no Metadata_Well column: say which well each row is of"
        raise StoreError(msg)
    plates = frame.get("Metadata_Plate")
    if plates is not None and (plates != part.plate).any():
        other = plates[plates != part.plate].iloc[0]
        msg = f"{where} hold rows of plate {other!r}: write each plate as its own part"
        raise StoreError(msg)
    if len(set(columns)) != len(columns) or not columns:
        msg = (
            f"{where} have {len(columns)} column names, {len(set(columns))} of them different: name each once"
        )
        raise StoreError(msg)
    if values.shape != (len(frame), len(columns)):
        msg = f"{where} have shape {values.shape}: it must be {len(frame)} rows by {len(columns)} columns"
        raise StoreError(msg)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite and is refused below
        X = np.asarray(values, np.float32)
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        i, j = bad[0]
        msg = (
            f"{where} hold {X[i, j]} in column {columns[j]!r} of well {frame['Metadata_Well'].iloc[i]!r} "
            f"({len(bad)} such values): a featurizer must return finite numbers"
        )
        raise StoreError(msg)
    by = [name for name in _CELL_ORDER if name in frame.columns]
    keys = [frame[name].map(str) if frame[name].dtype == object else frame[name] for name in reversed(by)]
    order = np.lexsort([k.to_numpy() for k in keys])
    sorted_frame = frame.iloc[order].reset_index(drop=True)
    sorted_frame["Metadata_Plate"] = part.plate
    first = ["Metadata_Plate", "Metadata_Well"]
    return sorted_frame[first + [c for c in sorted_frame.columns if c not in first]], X[order]


def _folder(dataset: str, featurizer: str, key: str) -> str:
    return f"features/dataset={escape(dataset)}/featurizer={escape(featurizer)}/key={escape(key)}"
