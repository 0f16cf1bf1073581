"""A dataset from files by their names: a pattern with named groups, a platemap and readout tables.

The pattern is searched in each file's path below the source folder (``/`` between folders). Named groups:
``plate``, ``well`` or ``row`` and ``col``, ``site``, ``channel``, ``plane``. Without a ``channel`` group
every file holds all channels as its planes, in the order given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.datasets.places import absolute, below, walk
from bench.datasets.platemap import WELL_RULES, About, sound
from bench.datasets.tables import PLATE, SITE, WELL, shorten
from bench.datasets.writer import Found, Screen, write
from bench.errors import DatasetError, UsageError
from featurizers.base import Channel

GROUPS = ("plate", "well", "row", "col", "site", "channel", "plane")


def row_letter(row: str) -> str:
    """Return row letters; a number counts from 1 (``2`` is ``B``, ``27`` is ``AA``)."""
    if not row.isdecimal():
        return row.upper()
    number = int(row) - 1
    return chr(65 + number) if number < 26 else chr(64 + number // 26) + chr(65 + number % 26)


@dataclass(frozen=True, kw_only=True)
class Source(About):
    """What :func:`from_regex` is told, besides what is known about the screen.

    Parameters
    ----------
    folder
        Where the images are, a path or an fsspec URI; searched with its subfolders.
    pattern
        Regular expression with named groups.
    channels
        Channel names; planes in their order when the pattern has no ``channel`` group.
    """

    folder: str | Path
    pattern: str
    channels: tuple[str, ...]
    bit_depth: int = 16


def from_regex(source: Source, out: Path) -> Found:
    """Write a dataset folder that points at the images where they lie (:func:`bench.datasets.writer.write`).

    Raises
    ------
    DatasetError, UsageError
        When the pattern is wrong or matches nothing, a platemap has no column for the well, or ``out`` holds
        files.
    """
    pattern = _compiled(source)
    rows, unmatched = _scan(source, pattern)
    screen = Screen(
        images=pd.DataFrame(rows),
        channels=tuple(Channel(c) for c in source.channels),
        origin=f"images found by {source.pattern}",
        apart="add the group that tells them apart (site, channel, plate) to the pattern",
        bit_depth=source.bit_depth,
        skipped=tuple(unmatched),
    )
    return write(screen, source, out)


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
    sound(source)
    return pattern


def _scan(source: Source, pattern: re.Pattern[str]) -> tuple[list[dict[str, object]], list[str]]:
    """Return one row per image plane, and the files that do not match, both in natural order."""
    folder = absolute(source.folder)
    rows: list[dict[str, object]] = []
    unmatched: list[str] = []
    names = walk(folder)
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


def _planes(source: Source, name: str, groups: Mapping[str, str | None]) -> Iterator[dict[str, object]]:
    get = {k: v for k, v in groups.items() if v is not None}
    well = get.get("well") or row_letter(get.get("row", "")) + get.get("col", "")
    place = {
        PLATE: get.get("plate", source.plate),
        WELL: WELL_RULES["rowcol"](well) if "row" in get else WELL_RULES[source.well_rule](well),
        SITE: get.get("site", "1"),
    }
    uri = below(absolute(source.folder), name)
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
