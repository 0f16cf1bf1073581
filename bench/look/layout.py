"""Where a well lies on its plate."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.errors import DatasetError

FORMATS = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))
"""Rows and columns of the plates that are sold: 6 to 1536 wells."""

_WELL = re.compile(r"([A-Z]{1,2})([0-9]+)")


def position(well: str) -> tuple[int, int]:
    """Return row and column from 0: ``A01`` is (0, 0), ``AA12`` is (26, 11).

    Raises
    ------
    DatasetError
        For a name that is no row letters and column number.
    """
    match = _WELL.fullmatch(well)
    if match is None or int(match[2]) == 0:
        raise DatasetError(
            f"well {well!r} has no place on a plate; wells are named by row letters and column, as A01"
        )
    row = 0
    for letter in match[1]:
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1, int(match[2]) - 1


def row_name(row: int) -> str:
    """Return the letters of a row: 0 is A, 26 is AA."""
    above, last = divmod(row, 26)
    return (row_name(above - 1) if above else "") + chr(ord("A") + last)


def plate_format(wells: Iterable[str]) -> tuple[int, int]:
    """Return rows and columns of the smallest plate that holds these wells."""
    places = [position(well) for well in wells]
    rows, columns = (max((p[axis] for p in places), default=0) + 1 for axis in (0, 1))
    for height, width in FORMATS:
        if rows <= height and columns <= width:
            return height, width
    return rows, columns
