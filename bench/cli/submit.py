"""``bench submit``: runs as one archive for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import ui
from bench.cli.leaderboard import StoreOption

app = typer.Typer(no_args_is_help=True, help="Write runs to an archive that others can merge.")


@app.callback()
def top() -> None:
    """Write runs to an archive that others can merge."""


@app.command()
def export(
    run: Annotated[list[str], typer.Argument(help="Identifiers of runs, or their beginnings.")],
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="ZIP file to write.")] = Path("entry.zip"),
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="A Python file with tasks.")] = None,
) -> None:
    """Write predictions, scores, cards and hashes of runs; each is verified first.

    No image, no measured value and no path of this machine goes into the archive. It is merged with
    `bench leaderboard --add entry.zip`, on a store that has the same dataset, protocol and readouts.
    """
    from bench.sharing.export import export as write
    from bench.store import Store

    labels = write(Store(Path(store), create=False), run, out, tuple(plugin or ()))
    ui.print_text(f"{out}: {', '.join(labels)}; {out.stat().st_size / 1e6:.1f} MB\n")
