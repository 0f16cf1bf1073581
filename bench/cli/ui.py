"""What every command shares: two consoles, JSON output, progress that is quiet when nobody watches."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console


def out() -> Console:
    """Return the console of results (standard output)."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """Return the console of progress, warnings and errors (standard error)."""
    return Console(stderr=True, highlight=False)


def plain(value: Any) -> Any:
    """Return ``value`` with NaN and infinities as None and numpy scalars as Python's, fit for strict JSON."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def as_text(*parts: Any, width: int = 120) -> str:
    """Return renderables as plain text of this width, for a file."""
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, color_system=None)
    for part in parts:
        console.print(part)
    return file.getvalue()


def emit(value: Any) -> None:
    """Print ``value`` to standard output as strict JSON (no NaN), for ``--json``."""
    sys.stdout.write(dumps(value))


def dumps(value: Any) -> str:
    """Return ``value`` as strict JSON: NaN is null."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def print_text(text: str) -> None:
    """Write ``text`` to standard output as it is."""
    sys.stdout.write(text)


def wrapped(line: str, width: int | None = None) -> str:
    """Return a line broken between columns, else between words, where a terminal is narrower than it.

    Two spaces part columns; what follows the first line is indented. ``width`` is the terminal's; without
    one, that of standard output, and no end where it is no terminal.
    """
    if width is None:
        if not sys.stdout.isatty():
            return line
        width = out().width
    indent, firm = " " * 4, "\xa0"
    columns = re.split("(  +)", line)
    whole = "".join(c.replace(" ", firm) if c.strip() and len(c) + 4 <= width else c for c in columns)
    broken = textwrap.wrap(whole, width, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(broken).replace(firm, " ")


class Ticker(Protocol):
    """Told of progress by long work."""

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        """Say that ``done`` of ``total`` units of ``stage`` are finished."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Ticker]:
    """Show one bar per stage with the time left on standard error; say nothing when it is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total, figures=None: None  # noqa: ARG005
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=err(),
        refresh_per_second=4,
    )
    ids: dict[str, TaskID] = {}

    def tick(stage: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        text = "  ".join(f"{k} {v:.4g}" for k, v in (figures or {}).items())
        if stage not in ids:
            ids[stage] = bars.add_task(stage, total=total, figures=text)
        bars.update(ids[stage], completed=done, total=total, figures=text)

    with bars:
        yield tick
