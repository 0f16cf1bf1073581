"""Reading tables: CSV, TSV, Parquet and AnnData become frames with text identities and numeric readouts.

Every column whose name starts with ``Metadata_`` is text (missing is the empty string), except
``Metadata_Concentration``, which is a float. Other columns keep the numbers they hold. Names are kept
verbatim; nothing is renamed, dropped or reordered, and the frame's index is the 0-based data row.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import warnings
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.datasets.curves import is_curves, read_curves
from bench.errors import DatasetError

Format = Literal["csv", "tsv", "parquet", "h5ad", "curves"]

PREFIX = "Metadata_"
PLATE, WELL, SITE = "Metadata_Plate", "Metadata_Well", "Metadata_Site"
PERT_TYPE, DOSE, DOSE_UNIT = "Metadata_pert_type", "Metadata_Concentration", "Metadata_Concentration_unit"

_NULLS = ["", "NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "#N/A"]
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".h5ad": "h5ad",
}
_WELL = re.compile(r"([A-Za-z]{1,2})0*([1-9][0-9]?)")
_DIGITS = re.compile(r"([0-9]+)")


def is_remote(uri: str) -> bool:
    """Whether ``uri`` names a file system by a scheme (``s3://…``) rather than a path on this machine."""
    return "://" in uri


def locate(root: Path, uri: str) -> str:
    """Return ``uri`` absolute: relative paths start at ``root``; remote URIs stay as they are."""
    return uri if is_remote(uri) else os.path.abspath(root / uri)  # noqa: PTH100 - symlinks must not be resolved


def format_of(uri: str) -> Format:
    """Return the table format that the file name says, looking through ``.gz``."""
    if is_curves(uri):
        return "curves"
    name = uri.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in _SUFFIXES or (uri.lower().endswith(".gz") and _SUFFIXES[suffix] not in ("csv", "tsv")):
        raise DatasetError(f"{uri}: not a known table; use .csv, .tsv (also .gz), .parquet or .h5ad")
    return _SUFFIXES[suffix]


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts ``P2`` before ``P10``; ties break on the text itself."""
    parts = _DIGITS.split(text)
    key = [(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p]
    return (*key, (2, 0, text))


def normalise_well(text: str) -> str:
    """Return ``a1``, ``A1``, ``A001`` as ``A01``; anything that is not row letters and a column stays."""
    match = _WELL.fullmatch(text)
    return f"{match[1].upper()}{int(match[2]):02d}" if match else text


def as_text(values: Iterable[Any]) -> list[str]:
    """Return values as stripped text: missing is ``""`` and a float without fraction loses its ``.0``."""

    def one(value: Any) -> str:
        if value is None or value is pd.NA or value is pd.NaT:
            return ""
        if isinstance(value, float | np.floating):
            if math.isnan(value):
                return ""
            return str(int(value)) if float(value).is_integer() else repr(float(value))
        return str(value).strip()

    return [one(v) for v in values]


def as_number(values: Sequence[str], *, where: str, column: str) -> np.ndarray:
    """Return text as float64, empty as NaN; text that is no number is an error with its row."""
    out = np.full(len(values), np.nan)
    for row, text in enumerate(values):
        if text in _NULLS:
            continue
        try:
            out[row] = float(text)
        except ValueError:
            raise DatasetError(
                f"{where}, row {row + 1}: {column} is {text!r}, not a number; "
                f"write the number alone and its unit in {DOSE_UNIT}"
            ) from None
    return out


def column_names(uri: str) -> list[str]:
    """Return a table's column names as they stand in the file, duplicates included."""
    kind = format_of(uri)
    with _readable(uri, kind):
        if kind == "parquet":
            import pyarrow.parquet as pq

            with _open(uri) as handle:
                return [str(n) for n in pq.read_schema(handle).names]
        if kind == "h5ad":
            data = _anndata(uri)
            return [*map(str, data.obs.columns), *map(str, data.var_names)]
        if kind == "curves":
            with _open(uri) as handle:
                return list(read_curves(uri, _gunzip(uri, handle)).columns)
        with _open(uri) as handle:
            text = io.TextIOWrapper(_gunzip(uri, handle), encoding="utf-8-sig", newline="")
            names = next(csv.reader(text, delimiter=_separator(kind)), [])
    if len(names) == 1:
        _check_separator(uri, kind, names[0])
    return names


def read_frame(
    uri: str, *, text: Collection[str] = (), layer: str = "", rename: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a table whole.

    Parameters
    ----------
    uri
        Absolute path or fsspec URI of a CSV, TSV (plain or gzip), Parquet or ``.h5ad`` file, or of
        CurveCurator's ``curves.txt`` (:mod:`bench.datasets.curves`).
    text
        Columns besides ``Metadata_*`` that hold text.
    layer
        Layer of an ``.h5ad`` file; empty takes ``X``.
    rename
        New names of columns, by their names in the file; each must be there. They count from then on.

    Returns
    -------
    Identity columns as text, ``Metadata_Concentration`` as float64, others as found; of an ``.h5ad`` file
    the columns of ``obs`` and then one float32 column per ``var_name``.

    Raises
    ------
    DatasetError
        When the file is missing, cannot be read, or names a column twice.
    """
    kind = format_of(uri)
    names = column_names(uri)
    rename = dict(rename or {})
    absent = [c for c in rename if c not in names]
    if absent:
        raise DatasetError(f"{uri}: no column {shorten(absent)} to rename; it has {shorten(names)}")
    twice = duplicates(names) or duplicates(rename.get(n, n) for n in names)
    if twice:
        raise DatasetError(f"{uri}: column names occur twice ({shorten(twice)}); rename or drop one of each")
    with _readable(uri, kind):
        if kind == "h5ad":
            frame = _read_anndata(uri, layer)
        elif kind == "parquet":
            with _open(uri) as handle:
                frame = pd.read_parquet(handle).reset_index(drop=True)
        elif kind == "curves":
            with _open(uri) as handle:
                frame = read_curves(uri, _gunzip(uri, handle))
        else:
            frame = _read_delimited(uri, kind, names, (*text, *rename))
    frame.columns = pd.Index([rename.get(str(c), str(c)) for c in frame.columns], dtype=object)
    plain = {c: pd.Series(as_text(frame[c]), dtype=object) for c in frame.columns if is_identity(c, text)}
    frame = frame.assign(**plain) if plain else frame
    if DOSE in frame.columns:
        frame[DOSE] = as_number(as_text(frame[DOSE]), where=uri, column=DOSE)
    if WELL in frame.columns:
        frame[WELL] = [normalise_well(w) for w in frame[WELL]]
    return frame


def read_lines(uri: str) -> list[str]:
    """Return the lines of a text file, stripped.

    Raises
    ------
    DatasetError
        When it is missing or is not text.
    """
    try:
        with _open(uri) as handle:
            return [line.strip() for line in handle.read().decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{uri}: not a text file of one name per line") from error
    except OSError as error:
        raise DatasetError(f"{uri}: cannot be read ({error.strerror or error})") from error


def region_of(text: str) -> tuple[int, int, int, int] | None:
    """Return x, y, width and height of a ``Region`` (first column and row, size); None for another text."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        return None
    x, y, width, height = map(int, parts)
    return (x, y, width, height) if width and height else None


def is_identity(column: str, text: Collection[str] = ()) -> bool:
    """Whether a column holds text that identifies or describes a row."""
    return (column.startswith(PREFIX) and column != DOSE) or column in text


def duplicates(names: Iterable[str]) -> list[str]:
    """Return names that occur more than once, in the order in which they first repeat."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for name in names:
        if name in seen:
            twice[name] = None
        seen.add(name)
    return list(twice)


def shorten(names: Iterable[str], limit: int = 10) -> str:
    """Return up to ``limit`` names, then how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def _read_delimited(uri: str, kind: Format, names: list[str], text: Collection[str]) -> pd.DataFrame:
    identity = [n for n in names if is_identity(n, text) or n == DOSE]
    numeric = [n for n in names if n not in set(identity)]
    with _open(uri) as handle, warnings.catch_warnings():
        # A row with too many fields must not be cut silently.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame: pd.DataFrame = pd.read_csv(
            _gunzip(uri, handle),
            sep=_separator(kind),
            dtype=dict.fromkeys(identity, str),
            keep_default_na=False,
            na_values=dict.fromkeys(numeric, _NULLS),
            encoding="utf-8-sig",
            low_memory=False,
            index_col=False,
        )
        return frame


def _read_anndata(uri: str, layer: str) -> pd.DataFrame:
    data = _anndata(uri)
    if layer and layer not in data.layers:
        raise DatasetError(f"{uri}: no layer {layer!r}; it has {shorten(data.layers) or 'none but X'}")
    values = data.layers[layer] if layer else data.X
    if hasattr(values, "toarray"):
        values = values.toarray()
    readouts = pd.DataFrame(np.asarray(values, dtype=np.float32), columns=list(map(str, data.var_names)))
    frame: pd.DataFrame = pd.concat([data.obs.reset_index(drop=True), readouts], axis=1)
    return frame


def _anndata(uri: str) -> Any:
    import anndata

    if is_remote(uri):
        raise DatasetError(f"{uri}: an .h5ad table must be on a local disk; download it first")
    return anndata.read_h5ad(uri)


def _separator(kind: Format) -> str:
    return "\t" if kind == "tsv" else ","


def _check_separator(uri: str, kind: Format, header: str) -> None:
    """Refuse a single column whose name holds another separator: the table has several, misread as one."""
    own, other = ("tabs", "commas") if kind == "tsv" else ("commas", "tabs")
    if ";" in header:
        found, remedy = "semicolons", ""
    elif {"commas": ",", "tabs": "\t"}[other] in header:
        found, remedy = other, f", or name it {'.csv' if other == 'commas' else '.tsv'}"
    else:
        return
    raise DatasetError(
        f"{uri}: its columns are separated by {found}, not {own}; save it with {own} as the separator{remedy}"
    )


def _open(uri: str) -> Any:
    import fsspec

    return fsspec.open(uri, "rb").open()


def _gunzip(uri: str, handle: Any) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=handle) if uri.lower().endswith(".gz") else handle


class _readable:  # noqa: N801 - reads as a statement: with _readable(uri, kind)
    """Turn what a broken file makes libraries raise into one sentence with the file's name."""

    def __init__(self, uri: str, kind: Format) -> None:
        self.uri, self.kind = uri, kind

    def __enter__(self) -> None:
        if not is_remote(self.uri) and not Path(self.uri).is_file():
            raise DatasetError(f"{self.uri}: no such file; correct the table's path in dataset.toml")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | ValueError | EOFError | KeyError | ImportError | Warning | zlib.error):
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DatasetError(
                f"{self.uri}: cannot be read as {self.kind} ({reason}); write the file again"
            ) from error
