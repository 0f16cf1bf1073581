"""CurveCurator's ``curves.txt``: dose-response curves become regulation calls of a readout layer.

A file has one row per curve (a protein in one compound's experiment), tab-separated, with the decision of the
fit in ``Curve Regulation``: ``up``, ``down``, ``not``, or empty where the curve is unclassified (Bayer et al.
2023, Nat. Commun. 14, 7902). Empty is missing: neither regulated nor not. CurveCurator writes one file per
compound; :func:`combine` makes one table of several, which a layer then names as its table.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import DatasetError

SUFFIX = "curves.txt"
"""A table whose name ends so (or so and ``.gz``) is read here."""

CALL = "Curve Regulation"
CALLS = {"up": 1.0, "down": -1.0, "not": 0.0, "": np.nan}
NAMES = ("Genes", "Proteins", "Name")
"""Columns that may name a curve; the first that is filled and unique within every compound does."""

PREFIX = "Metadata_"


def is_curves(uri: str) -> bool:
    """Whether a table's name says that it is CurveCurator's."""
    return uri.lower().removesuffix(".gz").endswith(SUFFIX)


def read_curves(uri: str, handle: Any) -> pd.DataFrame:
    """Read calls as a wide table.

    Parameters
    ----------
    uri
        Name for messages.
    handle
        The file's bytes, open for reading, decompressed.

    Returns
    -------
    DataFrame
        One row per distinct combination of the ``Metadata_*`` columns (text), in order of appearance, and one
        float32 column per curve name: 1 up, -1 down, 0 not, NaN unclassified or without a curve.

    Raises
    ------
    DatasetError
        When the file is cut off, lacks a column, holds an unknown call, or names a curve twice.
    """
    table = _parse(uri, handle.read())
    keys = [c for c in table.columns if c.startswith(PREFIX)]
    if not keys:
        raise DatasetError(
            f"{uri}: no Metadata_ column says which compound its curves are of; "
            "combine one file per compound with bench.datasets.curves.combine"
        )
    words = table[CALL].str.strip().str.lower()
    unknown = np.flatnonzero(~words.isin(CALLS))
    if unknown.size:
        row = int(unknown[0])
        raise DatasetError(
            f"{uri}, row {row + 1}: {CALL} is {table[CALL].iloc[row]!r}; it must be up, down, not or empty"
        )
    units = pd.MultiIndex.from_frame(table[keys])
    unit, rows = pd.factorize(units)
    column, names = pd.factorize(_names(uri, table, unit))
    values = np.full((len(rows), len(names)), np.nan, np.float32)
    values[unit, column] = words.map(CALLS).to_numpy(np.float32)
    identity = pd.DataFrame(rows.tolist(), columns=keys, dtype=object)
    return pd.concat([identity, pd.DataFrame(values, columns=list(names))], axis=1)


def combine(files: Mapping[str, Path], out: Path, column: str = "Metadata_Compound") -> None:
    """Write one table of several ``curves.txt``, with the compound of each in front.

    Parameters
    ----------
    files
        Compound to its file.
    out
        A name that ends in ``curves.txt``.
    column
        Column that holds the compound.

    Raises
    ------
    DatasetError
        When a file is cut off or lacks a column, or ``out`` has another ending.
    """
    if not is_curves(str(out)) or out.suffix == ".gz":
        raise DatasetError(f"{out}: name it so that it ends in {SUFFIX}, by which it is recognised")
    parts = []
    for compound, path in files.items():
        try:
            table = _parse(str(path), path.read_bytes())
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror}); correct its path") from error
        kept = [c for c in NAMES if c in table.columns]
        parts.append(table[[*kept, CALL]].assign(**{column: compound}))
    if not parts:
        raise DatasetError(f"{out}: there is no file to combine")
    whole = pd.concat(parts, ignore_index=True).fillna("")
    ordered = [column, *(c for c in NAMES if c in whole.columns), CALL]
    whole[ordered].to_csv(out, sep="\t", index=False, lineterminator="\n")


def _parse(uri: str, data: bytes) -> pd.DataFrame:
    """Parse the columns that are needed, as text; a row or file that ends early is an error."""
    lines = data.replace(b"\r\n", b"\n").split(b"\n")
    if not data or lines[-1]:
        raise DatasetError(f"{uri}: it does not end in a line break, so it was cut off; copy it again")
    lines.pop()
    width = lines[0].count(b"\t")
    for number, line in enumerate(lines):
        found = line.count(b"\t")
        if found != width:
            raise DatasetError(
                f"{uri}, row {number}: {found + 1} fields where the header has {width + 1}, so the file was "
                "cut off or altered; copy it again"
            )
    header = lines[0].decode("utf-8-sig").split("\t")
    if CALL not in header:
        raise DatasetError(
            f"{uri}: no column {CALL!r}; run CurveCurator with alpha and fc_lim so that it classifies curves"
        )
    if not any(name in header for name in NAMES):
        raise DatasetError(f"{uri}: no column {', '.join(NAMES[:-1])} or {NAMES[-1]} names the curves")
    if len(lines) == 1:
        raise DatasetError(f"{uri}: no curve follows its header, so it was cut off; copy it again")
    wanted = [c for c in header if c in (*NAMES, CALL) or c.startswith(PREFIX)]
    text = b"\n".join(lines).decode("utf-8-sig")
    table: pd.DataFrame = pd.read_csv(
        io.StringIO(text), sep="\t", usecols=wanted, dtype=str, keep_default_na=False, quoting=3
    )
    return table


def _names(uri: str, table: pd.DataFrame, unit: np.ndarray) -> pd.Series:
    """Name of each curve, unique within its unit."""
    reason = ""
    for column in (c for c in NAMES if c in table.columns):
        names = table[column].str.strip()
        twice = pd.DataFrame({"unit": unit, "name": names}).duplicated()
        if (names != "").all() and not twice.any():
            return names
        row = int(np.flatnonzero((names == "") | twice)[0])
        what = f"{names[row]!r} twice for one compound" if names[row] else "no name"
        reason = reason or f"{uri}, row {row + 1}: {column} has {what}"
    raise DatasetError(f"{reason}; keep one curve per name, or add a unique column Name")
