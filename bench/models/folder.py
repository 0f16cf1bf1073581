"""A model as a folder: JSON, safetensors and one Parquet table, every file under its hash; nothing is
executed.

    model.json              what it is, what it rests on, and the sha256 of every other file
    readouts.parquet        skill, interval and test of every readout
    stratum-N/              head.safetensors, head.json, training.safetensors, per stratum of ``fit_by``
    weights/                the featurizer's weights, where it has any
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd

    from tasks.base import Head
    from tasks.final import Model

SCHEMA = 1
DOCUMENT, READOUTS, WEIGHTS, TRAINING = "model.json", "readouts.parquet", "weights", "training.safetensors"
SIDE = ("provenance.json",)
"""Of a folder of weights: what says how it came about, not what it is."""


@dataclass(frozen=True)
class Saved:
    """What a model is and what it rests on, as plain values.

    Parameters
    ----------
    run, label, entrant, fit_scope
        The run that is its evidence, and who ran.
    spec
        The featurizer's name, preset, overrides and aggregation; None for a table of ready-made profiles.
    weights, fold
        What stood for the featurizer's weights in the key of its features, so that the key of new features
        follows the same rule.
    task, metric, layer, dataset, protocol, head
        Of the run.
    channels
        Of the dataset, for an entrant that reads images.
    """

    run: str
    label: str
    entrant: str
    fit_scope: str
    spec: dict[str, Any] | None
    weights: str | None
    fold: dict[str, Any] | None
    task: str
    metric: str
    layer: str
    dataset: dict[str, str]
    protocol: dict[str, Any]
    head: str
    channels: list[str]


@dataclass(frozen=True, eq=False)
class Opened:
    """A model folder that was read: facts, model, readouts and the folder of weights (None: it has none)."""

    saved: Saved
    model: Model
    readouts: pd.DataFrame
    weights: Path | None


def write(into: Path, saved: Saved, model: Model, readouts: pd.DataFrame, weights: Path | None) -> None:
    """Write the folder ``into`` whole or not at all.

    Raises
    ------
    BenchError
        When it cannot be written, or stands there already.
    """
    from safetensors.numpy import save as as_bytes

    from bench.store import file_digest
    from bench.store.tables import write_table
    from tasks.heads.saved import save

    draft = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
    try:
        draft.mkdir(parents=True)
        for number, stratum in enumerate(model.strata.values()):
            own = draft / f"stratum-{number}"
            own.mkdir()
            save(stratum.head, own)
            arrays = {"units": stratum.units, "distances": stratum.distances}
            (own / TRAINING).write_bytes(as_bytes(arrays))
        write_table(draft / READOUTS, readouts, {"metric": saved.metric})
        if weights is not None:
            shutil.copytree(weights, draft / WEIGHTS, ignore=shutil.ignore_patterns(*SIDE, "manifest.json"))
        document = {
            "schema_version": SCHEMA,
            **dataclasses.asdict(saved),
            "model": {
                "normalisation": model.normalisation,
                "projection": model.projection,
                "selection": dataclasses.asdict(model.selection),
                "columns": list(model.columns),
                "readouts": list(model.readouts),
                "fit_by": list(model.fit_by),
                "strata": list(model.strata),
            },
            "files": {name: file_digest(draft / name) for name in _files(draft)},
            "provenance": provenance(),
        }
        text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True)
        (draft / DOCUMENT).write_text(text + "\n", encoding="utf-8")
        os.rename(draft, into)  # noqa: PTH104  one step, that fails where a folder with files stands
    except OSError as error:
        raise BenchError(f"{into}: cannot be written ({error.strerror}); name another folder") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read(folder: Path, heads: Any) -> Opened:
    """Read a model folder; ``heads(name)`` gives the class of a head.

    Raises
    ------
    BenchError
        When the folder is no model, or a file is missing, changed or strange: nothing but what was written is
        read.
    """
    import numpy as np
    from safetensors.numpy import load_file

    from bench.store.tables import read_table
    from tasks.final import Model, Stratum
    from tasks.heads.saved import load
    from tasks.protocol import Selection

    document = _document(folder)
    _sound(folder, document["files"])
    plain = document["model"]
    cls: type[Head] = heads(document["head"])
    strata = {}
    for number, name in enumerate(plain["strata"]):
        own = folder / f"stratum-{number}"
        arrays = load_file(own / TRAINING)
        if set(arrays) != {"units", "distances"} or arrays["units"].shape[1] != len(plain["columns"]):
            raise BenchError(f"{own / TRAINING}: not the training units of this model; fit it again")
        strata[name] = Stratum(arrays["units"], load(cls, own), np.asarray(arrays["distances"]))
    selection: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in plain["selection"].items()
    }
    model = Model(
        plain["normalisation"],
        plain["projection"],
        Selection(**selection),
        tuple(plain["columns"]),
        tuple(plain["readouts"]),
        tuple(plain["fit_by"]),
        strata,
    )
    saved = Saved(**{field.name: document[field.name] for field in dataclasses.fields(Saved)})
    weights = folder / WEIGHTS
    return Opened(saved, model, read_table(folder / READOUTS), weights if weights.is_dir() else None)


def _document(folder: Path) -> dict[str, Any]:
    path = folder / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(
            f"{folder} is no model: it has no {DOCUMENT}; `bench fit RUN -o FOLDER` makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read ({error}); fit the model again") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA:
        raise BenchError(f"{path}: not a model that this version reads (schema {SCHEMA}); fit it again")
    expected = {field.name for field in dataclasses.fields(Saved)} | {"model", "files", "provenance"}
    odd = (expected ^ set(document)) - {"schema_version"}
    if odd:
        raise BenchError(f"{path}: {', '.join(sorted(odd))} missing or unknown; fit the model again")
    return document


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _sound(folder: Path, listed: dict[str, str]) -> None:
    """Raise at the first file that is not what was written."""
    from bench.store import file_digest

    there = set(_files(folder)) - {DOCUMENT}
    for name in sorted(there | set(listed)):
        if name not in there:
            raise BenchError(f"{folder / name} is missing; fit the model again")
        if name not in listed:
            raise BenchError(
                f"{folder / name} does not belong to the model; remove it or fit the model again"
            )
        if file_digest(folder / name) != listed[name]:
            raise BenchError(f"{folder / name} was changed since the model was written; fit the model again")
