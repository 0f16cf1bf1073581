"""``bench fit``: a run's final model as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import ui
from bench.settings import default_store, resolve
from bench.words import count

if TYPE_CHECKING:
    from bench.models.fit import Fitted


def fit(
    run: Annotated[str, typer.Argument(help="Identifier of a finished run, or how it begins.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    store: Annotated[
        str,
        typer.Option(
            "--store", help="Folder of the store.", default_factory=default_store, show_default=False
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", help="The run's dataset; for an entrant that learns from labels."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of such an entrant's training.")] = None,
    processes: Annotated[int | None, typer.Option("--processes", "-j", min=0)] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1)] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1.")] = None,
    plugin: Annotated[
        list[str] | None, typer.Option("--plugin", help="A Python file with entrants; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON; no progress.")] = False,
) -> None:
    """Fit the final model of a run on all its paired data, for `bench predict`.

    Normalisation and penalties are chosen by inner folds over all units, from the menu of the run's protocol.
    A pretrained or transductive featurizer keeps the weights of the run; one that learns from labels is
    fitted once more, on all paired data.
    """
    from bench.datasets import load
    from bench.models.fit import fit as fit_model
    from bench.store import Store

    given: dict[str, Any] = {"seed": seed, "processes": processes, "threads": threads, "device": device}
    settings = resolve(None, given | {"store": store, "plugins": tuple(plugin) if plugin else None})
    opened = Store(Path(store), create=False)
    with ui.progress(quiet=json_) as tick:
        done = fit_model(opened, run, out, tick, None if dataset is None else load(dataset), settings)
    if json_:
        ui.emit(_plain(done, out))
        return
    for line in _lines(done, out):
        ui.out().print(line, markup=False)


def _plain(done: Fitted, out: Path) -> dict[str, Any]:
    established = done.readouts["established"]
    return {
        "model": str(out),
        "run": done.saved.run,
        "label": done.saved.label,
        "head": done.saved.head,
        "normalisation": done.normalisation,
        "units": done.units,
        "readouts": len(done.readouts),
        "established": int(established.sum()),
    }


def _lines(done: Fitted, out: Path) -> list[str]:
    saved, total = done.saved, len(done.readouts)
    established = int(done.readouts["established"].sum())
    units = ", ".join(
        count(n, "unit") + ("" if name == "all" else f" of {name}") for name, n in done.units.items()
    )
    lines = [
        f"{out}: {saved.label} with {saved.head} on layer {saved.layer}, fitted on {units}, "
        f"normalisation {done.normalisation}.",
        f"{established} of {count(total, 'readout')} have an established skill (q < 0.05, run {saved.run}); "
        "`bench predict` gives these.",
    ]
    if established == 0:
        lines.append("`bench predict` will refuse the others unless it is given --all-readouts.")
    return lines
