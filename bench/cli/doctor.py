"""``bench doctor``: what is installed, what works, what to do about the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import ui


def doctor(
    store: Annotated[
        str | None, typer.Option("--store", help="Feature store that runs would use.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this installation; exit code 1 when something is broken."""
    from bench.doctor import examine
    from bench.settings import default_store

    with ui.progress(quiet=json) as tick:
        tick("importing torch", 0, 1)
        findings = examine(Path(store or default_store()))
        tick("importing torch", 1, 1)
    if json:
        ui.emit([dataclasses.asdict(f) for f in findings])
    else:
        from rich.table import Table
        from rich.text import Text

        colours = {"ok": "green", "note": "yellow", "broken": "red"}
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for finding in findings:
            grid.add_row(Text(finding.status, colours[finding.status]), finding.check, Text(finding.message))
        console = ui.out()
        console.print(grid, soft_wrap=False)
        broken = sum(f.status == "broken" for f in findings)
        console.print(f"{broken} broken" if broken else "nothing is broken")
    if any(f.status == "broken" for f in findings):
        raise typer.Exit(1)
