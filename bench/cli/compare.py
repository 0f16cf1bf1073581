"""``bench compare`` and ``bench gate``: two runs side by side, and a test for a model builder's CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import ui
from bench.cli.leaderboard import Format, StoreOption, write_text

FAILED, UNUSABLE = 1, 2


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run's identifier, its beginning, or a label.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    store: StoreOption,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Name of a dataset.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="As on its board.")] = None,
    head: Annotated[str | None, typer.Option("--head")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol")] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="How to print; csv has one row per readout.")
    ] = "terminal",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File instead of standard output.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Compare two runs of one board, overall and readout by readout.

    Labels mean the newest runs on the newest board that has both; the options tell boards apart. Runs of
    different boards are refused with the reason.
    """
    from bench.compare import choose, compared
    from bench.store import Store
    from leaderboard.render import pair as render

    opened = Store(Path(store), create=False)
    wanted = {"dataset": dataset, "task": task, "layer": layer, "head": head, "protocol": protocol}
    pair = compared(opened, *choose(opened, a, b, wanted))
    chosen = "json" if json_ else format_
    if chosen == "terminal" and out is None:
        console = ui.out()
        console.print(render.terminal_pair(pair, console.width), soft_wrap=False)
    elif chosen == "json":
        write_text(ui.dumps(render.document_pair(pair)), out)
    elif chosen == "csv":
        write_text(render.csv_pair(pair), out)
    elif chosen == "markdown":
        write_text(render.markdown_pair(pair), out)
    else:
        write_text(ui.as_text(render.terminal_pair(pair, 120)), out)


def gate(
    store: StoreOption,
    baseline: Annotated[
        str, typer.Option("--baseline", help="A run's identifier, its beginning, or a label.")
    ],
    max_drop: Annotated[
        float, typer.Option("--max-drop", help="Largest loss of mean score that is tolerated.")
    ],
    run: Annotated[
        str | None,
        typer.Argument(
            help="The candidate. \\[default: the newest run of an entrant on the baseline's board]",
            show_default=False,
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fail when a run is worse than a baseline by more than --max-drop, and the statistics resolve it.

    Exit status: 1 only if the whole interval of candidate minus baseline lies below minus max-drop; 0 if not,
    saying whether a larger drop is excluded or undecided; 2 if the two cannot be compared.
    """
    from bench.compare import DROPPED
    from bench.compare import gate as judge
    from bench.errors import BenchError
    from bench.store import Store
    from leaderboard import BoardError

    try:
        found = judge(Store(Path(store), create=False), baseline, run, max_drop)
    except (BenchError, BoardError) as error:  # 1 is kept for a resolved drop
        ui.err().print(f"bench: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(UNUSABLE) from error
    if json_:
        ui.emit(found.plain())
    else:
        ui.print_text(found.sentence() + "\n")
        for remark in found.pair.remarks():
            ui.err().print(remark, markup=False, soft_wrap=True)
    raise typer.Exit(FAILED if found.outcome == DROPPED else 0)
