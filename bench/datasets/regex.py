"""A dataset from files by their names: a pattern with named groups, a platemap and readout tables.

The pattern is searched in each file's path below the source folder (``/`` between folders). Named groups:
``plate``, ``well`` or ``row`` and ``col``, ``site``, ``channel``, ``plane``. Without a ``channel`` group
every file holds all channels as its planes, in the order given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.datasets.model import JOINS, KINDS, SCALES
from bench.datasets.tables import (
    PERT_TYPE,
    PLATE,
    PREFIX,
    SITE,
    WELL,
    column_names,
    natural,
    normalise_well,
    read_frame,
    shorten,
)
from bench.errors import DatasetError, UsageError

GROUPS = ("plate", "well", "row", "col", "site", "channel", "plane")
DEFAULT_PLATE = "plate-1"


def _row_letter(row: str) -> str:
    """Return row letters; a number counts from 1 (``2`` is ``B``, ``27`` is ``AA``)."""
    if not row.isdecimal():
        return row.upper()
    number = int(row) - 1
    return chr(65 + number) if number < 26 else chr(64 + number // 26) + chr(65 + number % 26)


def _colrow(text: str) -> str:
    match = re.fullmatch(r"0*([1-9][0-9]?)([A-Za-z]{1,2})", text)
    return normalise_well(match[2] + match[1]) if match else text


WELL_RULES: dict[str, Callable[[str], str]] = {"rowcol": normalise_well, "colrow": _colrow}
"""How a table writes a well: ``rowcol`` is ``B1`` or ``b01``, ``colrow`` is ``01B``."""


@dataclass(frozen=True)
class ReadoutTable:
    """A readout table to be listed as a layer; ``key`` holds metadata columns after renaming."""

    table: Path
    name: str
    kind: str = "abundance"
    scale: str = "z"
    key: tuple[str, ...] = (PLATE, WELL)
    join: str = "aggregate"
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What :func:`from_regex` is told.

    Parameters
    ----------
    folder
        Where the images are; searched with its subfolders.
    pattern
        Regular expression with named groups.
    channels
        Channel names; planes in their order when the pattern has no ``channel`` group.
    nucleus
        The channel that segmentation starts from; empty for none.
    wells
        Platemap; its columns are renamed by ``rename`` and joined to the wells found.
    well_rule
        How the tables write a well, a key of :data:`WELL_RULES`.
    negative
        Values of the perturbation column that are negative controls.
    """

    folder: Path
    pattern: str
    name: str
    channels: tuple[str, ...]
    perturbation: str = "Metadata_Compound"
    nucleus: str = ""
    plate: str = DEFAULT_PLATE
    bit_depth: int = 16
    imaging: str = ""
    wells: Path | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    well_rule: str = "rowcol"
    negative: tuple[str, ...] = ()
    readouts: tuple[ReadoutTable, ...] = ()


@dataclass(frozen=True)
class Found:
    """What came of it: images, wells, and files that the pattern did not match."""

    folder: Path
    images: int
    wells: int
    unmatched: tuple[str, ...]
    wells_without_row: tuple[str, ...]


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Return ``OLD=NEW`` words as a mapping."""
    out = {}
    for word in words:
        old, sign, new = word.rpartition("=")
        if not (sign and old and new):
            raise UsageError(f"{option} {word!r}: write OLD=NEW, e.g. treatment=Metadata_Compound")
        out[old] = new
    return out


def from_regex(source: Source, out: Path) -> Found:
    """Write a dataset folder that points at the images where they lie.

    Parameters
    ----------
    out
        New or empty folder; gets ``dataset.toml``, ``images.csv``, ``wells.csv`` and a CSV per readout table.

    Raises
    ------
    DatasetError, UsageError
        When the pattern is wrong or matches nothing, a platemap has no column for the well, or ``out`` holds
        files.
    """
    from bench.datasets.scaffold import fresh, write_toml

    pattern = _compiled(source)
    rows, unmatched = _scan(source, pattern)
    images = pd.DataFrame(rows)
    twice = images.duplicated([PLATE, WELL, SITE, "Channel"])
    if twice.any():
        first = images[twice].iloc[0]
        raise DatasetError(
            f"{first['URI']}: a second image of {first[PLATE]}/{first[WELL]}, site {first[SITE]}, channel "
            f"{first['Channel']}; add the group that tells them apart (site, channel, plate) to the pattern"
        )
    _renamed_somewhere(source)
    layers = [(table, _table(table.table, source, needs_well=WELL in table.key)) for table in source.readouts]
    wells, lonely = _wells(source, images)
    fresh(out)
    for row in rows:
        row["URI"] = os.path.relpath(str(row["URI"]), out)
    pd.DataFrame(rows).to_csv(out / "images.csv", index=False, lineterminator="\n")
    wells.to_csv(out / "wells.csv", index=False, lineterminator="\n")
    for table, frame in layers:
        frame.to_csv(out / f"{table.name}.csv", index=False, lineterminator="\n")
    write_toml(out, source)
    return Found(out, len(images), len(wells), tuple(unmatched), lonely)


def _compiled(source: Source) -> re.Pattern[str]:
    try:
        pattern = re.compile(source.pattern)
    except re.error as error:
        raise UsageError(f"pattern {source.pattern} is no regular expression: {error}") from None
    groups = set(pattern.groupindex)
    unknown = sorted(groups - set(GROUPS))
    if unknown:
        raise UsageError(
            f"pattern {source.pattern}: unknown group {shorten(unknown)}; known are {', '.join(GROUPS)}"
        )
    if "well" not in groups and not {"row", "col"} <= groups:
        raise UsageError(f"pattern {source.pattern}: needs (?P<well>…), or (?P<row>…) and (?P<col>…)")
    if not source.channels:
        raise UsageError(
            "name the channels, e.g. --channels DNA,Actin; without a channel group in plane order"
        )
    if source.well_rule not in WELL_RULES:
        raise UsageError(f"well rule {source.well_rule!r} is none of {', '.join(WELL_RULES)}")
    for table in source.readouts:
        for value, allowed, what in (
            (table.kind, KINDS, "kind"),
            (table.scale, SCALES, "scale"),
            (table.join, JOINS, "join"),
        ):
            if value not in allowed:
                raise UsageError(f"readouts {table.name!r}: {what} {value!r} is none of {', '.join(allowed)}")
    return pattern


def _scan(source: Source, pattern: re.Pattern[str]) -> tuple[list[dict[str, object]], list[str]]:
    """Return one row per image plane, and the files that do not match, both in natural order."""
    if not source.folder.is_dir():
        raise DatasetError(f"{source.folder}: no such folder")
    rows: list[dict[str, object]] = []
    unmatched: list[str] = []
    names = sorted((p.relative_to(source.folder).as_posix() for p in _files(source.folder)), key=natural)
    for name in names:
        match = pattern.search(name)
        if match is None:
            unmatched.append(name)
        else:
            rows.extend(_planes(source, name, match.groupdict()))
    if not rows:
        seen = shorten(names, 3) or "no file"
        raise DatasetError(
            f"{source.folder}: pattern {source.pattern} matches none of {len(names)} files ({seen})"
        )
    return rows, unmatched


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def _planes(source: Source, name: str, groups: Mapping[str, str | None]) -> Iterator[dict[str, object]]:
    get = {k: v for k, v in groups.items() if v is not None}
    well = get.get("well") or _row_letter(get.get("row", "")) + get.get("col", "")
    place = {
        PLATE: get.get("plate", source.plate),
        WELL: WELL_RULES["rowcol"](well) if "row" in get else WELL_RULES[source.well_rule](well),
        SITE: get.get("site", "1"),
    }
    uri = str(source.folder.absolute() / name)
    if "channel" not in get:
        for plane, channel in enumerate(source.channels):
            yield {**place, "Channel": channel, "URI": uri, "Plane": plane}
    elif get["channel"] in source.channels:
        yield {**place, "Channel": get["channel"], "URI": uri, "Plane": int(get.get("plane", "0"))}
    else:
        raise DatasetError(
            f"{name}: channel {get['channel']!r} is none of {', '.join(source.channels)}; "
            "name it under --channels, or keep such files out with the pattern"
        )


def _renamed_somewhere(source: Source) -> None:
    tables = [*([source.wells] if source.wells else []), *(t.table for t in source.readouts)]
    names = {n for path in tables for n in column_names(str(path.absolute()))}
    unused = [old for old in source.rename if old not in names]
    if unused:
        raise UsageError(
            f"--map: no table has a column {shorten(unused)}; there are {shorten(sorted(names))}"
        )


def _table(path: Path, source: Source, *, needs_well: bool) -> pd.DataFrame:
    """Read a platemap or readout table with columns renamed, wells normalised and the plate filled in."""
    uri = str(path.absolute())
    names = column_names(uri)
    frame = read_frame(uri, rename={k: v for k, v in source.rename.items() if k in names})
    if needs_well and WELL not in frame.columns:
        raise DatasetError(
            f"{path}: no column {WELL}; say which column is the well, e.g. --map {frame.columns[0]}={WELL}"
        )
    if WELL in frame.columns:
        frame[WELL] = [WELL_RULES[source.well_rule](w) for w in frame[WELL]]
        if PLATE not in frame.columns:
            frame.insert(0, PLATE, source.plate)
    return frame


def _wells(source: Source, images: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the wells table, and the wells with images that the platemap does not have."""
    found = images[[PLATE, WELL]].drop_duplicates(ignore_index=True)
    if source.wells is None:
        frame = found.assign(**{PERT_TYPE: "trt", source.perturbation: ""})
        return frame, ()
    platemap = _table(source.wells, source, needs_well=True)
    platemap = platemap[[c for c in platemap.columns if c.startswith(PREFIX)]]
    if source.perturbation not in platemap.columns:
        raise DatasetError(
            f"{source.wells}: no column {source.perturbation}; say which column is the perturbation, "
            f"e.g. --map treatment={source.perturbation}"
        )
    if PERT_TYPE not in platemap.columns:
        kinds = ["negcon" if p in source.negative else "trt" for p in platemap[source.perturbation]]
        platemap = platemap.assign(**{PERT_TYPE: kinds})
    have = set(zip(platemap[PLATE], platemap[WELL], strict=True))
    places = list(zip(found[PLATE], found[WELL], strict=True))
    return platemap, tuple(f"{p}/{w}" for p, w in places if (p, w) not in have)
