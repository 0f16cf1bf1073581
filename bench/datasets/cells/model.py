"""What the readers of single-cell tables share: which columns are features, and how compartments join."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from bench.datasets.tables import PLATE, PREFIX, WELL, as_text, duplicates, normalise_well, shorten
from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPARTMENTS = ("Nuclei", "Cells", "Cytoplasm")
IMAGE = "Image"
IMAGE_GROUPS = ("Count", "Intensity", "Granularity", "Texture", "Correlation", "AreaOccupied")
"""Measurements of whole images that are features; others (times, file names, thresholds) are not."""
TEXT = ("Metadata_", "FileName_", "PathName_", "URL_", "MD5Digest_", "ObjectsFileName_", "ObjectsPathName_")
NUMBER = "Number_Object_Number"


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of one well.

    Parameters
    ----------
    well
        Index of the well in the reader's ``wells``.
    cells
        (n, D) features of cells.
    images
        Features (Di,) of the images that these rows are of, by image.
    orphans
        Objects left out for want of a partner in another compartment.
    """

    well: int
    cells: NDArray[np.float64]
    images: Mapping[Any, NDArray[np.float64]]
    orphans: int = 0


class Reader(Protocol):
    """A single-cell source, opened.

    ``wells`` holds plate and well, unique; ``blocks`` how many blocks each will come in; ``sites`` the images
    of each. ``columns`` and ``image_columns`` name the features.
    """

    layout: str
    wells: pd.DataFrame
    blocks: NDArray[np.int64]
    sites: NDArray[np.int64]
    columns: tuple[str, ...]
    image_columns: tuple[str, ...]

    def read(self) -> Iterator[Block]:
        """Yield all blocks, those of one well as near to each other as the source has them."""
        ...


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one compartment in one image: n numbers, (n, D) features, parents by compartment."""

    numbers: NDArray[np.int64]
    values: NDArray[np.float64]
    parents: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def is_feature(name: str) -> bool:
    """Whether an object's column (without its compartment) is a measurement and no number, link or text."""
    return not (
        name in ("ImageNumber", "ObjectNumber", "TableNumber", NUMBER)
        or name.startswith(("Parent_", *TEXT))
        or "ClosestObjectNumber" in name
    )


def is_image_feature(name: str) -> bool:
    """Whether an image's column (without ``Image_``) is a feature."""
    return name.split("_", 1)[0] in IMAGE_GROUPS


def base_of(parents: Mapping[str, Iterable[str]], where: str) -> str:
    """Return the compartment whose objects name their partners in all others.

    Parameters
    ----------
    parents
        Compartments, each with those of which it has a ``Parent_`` column.

    Raises
    ------
    DatasetError
        When there is none.
    """
    for name, known in parents.items():
        if set(parents) - {name} <= set(known):
            return name
    listed = ", ".join(parents)
    raise DatasetError(
        f"{where}: none of {listed} has Parent_ columns for the others, so cells cannot be put together; "
        "give the pipeline IdentifySecondaryObjects and IdentifyTertiaryObjects (or RelateObjects), or "
        f"import one with --compartments {next(iter(parents))}"
    )


def join(objects: Mapping[str, Objects], base: str, where: str) -> tuple[NDArray[np.float64], int]:
    """Put the compartments of each cell side by side.

    Parameters
    ----------
    objects
        Objects of one image by compartment, in the order of the columns.
    base
        The compartment that names its partners (:func:`base_of`).
    where
        File and image, for errors.

    Returns
    -------
    (n, D) features of the base's objects, and how many of these had no partner (parent 0) and were left out.

    Raises
    ------
    DatasetError
        When an object number occurs twice, or a parent is not there.
    """
    for name, one in objects.items():
        numbers, counts = np.unique(one.numbers, return_counts=True)
        if (counts > 1).any():
            raise DatasetError(
                f"{where}: object {numbers[counts > 1][0]} of {name} occurs twice; the table was appended to "
                "itself, or two runs were merged: export it again"
            )
    own = objects[base]
    kept = np.ones(len(own.numbers), np.bool_)
    for name in objects:
        if name != base:
            kept &= own.parents[name] > 0
    parts = []
    for name, one in objects.items():
        if name == base:
            parts.append(own.values[kept])
            continue
        wanted = own.parents[name][kept]
        order = np.argsort(one.numbers)
        place = np.searchsorted(one.numbers[order], wanted)
        place[place == len(order)] = 0
        found = order[place] if len(order) else np.zeros(len(wanted), np.int64)
        lost = wanted[one.numbers[found] != wanted] if len(order) else wanted
        if lost.size:
            raise DatasetError(
                f"{where}: {base} belongs to object {lost[0]} of {name}, which is not there; {name} is cut "
                "off or was filtered after the link was made: export it again"
            )
        parts.append(one.values[found])
    return np.concatenate(parts, axis=1), int((~kept).sum())


def describe(images: pd.DataFrame, where: str, rename: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the images' columns without ``Image_`` and renamed; a new name takes the place of an old column.

    Raises
    ------
    DatasetError
        When a column that is to be renamed is not there.
    """
    given = dict(rename or {})
    absent = [c for c in given if c not in images.columns]
    if absent:
        has = shorten([c for c in images.columns if PREFIX in c]) or "no metadata at all"
        raise DatasetError(f"{where}: no column {shorten(absent)} to rename; the images have {has}")
    names = {c: c.removeprefix("Image_") for c in images.columns if c not in given}
    kept = images[[c for c in images.columns if names.get(c) not in given.values()]]
    kept = kept.rename(columns=names | given)
    return kept.loc[:, ~kept.columns.duplicated()]


def find_wells(
    images: pd.DataFrame, where: str, rename: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the wells (plate, well; in order of appearance) and the well of each image.

    Parameters
    ----------
    images
        A row per image, with ``Metadata_`` columns.
    rename
        New names of these columns by their names in the file.

    Raises
    ------
    DatasetError
        When plate or well is missing or empty.
    """
    renamed = describe(images, where, rename)
    metadata = [c for c in renamed.columns if c.startswith(PREFIX)]
    for name in (PLATE, WELL):
        if name not in renamed.columns:
            has = shorten(metadata) or "no metadata at all"
            raise DatasetError(
                f"{where}: no {name}; the images have {has}: name the column that holds it, e.g. "
                f"--rename {next((c for c in metadata if c != PLATE), 'Metadata_X')}={name}, or give the "
                "pipeline's Metadata or LoadData module that tag"
            )
    frame = pd.DataFrame({c: as_text(renamed[c]) for c in (PLATE, WELL)}, dtype=object)
    for name in (PLATE, WELL):
        empty = np.flatnonzero((frame[name] == "").to_numpy())
        if empty.size:
            raise DatasetError(f"{where}, image row {empty[0] + 1}: {name} is empty; fill it in")
    frame[WELL] = [normalise_well(w) for w in frame[WELL]]
    wells = frame.drop_duplicates().reset_index(drop=True)
    place = {pair: i for i, pair in enumerate(zip(wells[PLATE], wells[WELL], strict=True))}
    return wells, np.array([place[p] for p in zip(frame[PLATE], frame[WELL], strict=True)], np.int64)


def check_columns(names: Sequence[str], where: str) -> None:
    """Refuse names that occur twice, and a source without features."""
    if duplicates(names):
        raise DatasetError(f"{where}: columns occur twice ({shorten(duplicates(names))}); export it again")
    if not names:
        raise DatasetError(f"{where}: no column is a measurement of objects; is this CellProfiler's output?")


def in_lockstep(
    streams: Mapping[str, Iterator[tuple[Any, Objects]]],
    keys: Sequence[Any],
    take: Callable[[Any, Mapping[str, Objects]], Block],
    where: str,
) -> Iterator[Block]:
    """Go through several streams of (image, objects) in the order of ``keys``; an image may be in none.

    Raises
    ------
    DatasetError
        When a stream comes to an image that is not among the keys, or goes back to one.
    """
    places = {key: i for i, key in enumerate(keys)}
    heads: dict[str, tuple[Any, Objects] | None] = {name: next(s, None) for name, s in streams.items()}
    for number, key in enumerate(keys):
        found = {}
        for name, head in heads.items():
            if head is None:
                continue
            place = places.get(head[0])
            if place is None or place < number:
                what = "is not among the images" if place is None else "comes twice"
                raise DatasetError(
                    f"{where}: image {head[0]} in {name} {what}; the tables are not of one run: export again"
                )
            if place == number:
                found[name] = head[1]
                heads[name] = next(streams[name], None)
        yield take(key, found)
    left = next((name for name, head in heads.items() if head is not None), None)
    if left is not None:
        raise DatasetError(
            f"{where}: {left} goes back to an earlier image; sort its rows by ImageNumber, ObjectNumber"
        )
