"""Ready-made profiles (CellProfiler, pycytominer, DeepProfiler, any table): one row per well, no images.

Columns that start with ``Metadata_`` are metadata; everything else must be a number and is a feature.
Nothing else is guessed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.datasets.load import with_plate_and_well
from bench.datasets.model import NONFINITE, Nonfinite
from bench.datasets.settings import quoted
from bench.datasets.tables import PLATE, PREFIX, WELL, read_frame, shorten
from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.datasets.model import ProfileTable


@dataclass(frozen=True, eq=False)
class Profiles:
    """Profiles of wells.

    Parameters
    ----------
    wells
        N rows of ``Metadata_`` columns, unique in plate and well.
    X
        (N, D) float32, finite.
    columns
        D names, as in the table.
    digest
        sha256 of the wells, column names and values: the same content in another file format keeps it.
    dropped
        Columns left out by ``nonfinite = drop-columns``, with their number of non-finite values.
    """

    wells: pd.DataFrame
    X: NDArray[np.float32]
    columns: tuple[str, ...]
    digest: str
    dropped: Mapping[str, int] = field(default_factory=dict)


def read_profiles(
    uri: str | Path,
    *,
    perturbation: str = "",
    nonfinite: Nonfinite = "refuse",
    rename: Mapping[str, str] | None = None,
) -> Profiles:
    """Read a table of profiles.

    Parameters
    ----------
    uri
        CSV, TSV (also .gz), Parquet or ``.h5ad``.
    perturbation
        The dataset's perturbation column; it stands for plate and well where the table has neither.
    nonfinite
        What to do about NaN and infinite features: ``refuse``, or ``drop-columns`` that have any.
    rename
        New names of columns by their names in the file.

    Raises
    ------
    DatasetError
        For text columns without the prefix, non-finite features that are refused, wells that occur twice,
        or a table without features.
    """
    uri = os.path.abspath(uri) if "://" not in str(uri) else str(uri)  # noqa: PTH100 - symlinks stay
    if nonfinite not in NONFINITE:
        raise DatasetError(f"nonfinite is {nonfinite!r}; choose one of {', '.join(NONFINITE)}")
    frame = read_frame(uri, rename=rename)
    names = [c for c in frame.columns if not c.startswith(PREFIX)]
    text = [c for c in names if not pd.api.types.is_numeric_dtype(frame[c])]
    if text:
        first = frame[text[0]].dropna().astype(str)
        raise DatasetError(
            f"{uri}: columns that hold text and lack the {PREFIX} prefix ({shorten(text)}; the first holds "
            f"{first.iloc[0] if len(first) else 'nothing'!r}); drop them or rename them, "
            f"e.g. --rename {text[0]}={PREFIX}{text[0]}"
        )
    if not names:
        raise DatasetError(f"{uri}: no feature column; every column starts with {PREFIX}")
    wells = with_plate_and_well(frame[[c for c in frame.columns if c.startswith(PREFIX)]], uri, perturbation)
    twice = np.flatnonzero(wells.duplicated([PLATE, WELL]).to_numpy())
    if twice.size:
        plate, well = wells[[PLATE, WELL]].iloc[twice[0]]
        raise DatasetError(
            f"{uri}, row {twice[0] + 1}: well {plate}/{well} occurs twice ({twice.size} such rows); "
            "average its rows first"
        )
    with np.errstate(over="ignore"):
        X = frame[names].to_numpy(np.float32, na_value=np.nan)
    bad = (~np.isfinite(X)).sum(axis=0)
    dropped = {names[i]: int(bad[i]) for i in np.flatnonzero(bad)}
    if dropped and nonfinite == "refuse":
        raise DatasetError(
            f"{uri}: NaN or infinite values in {len(dropped)} of {len(names)} features "
            f"({shorten(f'{n}: {k}' for n, k in dropped.items())}); correct them, or leave these columns out "
            'with --nonfinite drop-columns (in dataset.toml: nonfinite = "drop-columns")'
        )
    if len(dropped) == len(names):
        raise DatasetError(f"{uri}: every feature has NaN or infinite values; nothing is left")
    X = np.ascontiguousarray(X[:, bad == 0])
    columns = tuple(n for n in names if n not in dropped)
    return Profiles(wells, X, columns, _digest(wells, X, columns), dropped)


def read_table(table: ProfileTable, perturbation: str) -> Profiles:
    """Read a dataset's own profile table with the settings it was recorded with."""
    return read_profiles(
        table.table, perturbation=perturbation, nonfinite=table.nonfinite, rename=table.rename
    )


def record(file: Path, table: ProfileTable) -> bool:
    """Append ``table`` to the ``[[features]]`` of a ``dataset.toml``, leaving every byte of it as it is.

    Returns
    -------
    False when the same entry is already there.

    Raises
    ------
    DatasetError
        When another table has that name, or the file cannot be written.
    """
    from bench.datasets.load import load

    for known in load(file).features:
        if known.name == table.name:
            if known == table:
                return False
            raise DatasetError(
                f"{file}: [[features]] {table.name!r} is {known.table}; "
                "choose another --name or remove that entry"
            )
    root, own = file.parent.absolute(), Path(table.table)
    path = own.relative_to(root).as_posix() if own.is_relative_to(root) else table.table
    lines = ["", "[[features]]", f"name = {quoted(table.name)}", f"table = {quoted(path)}"]
    if table.nonfinite != "refuse":
        lines.append(f"nonfinite = {quoted(table.nonfinite)}")
    if table.rename:
        pairs = ", ".join(f"{quoted(k)} = {quoted(v)}" for k, v in table.rename.items())
        lines.append(f"rename = {{ {pairs} }}")
    entry = "\n".join(lines) + "\n"
    target = file.resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        old = target.read_bytes()
        new = old + (b"" if old.endswith(b"\n") else b"\n") + entry.encode()
        tomllib.loads(new.decode())
        draft.write_bytes(new)
        shutil.copymode(target, draft)
        draft.replace(target)
    except tomllib.TOMLDecodeError as error:
        raise DatasetError(
            f"{file}: {table.name!r} cannot be appended as [[features]] ({error}); add it by hand"
        ) from error
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DatasetError(f"{file}: cannot be written ({error.strerror}); make it writable") from error
    return True


def _digest(wells: pd.DataFrame, X: NDArray[np.float32], columns: tuple[str, ...]) -> str:
    sha = hashlib.sha256()
    text = {c: [str(v) for v in wells[c]] for c in sorted(wells.columns)}
    sha.update(json.dumps([text, columns, X.shape], sort_keys=True).encode())
    sha.update(X.astype("<f4", copy=False).tobytes())
    return sha.hexdigest()
