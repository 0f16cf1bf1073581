"""One value per well of a plate: from the platemap, stored counts and flags, readouts or features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from bench.datasets.tables import PLATE, WELL, shorten
from bench.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.datasets import Dataset, Layer
    from bench.store import Store


def values(dataset: Dataset, plate: str, column: str, store: Store | None) -> pd.Series:
    """Return the column's values of a plate by well.

    Parameters
    ----------
    dataset
        Whose plate.
    plate
        Its name.
    column
        A column of the wells table (``Metadata_Concentration``), one that is stored beside features
        (``n_cells``, ``qc_focus_DNA``, ``qc_flagged``), ``LAYER:READOUT`` or ``FEATURIZER:FEATURE``.
    store
        Where features are; None if there is none yet.

    Returns
    -------
    Numbers or text, indexed by well; of a readout, its mean over the layer's rows of the well.

    Raises
    ------
    UsageError
        For a column that stands nowhere, with those that there are.
    """
    wells = dataset.wells[dataset.wells[PLATE] == plate].set_index(WELL)
    if column in wells.columns:
        return wells[column]
    source, colon, name = column.partition(":")
    if not colon:
        return _beside(dataset, plate, column, store)
    for layer in dataset.layers:
        if layer.name == source:
            return _readout(layer, wells, name)
    return _feature(dataset, plate, source, name, store)


def _beside(dataset: Dataset, plate: str, column: str, store: Store | None) -> pd.Series:
    """Return a column that stands beside features: of the newest part, for counts one with objects."""
    found: list[pd.Series] = []
    known: set[str] = set()
    for frame, _, _ in _parts(dataset, plate, store, None):
        known |= set(frame.columns) - {PLATE, WELL}
        if column in frame.columns:
            found.append(frame.set_index(WELL)[column])
    if found:
        # Featurizers that need no objects count none.
        return next((v for v in found if column != "n_cells" or v.any()), found[0])
    raise UsageError(
        f"no column {column!r} for plate {plate!r}: the wells table has {shorten(dataset.wells.columns)}; "
        f"stored beside features are {shorten(sorted(known)) or 'none yet (bench run makes them)'}; write "
        "LAYER:READOUT or FEATURIZER:FEATURE for others"
    )


def _readout(layer: Layer, wells: pd.DataFrame, name: str) -> pd.Series:
    table = layer.read()
    if name not in table.columns or name in layer.key:
        readouts = [c for c in table.columns if c not in layer.key]
        raise UsageError(f"layer {layer.name!r} has no readout {name!r}; it has {shorten(readouts)}")
    key = [c for c in layer.key if c in wells.columns or c in (PLATE, WELL)]
    if not key:
        raise UsageError(
            f"layer {layer.name!r} is keyed by {', '.join(layer.key)}, which the wells table has not"
        )
    means = table.groupby(key, as_index=False, dropna=False)[name].mean()
    rows = wells.reset_index()[list(dict.fromkeys([WELL, *key]))]
    joined: pd.Series = rows.merge(means, on=key, how="left").set_index(WELL)[name]
    return joined


def _feature(dataset: Dataset, plate: str, featurizer: str, name: str, store: Store | None) -> pd.Series:
    parts = _parts(dataset, plate, store, featurizer)
    if not parts:
        layers = shorten([layer.name for layer in dataset.layers]) or "none"
        raise UsageError(
            f"{featurizer!r} is no readout layer (there are: {layers}), and no features of that name are "
            f"stored for plate {plate!r}; compute them with bench run --featurizer {featurizer}"
        )
    frame, matrix, columns = parts[0]
    if name not in columns:
        raise UsageError(f"{featurizer!r} has no feature {name!r}; it has {shorten(columns)}")
    return pd.Series(matrix[:, columns.index(name)], index=frame[WELL].to_numpy())


def _parts(
    dataset: Dataset, plate: str, store: Store | None, featurizer: str | None
) -> list[tuple[pd.DataFrame, NDArray[np.float32], list[str]]]:
    """Return well rows, features and their names of each stored part of the plate, the newest first."""
    from bench.featurize import identity
    from bench.store import escape, read_matrix, read_meta
    from bench.store.names import partitions
    from bench.store.parts import PART

    if store is None:
        return []
    found = []
    for folder in store.list(f"features/dataset={escape(identity(dataset))}"):
        named = partitions(folder)
        if named["plate"] == plate and featurizer in (None, named["featurizer"]):
            time = store.manifest(folder).get("provenance", {}).get("time", "")
            found.append((time, folder))
    parts = []
    for _, folder in sorted(found, reverse=True):
        path = store.path(folder) / PART
        frame, matrices = read_matrix(path)
        parts.append((frame, matrices["embedding"], list(read_meta(path)["columns"])))
    return parts
