"""CellProfiler's CSV files: Image.csv and one file per compartment, in one folder or in many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.datasets.cells.model import (
    COMPARTMENTS,
    TEXT,
    Block,
    Objects,
    base_of,
    check_columns,
    find_wells,
    in_lockstep,
    is_feature,
    is_image_feature,
    join,
)
from bench.datasets.tables import column_names, shorten
from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 1 << 24
_WHICH = (*TEXT, "Frame_", "Series_")
"""Columns of Image.csv that are text and say which image it is."""
_NULLS = ["", "nan", "NaN", "NA", "None"]


@dataclass(frozen=True, slots=True)
class FileSet:
    """One export: the path of Image.csv, and of each compartment's file."""

    image: Path
    objects: Mapping[str, Path]


class CsvReader:
    """A folder of exports, one or many (JUMP has one per site); see :class:`~.model.Reader`."""

    layout = "cellprofiler-csv"

    def __init__(
        self,
        folder: Path,
        compartments: Sequence[str] = COMPARTMENTS,
        rename: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.compartments = folder, tuple(compartments)
        self._sets = find_sets(folder, self.compartments)
        first = self._sets[0]
        self._names = {c: _feature_names(path) for c, path in first.objects.items()}
        self.columns = tuple(f"{c}_{n}" for c, names in self._names.items() for n in names)
        check_columns(self.columns, str(folder))
        frames = [_read_images(s.image) for s in self._sets]
        self._image_names = [c for c in frames[0].columns if is_image_feature(c)]
        self.image_columns = tuple(f"Image_{c}" for c in self._image_names)
        self._images = pd.concat(frames, keys=range(len(frames)), names=["set", "row"]).reset_index("set")
        self._check_once()
        self.wells, self._well = find_wells(self._images, str(folder), rename)
        self.blocks = self.sites = np.bincount(self._well, minlength=len(self.wells))

    def _check_once(self) -> None:
        """Refuse the same image in two exports: a copy of a folder would count its cells twice."""
        named = [c for c in self._images.columns if c.startswith(_WHICH)]
        if not any(c.startswith(("FileName_", "URL_")) for c in named):
            return
        once = self._images.drop_duplicates(["set", *named])
        twice = once[once.duplicated(named, keep=False)]
        if len(twice):
            pair = twice[(twice[named] == twice[named].iloc[0]).all(axis=1)]
            first, second = (self._sets[n].image for n in pair["set"].iloc[:2])
            raise DatasetError(
                f"{second}: image {int(pair['ImageNumber'].iloc[1])} is also in {first}; remove the copy, or "
                "its cells count twice"
            )

    def read(self) -> Iterator[Block]:
        """Yield one block per image, in the order of the Image.csv files."""
        sets, numbers = self._images["set"].to_numpy(), self._images["ImageNumber"].to_numpy()
        values = self._images.reindex(columns=self._image_names).to_numpy(np.float64)
        for index, files in enumerate(self._sets):
            rows = np.flatnonzero(sets == index)
            by_number = {int(numbers[row]): int(row) for row in rows}
            if len(by_number) < len(rows):
                raise DatasetError(f"{files.image}: an ImageNumber occurs twice; export it again")
            base = base_of(
                {c: _parents(p, self.compartments) for c, p in files.objects.items()}, str(files.image)
            )

            def take(number: int, found: Mapping[str, Objects]) -> Block:
                row = by_number[number]  # noqa: B023 - used before the next round
                where = f"{files.image.parent}, image {number}"  # noqa: B023
                self._check_counts(row, found, where)
                objects = {c: found.get(c, self._none(c)) for c in self.compartments}
                cells, orphans = join(objects, base, where)  # noqa: B023
                return Block(int(self._well[row]), cells, {row: values[row]}, orphans)

            streams = {c: self._stream(path, self._names[c]) for c, path in files.objects.items()}
            yield from in_lockstep(streams, list(by_number), take, str(files.image.parent))

    def _none(self, compartment: str) -> Objects:
        others = {c: np.zeros(0, np.int64) for c in self.compartments}
        return Objects(np.zeros(0, np.int64), np.zeros((0, len(self._names[compartment]))), others)

    def _check_counts(self, row: int, found: Mapping[str, Objects], where: str) -> None:
        """Compare the rows of each file with the objects that Image.csv counts: a cut-off file is short."""
        for name in self.compartments:
            column = f"Count_{name}"
            if column not in self._images.columns:
                continue
            wanted = self._images[column].iloc[row]
            has = len(found[name].numbers) if name in found else 0
            if not np.isnan(wanted) and has != int(wanted):
                raise DatasetError(
                    f"{where}: {name} has {has} rows and Image.csv counts {int(wanted)}; the file is cut "
                    "off, not sorted by image, or of another run: export it again"
                )

    def _stream(self, path: Path, features: Sequence[str]) -> Iterator[tuple[int, Objects]]:
        """Yield (image number, objects) of one file, an image at a time."""
        names = column_names(str(path))
        if _feature_names(path) != list(features):
            raise DatasetError(
                f"{path}: other columns than the first export in {self.folder}; import those of one pipeline"
            )
        parents = {c: f"Parent_{c}" for c in self.compartments if f"Parent_{c}" in names}
        keys = ["ImageNumber", "ObjectNumber"]
        absent = [k for k in keys if k not in names]
        if absent:
            raise DatasetError(
                f"{path}: no column {shorten(absent)}; is this an object table of CellProfiler?"
            )
        wanted = [*keys, *parents.values(), *features]
        rest: NDArray[np.float64] | None = None
        for chunk in _chunks(path, wanted):
            rows = chunk if rest is None else np.concatenate([rest, chunk])
            starts = np.flatnonzero(np.diff(rows[:, 0], prepend=np.nan) != 0)
            for first, last in pairwise(starts):
                yield _objects(rows[first:last], list(parents), str(path))
            rest = rows[starts[-1] :]
        if rest is not None:
            yield _objects(rest, list(parents), str(path))


def find_sets(folder: Path, compartments: Sequence[str]) -> list[FileSet]:
    """Return the exports in a folder and below it, sorted by path.

    Raises
    ------
    DatasetError
        When there is no Image.csv, or a compartment's file is missing beside one.
    """
    images = sorted(p for p in folder.rglob("*Image.csv*") if p.name.endswith(("Image.csv", "Image.csv.gz")))
    if not images:
        raise DatasetError(
            f"{folder}: no Image.csv in it or below; give the folder that ExportToSpreadsheet wrote to"
        )
    sets = []
    for image in images:
        prefix, suffix = image.name.split("Image.csv")
        objects = {c: image.with_name(f"{prefix}{c}.csv{suffix}") for c in compartments}
        missing = [path.name for path in objects.values() if not path.is_file()]
        if missing:
            there = sorted(p.name for p in image.parent.glob(f"{prefix}*.csv{suffix}"))
            raise DatasetError(
                f"{image.parent}: no {shorten(missing)}; it has {shorten(there)}: export it, or say what to "
                "import with --compartments, e.g. Nuclei,Cells"
            )
        sets.append(FileSet(image, objects))
    return sets


def _feature_names(path: Path) -> list[str]:
    return [n for n in column_names(str(path)) if is_feature(n)]


def _parents(path: Path, compartments: Sequence[str]) -> list[str]:
    names = column_names(str(path))
    return [c for c in compartments if f"Parent_{c}" in names]


def _read_images(path: Path) -> pd.DataFrame:
    """Read Image.csv: metadata as text, features and counts as numbers."""
    names = column_names(str(path))
    if "ImageNumber" not in names:
        raise DatasetError(f"{path}: no column ImageNumber; is this CellProfiler's image table?")
    text = [n for n in names if n.startswith(_WHICH)]
    numeric = ["ImageNumber", *(n for n in names if is_image_feature(n))]
    _check_end(path)
    try:
        frame: pd.DataFrame = pd.read_csv(
            path,
            usecols=[*text, *numeric],
            dtype={**dict.fromkeys(text, str), **dict.fromkeys(numeric, np.float64)},
            keep_default_na=False,
            na_values=dict.fromkeys(numeric, _NULLS),
        )
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    if frame["ImageNumber"].isna().any():
        raise DatasetError(f"{path}: ImageNumber is empty in a row; the file is cut off: export it again")
    return frame


def _chunks(path: Path, names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
    """Yield the named columns in chunks of rows (n, len(names))."""
    import pyarrow as pa
    from pyarrow import csv

    _check_end(path)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.float64()),
        include_columns=list(names),
        null_values=_NULLS,
        strings_can_be_null=True,
    )
    try:
        with csv.open_csv(
            path, read_options=csv.ReadOptions(block_size=CHUNK_BYTES), convert_options=convert
        ) as stream:
            for batch in stream:
                if batch.num_rows:
                    yield np.column_stack([c.to_numpy(zero_copy_only=False) for c in batch.columns])
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def _check_end(path: Path) -> None:
    """Refuse a file that does not end with a whole line: the last number may be cut."""
    if path.suffix == ".gz":
        return  # its own checksum tells
    with path.open("rb") as stream:
        stream.seek(0, 2)
        if stream.tell():
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                raise DatasetError(
                    f"{path}: its last line has no end; the file is cut off: copy or export it again"
                )


def _objects(rows: NDArray[np.float64], parents: Sequence[str], where: str) -> tuple[int, Objects]:
    keys = rows[:, : 2 + len(parents)]
    if np.isnan(keys).any():
        raise DatasetError(
            f"{where}: an image, object or parent number is empty; the file is damaged: export it again"
        )
    links = {name: keys[:, 2 + i].astype(np.int64) for i, name in enumerate(parents)}
    return int(keys[0, 0]), Objects(keys[:, 1].astype(np.int64), rows[:, 2 + len(parents) :], links)


def _unreadable(path: Path, error: Exception) -> DatasetError:
    reason = " ".join(str(error).split())[:200]
    return DatasetError(f"{path}: cannot be read ({reason}); the file is cut off or damaged: export it again")
