"""A finding, and where in a file it is."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.datasets.tables import format_of, is_remote, shorten

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one file.

    Parameters
    ----------
    severity
        An ``error`` makes a run fail or a score wrong; a ``warning`` may be meant.
    code
        Short name of the kind, stable across versions.
    file
        The table's path.
    rows
        1-based data rows, all of them (a header does not count); empty when the file as a whole is meant.
    lines
        1-based lines of the same rows in a text file, else empty.
    what, remedy
        What is wrong, with numbers and names, and what to do.
    """

    severity: Severity
    code: str
    file: str
    what: str
    remedy: str
    rows: tuple[int, ...] = ()
    lines: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        """File, rows and lines in words, cut after five."""
        text = Path(self.file).name
        if self.rows:
            text += f", row{'s' if len(self.rows) > 1 else ''} {shorten(map(str, self.rows), 5)}"
        if self.lines:
            text += f" (line{'s' if len(self.lines) > 1 else ''} {shorten(map(str, self.lines), 5)})"
        return text


def finding(
    severity: Severity, code: str, file: str, what: str, remedy: str, index: Iterable[int] = ()
) -> Finding:
    """Return a finding at 0-based data rows ``index`` of ``file``, its lines looked up."""
    rows = tuple(sorted(int(i) + 1 for i in index))
    return Finding(severity, code, file, what, remedy, rows, _lines(file, rows) if rows else ())


def _lines(file: str, rows: tuple[int, ...]) -> tuple[int, ...]:
    """Return the line on which each data row starts; quoted line breaks and blank lines are counted."""
    if is_remote(file) or file.lower().endswith(".gz") or format_of(file) not in ("csv", "tsv"):
        return ()
    starts: list[int] = []
    separator = "," if format_of(file) == "csv" else "\t"
    with Path(file).open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, delimiter=separator)
        before = 0
        for record in reader:
            # The table reader passes over blank lines, so they are no rows.
            if record and not (len(record) == 1 and not record[0].strip()):
                starts.append(before + 1)
            before = reader.line_num
            if len(starts) > rows[-1]:
                break
    return tuple(starts[r] for r in rows if r < len(starts))
