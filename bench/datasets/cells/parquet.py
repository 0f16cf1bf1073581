"""CytoTable's Parquet: one row per cell, compartments side by side already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.datasets.cells.model import (
    COMPARTMENTS,
    Block,
    check_columns,
    describe,
    find_wells,
    is_feature,
    is_image_feature,
)
from bench.datasets.tables import PLATE, WELL, shorten
from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 4096
IMAGE_NUMBERS = ("Metadata_ImageNumber", "ImageNumber", "Image_ImageNumber")
TABLE_NUMBERS = ("Metadata_TableNumber", "TableNumber")


class ParquetReader:
    """A CytoTable file; see :class:`~.model.Reader`. Rows may come in any order."""

    layout = "cytotable-parquet"

    def __init__(
        self, path: Path, compartments: Sequence[str] = COMPARTMENTS, rename: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        names = parquet_names(path)
        number = next((n for n in IMAGE_NUMBERS if n in names), None)
        if number is None:
            raise DatasetError(
                f"{path}: no {' or '.join(IMAGE_NUMBERS[:2])}; is this CytoTable's single-cell table?"
            )
        features = [
            n
            for c in compartments
            for n in names
            if n.startswith(f"{c}_") and is_feature(n.removeprefix(f"{c}_"))
        ]
        missing = [c for c in compartments if not any(n.startswith(f"{c}_") for n in features)]
        if missing:
            raise DatasetError(
                f"{path}: no measurement of {shorten(missing)}; say what to import with --compartments"
            )
        self.columns = tuple(features)
        check_columns(self.columns, str(path))
        self.image_columns = tuple(
            n for n in names if n.startswith("Image_") and is_image_feature(n.removeprefix("Image_"))
        )
        given = dict(rename or {})
        described = [n for n in names if n.startswith(("Metadata_", "Image_Metadata_")) or n in given]
        key = [n for n in (*TABLE_NUMBERS, number) if n in names]
        objects = [n for n in names if n in ("Metadata_ObjectNumber", "ObjectNumber")] or [
            n for n in names if n.endswith("_Number_Object_Number")
        ][:1]
        frame = _frame(path, list(dict.fromkeys([*key, *objects, *described])))
        named = describe(frame[described], str(path), given)
        # Numbers begin at 1 on each plate: in a table of several only plate and well tell images apart.
        places = named[[c for c in (PLATE, WELL) if c in named.columns]].add_prefix("of ")
        self._image = pd.factorize(pd.MultiIndex.from_frame(pd.concat([frame[key], places], axis=1)))[0]
        if objects:
            twice = np.flatnonzero(pd.DataFrame({"i": self._image, "o": frame[objects[0]]}).duplicated())
            if twice.size:
                raise DatasetError(
                    f"{path}, row {twice[0] + 1}: object {frame[objects[0]].iloc[twice[0]]} of an image "
                    "occurs twice; the table was appended to itself: convert it again"
                )
        firsts = pd.Series(self._image).drop_duplicates().index
        self.wells, of_image = find_wells(named.loc[firsts], str(path))
        self._well = of_image[self._image]
        self.sites = np.bincount(of_image, minlength=len(self.wells))
        pieces = [np.unique(self._well[a : a + ROWS]) for a in range(0, len(self._well), ROWS)]
        counted = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
        self.blocks = np.bincount(counted, minlength=len(self.wells))

    def read(self) -> Iterator[Block]:
        """Yield the rows of each well in each stretch of ``ROWS`` rows."""
        names = [*self.columns, *self.image_columns]
        n = len(self.columns)
        for begin, values in _stretches(self.path, names):
            end = begin + len(values)
            well, image = self._well[begin:end], self._image[begin:end]
            for index in np.unique(well):
                rows = np.flatnonzero(well == index)
                seen, first = np.unique(image[rows], return_index=True)
                images = {int(i): values[rows[f], n:] for i, f in zip(seen, first, strict=True)}
                yield Block(int(index), values[rows, :n], images)


def parquet_names(path: Path) -> list[str]:
    """Return a Parquet file's column names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def _frame(path: Path, names: list[str]) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        frame: pd.DataFrame = pq.read_table(path, columns=names).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error
    return frame


def _stretches(path: Path, names: list[str]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield (first row, values (n, len(names))) in stretches of ``ROWS`` rows; the last may be shorter."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    begin, parts, waiting = 0, [], 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS, columns=names):
                by_name: dict[str, Any] = dict(zip(batch.schema.names, batch.columns, strict=True))
                parts.append(np.column_stack([_floats(by_name[name], path, name) for name in names]))
                waiting += len(parts[-1])
                if waiting >= ROWS:
                    values = np.concatenate(parts)
                    yield begin, values[:ROWS]
                    parts, waiting, begin = [values[ROWS:]], waiting - ROWS, begin + ROWS
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error
    if waiting:
        yield begin, np.concatenate(parts)


def _floats(column: Any, path: Path, name: str) -> NDArray[np.float64]:
    import pyarrow as pa

    try:
        values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetError(f"{path}: column {name} is no number ({error}); convert it again") from error
    return values


def _unreadable(path: Path, error: Exception) -> DatasetError:
    reason = " ".join(str(error).split())[:200]
    return DatasetError(
        f"{path}: cannot be read as Parquet ({reason}); the file is cut off: convert it again"
    )
