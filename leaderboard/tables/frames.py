"""Frames for people: a titled table, and CSV that no spreadsheet takes for a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell of text that begins so is run as a formula by spreadsheets."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table with its heading.

    Parameters
    ----------
    name
        Short name, unique among the tables of a board.
    title, caption
        What stands above it, and how it was made.
    frame
        The rows.
    formats
        Column to the text of a value; other columns are shown as they are.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    formats: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)

    def texts(self) -> list[list[str]]:
        """Text of every cell, row by row."""
        return [
            [self.formats.get(str(name), str)(value) for name, value in zip(self.frame, row, strict=True)]
            for row in self.frame.itertuples(index=False, name=None)
        ]


def guarded(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose text cells and headings no spreadsheet runs: an apostrophe goes before them."""

    def safe(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

    out = frame.copy()
    for name in out.columns[[not pd.api.types.is_numeric_dtype(t) for t in out.dtypes]]:
        out[name] = out[name].map(safe)
    out.columns = [safe(str(name)) for name in out.columns]
    return out
