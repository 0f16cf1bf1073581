"""Observed rates as a table: for the terminal, and as the Markdown page that is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from bench.selfcheck.designs import Design
    from bench.selfcheck.rates import Rate

Results = Sequence[tuple["Design", Sequence["Rate"]]]


def percent(value: float) -> str:
    """Two significant digits below ten percent, whole numbers above."""
    return f"{100 * value:.1f}" if value < 0.0995 else f"{100 * value:.0f}"


def interval(rate: Rate) -> str:
    """The Monte-Carlo interval."""
    return f"{percent(rate.low)}–{percent(rate.high)}"


def verdict(rate: Rate) -> str:
    """Whether the observed rate is compatible with the stated one; empty where none is stated."""
    if rate.stated is None:
        return ""
    return "ABOVE" if rate.exceeds else "ok"


def terminal(results: Results) -> Table:
    """Return one table over all designs, a block of rows each."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("Percent of screens, or mean share", overflow="fold")
    for heading in ("Observed", "95 % interval", "Stated", "Screens"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for design, found in results:
        table.add_row(Text(f"{design.name}: {design.about}", style="bold"))
        for rate in found:
            stated = "" if rate.stated is None else f"{100 * rate.stated:g}"
            word = Text(verdict(rate), style="bold red" if rate.exceeds else "green")
            table.add_row(rate.text, percent(rate.observed), interval(rate), stated, str(rate.screens), word)
        table.add_section()
    return table


def markdown(results: Results, facts: Sequence[str]) -> str:
    """Return a page: ``facts`` first, then a table per design."""
    lines = ["# Observed error rates", "", *(f"- {fact}" for fact in facts), ""]
    for design, found in results:
        claim = "" if design.claimed else " No rate is claimed here."
        lines += [f"## {design.name}", "", f"{_sentence(design.about)}.{claim}", ""]
        lines += [
            "| percent | observed | 95 % interval | stated | screens | |",
            "|---|---:|---:|---:|---:|---|",
        ]
        for rate in found:
            stated = "" if rate.stated is None else f"{100 * rate.stated:g}"
            cells = (
                rate.text,
                percent(rate.observed),
                interval(rate),
                stated,
                str(rate.screens),
                verdict(rate),
            )
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
