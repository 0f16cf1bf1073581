"""A dataset from CellProfiler's ``load_data.csv``, as the JUMP consortium and many others publish them.

Per channel ``FileName_Orig{channel}`` and ``PathName_Orig{channel}`` (or ``URL_Orig{channel}``), perhaps
``Frame_Orig{channel}`` (0-based plane); ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Site`` and others.
``FileName_Illum{channel}`` and ``PathName_Illum{channel}`` name illumination functions: ``.npy`` arrays that
the images are divided by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.datasets.places import absolute, below, folder_of, is_file, walk
from bench.datasets.platemap import About
from bench.datasets.tables import PLATE, PREFIX, SITE, WELL, as_text, natural, read_frame, shorten
from bench.datasets.writer import IMAGE_COLUMNS, Found, Screen, first_depth, in_order, renamed, write
from bench.errors import DatasetError
from featurizers.base import Channel

_PLAIN, _CORRECTED = "load_data", "load_data_with_illum"
_ENDS = (".csv", ".csv.gz")
_PREFIXES = ("FileName_", "PathName_", "URL_", "Frame_")


@dataclass(frozen=True, kw_only=True)
class LoadData(About):
    """What :func:`from_jump` is told, besides what is known about the screen.

    Parameters
    ----------
    index
        A ``load_data.csv`` (also ``.gz``), or a folder in which to find them, one per plate; of
        ``load_data.csv`` and ``load_data_with_illum.csv`` in one folder the second is taken.
    channels
        Names of the channels in the order of the columns; empty: the columns' names without ``Orig``.
    rebase
        Start of a path in the index to where the images lie now.
    """

    index: str | Path
    channels: tuple[str, ...] = ()
    rebase: Mapping[str, str] = field(default_factory=dict)


def from_jump(source: LoadData, out: Path) -> Found:
    """Write a dataset folder that points at the images where they lie (:func:`bench.datasets.writer.write`).

    Relative paths of an index start at its folder.

    Raises
    ------
    DatasetError, UsageError
        When there is no index, it lacks a column, its rows are cut short, or none of its images is there.
    """
    files = _indices(absolute(source.index))
    frames = [(file, _read(file)) for file in files]
    found = _channels(files[0], frames[0][1])
    for file, frame in frames[1:]:
        if _channels(file, frame) != found:
            raise DatasetError(
                f"{file}: channels {shorten(c.name for c in _channels(file, frame))} are not those of "
                f"{files[0]} ({shorten(c.name for c in found)}); make a dataset of each"
            )
    names = renamed(found, source.channels, files[0])
    channels = tuple(Channel(names[c.name]) for c in found)
    images = pd.concat([_images(f, t, source, names) for f, t in frames], ignore_index=True)
    functions = pd.concat([_functions(f, t, source, names) for f, t in frames], ignore_index=True)
    screen = Screen(
        images=in_order(images, channels),
        channels=channels,
        origin="images listed by " + ", ".join(sorted({f.rpartition("/")[2] for f in files})),
        apart="keep one row of the index for each site",
        bit_depth=first_depth(images),
        known=_known([t for _, t in frames], source.plate),
        illumination=_one_each(functions) if len(functions) else None,
    )
    return write(screen, source, out)


def _indices(place: str) -> list[str]:
    if is_file(place):
        return [place]
    by_folder: dict[str, dict[str, str]] = {}
    for name in walk(place):
        folder, _, file = name.rpartition("/")
        stem = file.removesuffix(".gz").removesuffix(".csv")
        if file.endswith(_ENDS) and stem in (_PLAIN, _CORRECTED):
            by_folder.setdefault(folder, {})[stem] = name
    if not by_folder:
        raise DatasetError(f"{place}: no load_data.csv or load_data_with_illum.csv (also .gz) in it")
    return [below(place, by.get(_CORRECTED, by.get(_PLAIN, ""))) for by in by_folder.values()]


def _read(file: str) -> pd.DataFrame:
    from bench.datasets.tables import column_names

    columns = column_names(file)
    frame = read_frame(file, text=[c for c in columns if c.startswith(_PREFIXES)])
    if WELL not in frame.columns:
        raise DatasetError(f"{file}: no column {WELL}; it has {shorten(frame.columns)}")
    if frame.empty:
        raise DatasetError(f"{file}: the index has no row; export it again")
    return frame


def _channels(file: str, frame: pd.DataFrame) -> tuple[Channel, ...]:
    """Return the channels by the columns of original images, in the order of the columns."""
    found = [
        c.removeprefix(start).removeprefix("Orig")
        for c in frame.columns
        for start in ("FileName_", "URL_")
        if c.startswith(start) and not c.startswith(start + "Illum")
    ]
    if not found:
        raise DatasetError(
            f"{file}: no column FileName_Orig… or URL_Orig…; is it CellProfiler's LoadData table?"
        )
    return tuple(Channel(name) for name in dict.fromkeys(found))


def _places(file: str, frame: pd.DataFrame, column: str, rebase: Mapping[str, str]) -> list[str]:
    """Return the absolute path or URI of every row's image in ``column`` (``OrigDNA``)."""
    if f"URL_{column}" in frame.columns:
        whole = [_unquoted(u) for u in frame[f"URL_{column}"]]
    else:
        names = frame[f"FileName_{column}"].tolist()
        paths = (
            frame[f"PathName_{column}"].tolist()
            if f"PathName_{column}" in frame.columns
            else [""] * len(names)
        )
        empty = [i for i, n in enumerate(names) if not n]
        if empty:
            raise DatasetError(
                f"{file}, row {empty[0] + 1}: FileName_{column} is empty; fill it in or drop the row"
            )
        whole = [f"{p.rstrip('/')}/{n}" if p else n for p, n in zip(paths, names, strict=True)]
    for old, new in rebase.items():
        start = absolute(new)
        whole = [below(start, w.removeprefix(old).lstrip("/")) if w.startswith(old) else w for w in whole]
    here = folder_of(file)
    return [below(here, w) for w in whole]


def _unquoted(url: str) -> str:
    from urllib.parse import unquote, urlparse

    return unquote(urlparse(url).path) if url.startswith("file:") else url


def _column(frame: pd.DataFrame, channel: str) -> str:
    """Return the channel's name in the columns: ``OrigDNA``, or ``DNA`` where that is how they are named."""
    original = f"Orig{channel}"
    named = any(f"{start}{original}" in frame.columns for start in ("FileName_", "URL_"))
    return original if named else channel


def _images(file: str, frame: pd.DataFrame, source: LoadData, names: Mapping[str, str]) -> pd.DataFrame:
    rows = []
    plates = frame[PLATE] if PLATE in frame.columns else [source.plate] * len(frame)
    sites = frame[SITE] if SITE in frame.columns else ["1"] * len(frame)
    for channel, name in names.items():
        column = _column(frame, channel)
        planes = [0] * len(frame)
        if f"Frame_{column}" in frame.columns:
            text = as_text(frame[f"Frame_{column}"])
            bad = [i for i, p in enumerate(text) if not (p == "" or p.isdecimal())]
            if bad:
                raise DatasetError(
                    f"{file}, row {bad[0] + 1}: Frame_{column} is {text[bad[0]]!r}; planes count 0, 1, 2, …"
                )
            planes = [int(p or 0) for p in text]
        uris = _places(file, frame, column, source.rebase)
        values = zip(plates, frame[WELL], sites, [name] * len(frame), uris, planes, strict=True)
        rows.append(pd.DataFrame(values, columns=IMAGE_COLUMNS))
    return pd.concat(rows, ignore_index=True)


def _functions(file: str, frame: pd.DataFrame, source: LoadData, names: Mapping[str, str]) -> pd.DataFrame:
    rows = []
    plates = frame[PLATE] if PLATE in frame.columns else [source.plate] * len(frame)
    for channel, name in names.items():
        column = f"Illum{channel}"
        if f"FileName_{column}" in frame.columns or f"URL_{column}" in frame.columns:
            uris = _places(file, frame, column, source.rebase)
            values = zip(plates, [name] * len(frame), uris, strict=True)
            rows.append(pd.DataFrame(values, columns=[PLATE, "Channel", "URI"]).drop_duplicates())
    empty = pd.DataFrame(columns=[PLATE, "Channel", "URI"])
    return pd.concat(rows, ignore_index=True) if rows else empty


def _one_each(functions: pd.DataFrame) -> pd.DataFrame:
    functions = functions.drop_duplicates(ignore_index=True)
    twice = functions.duplicated([PLATE, "Channel"])
    if twice.any():
        first = functions[twice].iloc[0]
        raise DatasetError(
            f"{first['URI']}: a second illumination function of plate {first[PLATE]}, channel "
            f"{first['Channel']}; a plate's channel has one"
        )
    rank = sorted(range(len(functions)), key=lambda i: natural(functions[PLATE].iloc[i]))
    return functions.iloc[rank].reset_index(drop=True)


def _known(frames: list[pd.DataFrame], plate: str) -> pd.DataFrame:
    """Return the index's ``Metadata_`` columns that have one value in each well."""
    filled = [f if PLATE in f.columns else f.assign(**{PLATE: plate}) for f in frames]
    both = pd.concat(filled, ignore_index=True)
    columns = [c for c in both.columns if c.startswith(PREFIX) and c not in (PLATE, WELL, SITE)]
    counts = both.groupby([PLATE, WELL])[columns].nunique(dropna=False) if columns else None
    kept = [c for c in columns if counts is not None and (counts[c] <= 1).all()]
    return both[[PLATE, WELL, *kept]].drop_duplicates([PLATE, WELL], ignore_index=True)
