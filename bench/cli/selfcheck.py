"""``bench selfcheck``: do our own decisions keep the error rates that we state?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import ui
from bench.settings import usable_cores

if TYPE_CHECKING:
    from bench.selfcheck.designs import Design
    from bench.selfcheck.rates import Rate


def selfcheck(
    designs: Annotated[
        str,
        typer.Option("--designs", help="Names with commas between; `list` shows them. \\[default: all]"),
    ] = "",
    screens: Annotated[int, typer.Option("--screens", min=2, help="Simulated screens per design.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first screen.")] = 0,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-j", min=0, help="They change no number. \\[default: all usable cores]"),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="File of finished screens: a stopped run goes on from it.")
    ] = None,
    only_kept: Annotated[
        bool, typer.Option("--only-kept", help="Simulate nothing, show what --keep holds.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the rates as Markdown, too.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Simulate screens with known truth and print how often our decisions are wrong.

    Every screen goes through the nested cross-validation and the decisions that runs go through. Exit code 1
    when an observed error rate is above the stated one beyond chance (one-sided 95 % lower bound). A screen
    takes about a third of a second of one core.
    """
    from bench.errors import BenchError
    from bench.selfcheck import screening, table
    from bench.selfcheck.rates import exceeded, rates

    if designs == "list":
        _list(json=json)
        return
    chosen = _choose(designs)
    if only_kept:
        if keep is None or not keep.exists():
            raise BenchError("--only-kept shows a file of finished screens: name it with --keep")
        records = screening.kept(keep, chosen)
    else:
        workers = usable_cores() if processes is None else processes
        with ui.progress(quiet=json) as tick:
            records = screening.screening(
                chosen, screens, first=seed, processes=workers, keep=keep, tick=tick
            )
    results = [(design, rates(design, records[design.name])) for design in chosen if records[design.name]]
    if not results:
        raise BenchError(f"{keep} holds no screen of {', '.join(d.name for d in chosen)}")
    flat = [rate for _, found in results for rate in found]
    if out is not None:
        text = table.markdown(results, _facts(records, keep))
        out.write_text(text, encoding="utf-8")
    if json:
        ui.emit([dataclasses.asdict(rate) | {"exceeds": rate.exceeds} for rate in flat])
    else:
        ui.out().print(table.terminal(results), soft_wrap=False)
    _fail(exceeded(flat))


def _fail(above: list[Rate]) -> None:
    from bench.errors import BenchError

    if above:
        first = above[0]
        more = f" (and {len(above) - 1} more)" if len(above) > 1 else ""
        raise BenchError(
            f"design {first.design}: {first.text}: observed {100 * first.observed:.1f} % in {first.screens} "
            f"screens, at least {100 * first.least:.1f} %; stated {100 * (first.stated or 0):g} %{more}"
        )


def _choose(names: str) -> list[Design]:
    import difflib

    from bench.errors import UsageError
    from bench.selfcheck.designs import DESIGNS

    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(DESIGNS)
    for name in wanted:
        if name not in DESIGNS:
            near = difflib.get_close_matches(name, DESIGNS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(DESIGNS)}"
            raise UsageError(f"there is no design {name!r}{hint}")
    return [DESIGNS[name] for name in dict.fromkeys(wanted)]


def _list(*, json: bool) -> None:
    from bench.selfcheck.designs import DESIGNS

    if json:
        ui.emit([dataclasses.asdict(design) for design in DESIGNS.values()])
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for design in DESIGNS.values():
        claim = "" if design.claimed else " (shown, no rate is claimed)"
        grid.add_row(Text(design.name), Text(design.about + claim))
    ui.out().print(grid, soft_wrap=False)


def _facts(records: dict[str, list[Any]], keep: Path | None) -> list[str]:
    """What made the numbers of a Markdown page."""
    from datetime import UTC, datetime

    from bench import __version__
    from bench.selfcheck.screening import codes

    own = [record for of in records.values() for record in of]
    seeds = sorted({int(record["seed"]) for record in own})
    seconds = sum(record["seconds"] for record in own) / len(own)
    versions = codes(keep) if keep is not None else []
    made = versions[0] if len(versions) == 1 else f"{len(versions)} versions" if versions else ""
    names = ",".join(name for name, of in records.items() if of)
    return [
        f"wellbench {__version__}, {datetime.now(UTC):%Y-%m-%d}, seeds {seeds[0]} to {seeds[-1]}"
        + (f", code {made}" if made else ""),
        f"{len(own)} screens, {1000 * seconds:.0f} ms of one core each",
        f"`bench selfcheck --designs {names} --screens {max(map(len, records.values()))} --seed {seeds[0]}`",
        "What the words mean and what follows: statistics.md. ABOVE: the one-sided 95 % lower bound of the "
        "observed rate is above the stated one.",
    ]
