"""``bench predict``: a model's predictions for plates that have images only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import ui
from bench.errors import BenchError, UsageError
from bench.settings import default_store, resolve
from bench.words import count

if TYPE_CHECKING:
    import pandas as pd

    from bench.models.predict import Predicted

PARTIAL = 3
SUFFIXES = (".parquet", ".csv")


def predict(
    model: Annotated[Path, typer.Argument(help="Folder that `bench fit` made.")],
    dataset: Annotated[str, typer.Argument(help="Dataset with images; it needs no readouts.")],
    store: Annotated[
        str,
        typer.Option(
            "--store", help="Folder for features.", default_factory=default_store, show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table of wells: .parquet or .csv.")] = Path(
        "predictions.parquet"
    ),
    all_readouts: Annotated[
        bool, typer.Option("--all-readouts", help="Readouts without an established skill too.")
    ] = False,
    processes: Annotated[int | None, typer.Option("--processes", "-j", min=0)] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1.")] = None,
    plugin: Annotated[
        list[str] | None, typer.Option("--plugin", help="A Python file with entrants; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON; no progress.")] = False,
) -> None:
    """Predict readouts for every well of a dataset, and say how far to trust them.

    Writes two tables: OUT has a row per well with a flag for wells unlike any that the model was fitted on,
    and a column per readout; OUT with `.readouts` before its suffix has each readout's cross-validated skill
    with its interval. Exit status 3: some images could not be used.
    """
    from bench.datasets import load
    from bench.models.predict import predict as predict_wells
    from bench.store import Store

    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out {out}: the table is written as {' or '.join(SUFFIXES)}; end its name so")
    given: dict[str, Any] = {"processes": processes, "device": device, "store": store}
    settings = resolve(None, given | {"plugins": tuple(plugin) if plugin else None})
    with ui.progress(quiet=json_) as tick:
        found = predict_wells(
            model, load(dataset), Store(Path(store)), settings, tick, all_readouts=all_readouts
        )
    beside = out.with_name(f"{out.stem}.readouts{out.suffix}")
    _write(found.wells, out)
    _write(found.readouts, beside)
    if json_:
        ui.emit(_plain(found, out, beside))
    else:
        for line in _lines(found, out, beside):
            ui.out().print(line, markup=False)
    raise typer.Exit(PARTIAL if found.failures else 0)


def _write(frame: pd.DataFrame, path: Path) -> None:
    try:
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
    except OSError as error:
        raise BenchError(
            f"{path}: cannot be written ({error.strerror}); name another file with --out"
        ) from error


def _plain(found: Predicted, out: Path, beside: Path) -> dict[str, Any]:
    return {
        "wells": str(out),
        "readouts": str(beside),
        "n_wells": len(found.wells),
        "n_out_of_domain": int(found.wells["out_of_domain"].sum()),
        "n_without_features": found.without_features,
        "n_without_model": found.without_model,
        "n_readouts": len(found.readouts),
        "withheld": list(found.withheld),
        "failures": [{"what": f.what, "reason": f.reason} for f in found.failures],
    }


def _lines(found: Predicted, out: Path, beside: Path) -> list[str]:
    wells, total = found.wells, len(found.wells)
    flagged = int(wells["out_of_domain"].sum())
    lines = [
        f"{out}: {count(total, 'well')}, {count(len(found.readouts), 'readout')}; {beside}: their skill and "
        "its interval.",
        f"{flagged} of {count(total, 'well')} out of domain; of a screen like the model's own about 5 % "
        "would be.",
    ]
    if flagged > 0.2 * total:
        lines.append(
            "That is many: these plates are unlike those of the model, and its skill does not hold for them."
        )
    if found.without_features:
        lines.append(f"{count(found.without_features, 'well')} without features: no prediction.")
    if found.without_model:
        lines.append(
            f"{count(found.without_model, 'well')} of a condition that the model was not fitted on: no "
            "prediction."
        )
    if found.withheld:
        lines.append(
            f"{count(len(found.withheld), 'readout')} withheld, whose skill is not established; "
            "--all-readouts adds them."
        )
    lines += [f"{f.what}: {f.reason}" for f in found.failures[:10]]
    return lines
