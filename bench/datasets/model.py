"""What a dataset is in memory: frames, readout layers and ready-made profiles. No pixel is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.datasets.tables import PREFIX, duplicates, read_frame, shorten
from bench.errors import DatasetError
from featurizers.base import Channel
from tasks.prepare import Step

Kind = Literal["abundance", "regulation", "target"]
Scale = Literal["counts", "log", "ratio", "z"]
JoinRule = Literal["aggregate", "broadcast"]
DoseRule = Literal["each", "mean", "top"]
Nonfinite = Literal["refuse", "drop-columns"]

KINDS: tuple[Kind, ...] = ("abundance", "regulation", "target")
SCALES: tuple[Scale, ...] = ("counts", "log", "ratio", "z")
JOINS: tuple[JoinRule, ...] = ("aggregate", "broadcast")
DOSE_RULES: tuple[DoseRule, ...] = ("each", "mean", "top")
NONFINITE: tuple[Nonfinite, ...] = ("refuse", "drop-columns")

Rule = Literal["", "max", "mean"]
PROJECTIONS: tuple[Rule, ...] = ("", "max", "mean")

_CALLS = {"up": 1.0, "down": -1.0, "not": 0.0, "": np.nan, "missing": np.nan}


@dataclass(frozen=True)
class Layer:
    """A matrix of readouts: which rows of the wells table it speaks of, and how it meets them.

    Parameters
    ----------
    table
        Absolute path or URI of its file.
    key
        Metadata columns that identify a row.
    prepared
        What filter and normalisation the values have had, in words.
    readouts
        Columns to take; empty takes every column that is neither in ``key``, ``Metadata_*`` nor excluded.
    h5ad_layer
        Layer of an ``.h5ad`` table; empty takes ``X``.
    prepare
        Steps that are applied before the rows meet wells; ``scale`` and ``key`` are those of the table.
    panel
        Absolute path of the list of readouts that a ``panel`` step names; empty without.
    """

    name: str
    table: str
    kind: Kind
    scale: Scale
    key: tuple[str, ...]
    join: JoinRule = "aggregate"
    dose_rule: DoseRule = "each"
    fit_by: tuple[str, ...] = ()
    score_by: tuple[str, ...] = ()
    prepared: str = ""
    readouts: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    h5ad_layer: str = ""
    prepare: tuple[Step, ...] = ()
    panel: str = ""

    def read(self) -> pd.DataFrame:
        """Return the key columns and one float32 column per readout, in the file's order of rows.

        Regulation calls may be the words ``up``, ``down``, ``not``; they become 1, -1, 0 (empty: NaN).

        Raises
        ------
        DatasetError
            When a key column or named readout is absent, or a readout holds text.
        """
        frame = read_frame(self.table, text=self.key, layer=self.h5ad_layer)
        for column in self.key:
            if column not in frame.columns:
                raise DatasetError(
                    f"{self.table}: no column {column!r}, which layer {self.name!r} names as key"
                )
        absent = [r for r in self.readouts if r not in frame.columns]
        if absent:
            raise DatasetError(f"{self.table}: no readout {shorten(absent)}, which layer {self.name!r} lists")
        names = self.readouts or tuple(
            c
            for c in frame.columns
            if c not in self.key and c not in self.exclude and not c.startswith(PREFIX)
        )
        if not names:
            raise DatasetError(
                f"{self.table}: layer {self.name!r} has no readout column; all are key or excluded"
            )
        if duplicates(names):
            raise DatasetError(f"layer {self.name!r} lists readouts twice: {shorten(duplicates(names))}")
        plain = [n for n, d in zip(names, frame.dtypes[list(names)], strict=True) if d.kind in "biuf"]
        values = np.empty((len(frame), len(names)), np.float32)
        if len(plain) == len(names):
            values[:] = frame[list(names)].to_numpy(np.float32)
        else:
            for at, name in enumerate(names):
                values[:, at] = self._numbers(frame[name])
        out: pd.DataFrame = pd.concat(
            [frame[list(self.key)], pd.DataFrame(values, columns=list(names))], axis=1
        )
        return out

    def _numbers(self, column: pd.Series) -> Any:
        if column.dtype.kind in "biuf":
            return column.to_numpy(np.float32)
        if isinstance(column.dtype, pd.api.extensions.ExtensionDtype) and pd.api.types.is_numeric_dtype(
            column
        ):
            return column.to_numpy(np.float32, na_value=np.nan)
        if self.kind == "regulation":
            words = ["" if pd.isna(v) else str(v).strip().lower() for v in column]
            if all(w in _CALLS for w in words):
                return np.array([_CALLS[w] for w in words], np.float32)
        numbers = pd.to_numeric(column, errors="coerce")
        bad = np.flatnonzero(numbers.isna().to_numpy() & column.notna().to_numpy())
        if bad.size == 0:
            return numbers.to_numpy(np.float32)
        raise DatasetError(
            f"{self.table}, row {bad[0] + 1}: readout {column.name!r} of layer {self.name!r} is "
            f"{column.iloc[bad[0]]!r}, not a number; correct it, or list the column under exclude"
        )


@dataclass(frozen=True)
class ProfileTable:
    """Ready-made profiles that came with the dataset: one row per well, metadata and features.

    Parameters
    ----------
    table
        Absolute path or URI of its file.
    nonfinite
        ``refuse`` NaN and infinite features, or ``drop-columns`` that have any.
    rename
        New names of columns by their names in the file, e.g. ``{"broad_id": "Metadata_Compound"}``.
    """

    name: str
    table: str
    nonfinite: Nonfinite = "refuse"
    rename: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset folder, read: its tables as frames and its settings.

    Parameters
    ----------
    images
        One row per image plane: ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Site``, ``Channel`` (text),
        ``URI`` (absolute path or fsspec URI), ``Plane`` (int64, 0-based), and for z-stacks ``Z``
        (text, the plane's place in its stack), and for parts of large images ``Region`` (text, the part's
        ``x,y,width,height`` in pixels; empty: all). None without images.
    projection
        Rule that makes one plane of a z-stack; empty where there are none.
    illumination
        One row per plate and channel: ``Metadata_Plate``, ``Channel``, ``URI`` of the function that its
        images are divided by. None without.
    wells
        One row per well: ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_pert_type``, the perturbation
        column and other ``Metadata_*`` text; ``Metadata_Concentration`` float64.
    perturbation
        The column of ``wells`` that names the perturbation.
    imaging
        Settings of the segmentation, passed on.
    latent, truth
        A simulated screen's true state per well and per readout; None for real data.
    files
        Table name (``"wells"``, ``"layers/rna"``) to its absolute path, for digests and messages.
    settings
        ``dataset.toml`` as parsed.
    """

    name: str
    version: str
    root: Path
    channels: tuple[Channel, ...]
    bit_depth: int
    pixel_size_um: float | None
    images: pd.DataFrame | None
    wells: pd.DataFrame
    perturbation: str
    layers: tuple[Layer, ...] = ()
    features: tuple[ProfileTable, ...] = ()
    latent: pd.DataFrame | None = None
    truth: pd.DataFrame | None = None
    imaging: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    projection: Rule = ""
    illumination: pd.DataFrame | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; an unknown name is an error that lists those there are."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = shorten(sorted(layer.name for layer in self.layers)) or "none"
        raise DatasetError(f"dataset {self.name!r} has no readout layer {name!r}; it has: {known}")

    def identities(self, wells: pd.DataFrame) -> list[str]:
        """Return the perturbation of each row; see :func:`bench.datasets.identity.identities`."""
        from bench.datasets.identity import identities

        return identities(wells, self.perturbation)

    def digest(self) -> str:
        """Return the sha256 of the settings and of every table's bytes, ``[[features]]`` left out.

        Moving the folder, a comment in ``dataset.toml`` or importing profiles does not change it.
        """
        from bench.datasets.manifest import dataset_digest

        return dataset_digest(self)
