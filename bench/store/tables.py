"""Frames and float32 matrices as Parquet files whose bytes depend on nothing but their content.

A file's footer holds one canonical JSON text under ``wellbench``: schema_version, the column names, which of
them are matrices (fixed-size lists of float32), the writer's ``meta``, and a sha256 over these. Pages are
zstd and carry checksums. Both are verified at read. Row groups are cut by size alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import StoreError
from bench.store.faults import disk, sentence
from bench.store.keys import canonical_json, digest
from bench.store.manifest import REMEDY

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SCHEMA_VERSION = 1
FOOTER = b"wellbench"
_GROUP_BYTES = 1 << 26


def write_table(path: Path, frame: pd.DataFrame, meta: Mapping[str, Any]) -> None:
    """Write ``frame`` (its index is dropped) and ``meta`` (plain values) to the Parquet file ``path``.

    NaN and None are both missing. Raises :class:`StoreError` for column names that are not unique text and
    for columns that mix types.
    """
    write_matrix(path, frame, {}, meta)


def read_table(path: Path) -> pd.DataFrame:
    """Return the frame that :func:`write_table` wrote; raise :class:`StoreError` if the file is not whole."""
    return read_matrix(path)[0]


def write_matrix(
    path: Path, index: pd.DataFrame, values: Mapping[str, NDArray[np.float32]], meta: Mapping[str, Any]
) -> None:
    """Write m rows: the columns of ``index`` and, per name in ``values``, one column of float32 vectors.

    Parameters
    ----------
    path
        New Parquet file.
    index
        m rows of plain columns (text, numbers, booleans, times); its index is dropped.
    values
        Name to (m, T) float32, T at least 1, T free to differ by name; NaN stays NaN.
    meta
        Plain values for the footer, see :func:`read_meta`.

    Raises
    ------
    StoreError
        When shapes, names or types do not fit, or the disk refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*index.columns, *values]
    plain = names[: len(index.columns)]
    _check_names(path, names)
    columns = [_plain_column(path, str(name), index[name]) for name in index.columns]
    columns += [_vector_column(path, name, matrix, len(index)) for name, matrix in values.items()]
    footer = {"schema_version": SCHEMA_VERSION, "columns": names, "matrices": list(values), "meta": meta}
    footer["sha256"] = digest(footer)
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in zip(names, columns, strict=True)],
        metadata={FOOTER: canonical_json(footer)},
    )
    table = pa.Table.from_arrays(columns, schema=schema)
    row_bytes = sum(4 * matrix.shape[1] for matrix in values.values()) + 8 * len(index.columns) + 1
    with disk(path, "write"):
        pq.write_table(
            table,
            path,
            version="2.6",
            data_page_version="1.0",
            compression="zstd",
            compression_level=3,
            use_dictionary=plain,
            write_statistics=plain,
            row_group_size=max(1, _GROUP_BYTES // row_bytes),
            write_page_checksum=True,
        )


def read_matrix(path: Path) -> tuple[pd.DataFrame, dict[str, NDArray[np.float32]]]:
    """Return the index frame (m rows) and the (m, T) float32 matrices that :func:`write_matrix` wrote.

    Raises
    ------
    StoreError
        When the file is absent, not whole, not ours, or of a newer schema.
    """
    footer = _footer(path)
    return _READERS[footer["schema_version"]](path, footer)


def read_meta(path: Path) -> dict[str, Any]:
    """Return the ``meta`` in the footer of a file of :func:`write_table` or :func:`write_matrix`."""
    return dict(_footer(path)["meta"])


def column_names(path: Path) -> list[str]:
    """Return the column names of any Parquet file; raise :class:`StoreError` if it is not whole."""
    import pyarrow.parquet as pq

    with _whole(path):
        return list(pq.read_schema(path).names)


def _read_v1(path: Path, footer: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, NDArray[np.float32]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _whole(path):
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    matrices = footer["matrices"]
    vectors = {
        name for name in table.column_names if pa.types.is_fixed_size_list(table.schema.field(name).type)
    }
    if table.column_names != footer["columns"] or vectors != set(matrices):
        msg = f"{path} is damaged (its columns are not those that its footer names): {REMEDY}"
        raise StoreError(msg)
    values = {name: _matrix(table.column(name)) for name in matrices}
    return table.drop_columns(matrices).to_pandas(ignore_metadata=True), values


_READERS: dict[
    int, Callable[[Path, Mapping[str, Any]], tuple[pd.DataFrame, dict[str, NDArray[np.float32]]]]
] = {1: _read_v1}


def _footer(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    with _whole(path):
        metadata = pq.read_metadata(path).metadata or {}
    if FOOTER not in metadata:
        msg = f"{path} has no wellbench footer, so no writer of ours made it: {REMEDY}"
        raise StoreError(msg)
    try:
        footer: dict[str, Any] = json.loads(metadata[FOOTER])
        whole = footer.pop("sha256") == digest(footer)
    except (ValueError, KeyError, AttributeError):
        whole = False
    if not whole:
        msg = f"{path} is damaged (its footer was changed): {REMEDY}"
        raise StoreError(msg)
    version = footer["schema_version"]
    if version not in _READERS:
        msg = f"{path} has table schema {version}, later than {SCHEMA_VERSION}: install a newer wellbench"
        raise StoreError(msg)
    return footer


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged or unreadable file into a :class:`StoreError`."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StoreError(sentence(error, path, "read")) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        msg = f"{path} is damaged ({reason}): {REMEDY}"
        raise StoreError(msg) from error


def _check_names(path: Path, names: list[Any]) -> None:
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or name in seen:
            msg = f"{path} cannot have the column {name!r}: names must be text and each stand once"
            raise StoreError(msg)
        seen.add(name)


def _plain_column(path: Path, name: str, column: pd.Series) -> Any:
    import pyarrow as pa

    try:
        array = pa.Array.from_pandas(column)
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        UnicodeEncodeError,
        OverflowError,
    ) as error:
        msg = f"the column {name!r} of {path} is not of one plain type ({error}): convert it"
        raise StoreError(msg) from error
    # A column without a value has no type of its own; text keeps the schema the same for every file.
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _vector_column(path: Path, name: str, matrix: NDArray[np.float32], rows: int) -> Any:
    import pyarrow as pa

    if matrix.dtype != np.float32 or matrix.ndim != 2 or matrix.shape[0] != rows or matrix.shape[1] < 1:
        msg = (
            f"the matrix {name!r} of {path} has shape {matrix.shape} and type {matrix.dtype}: "
            f"it must be float32 with {rows} rows and at least one column"
        )
        raise StoreError(msg)
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _matrix(column: Any) -> NDArray[np.float32]:
    width = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width) for chunk in column.chunks]
    return np.concatenate([np.zeros((0, width), np.float32), *chunks])
