"""What a run is scored on, stored once and shared by every entrant: units, measured readouts, folds.

With the stored predictions it is all that is needed to recompute a score; the dataset itself is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets import Dataset, Layer
    from bench.inputs import Omics
    from bench.store import Store
    from tasks.base import Task, TaskData
    from tasks.protocol import Protocol

Fold = tuple[int, int]
"""An outer fold, as ``(repeat, fold)``."""

SETTINGS = ("layer", "scale", "fit_by", "score_by", "notes", "panel")


@dataclass(frozen=True, eq=False)
class Problem:
    """Units with measured readouts, and the folds in which they are tested."""

    key: str
    data: TaskData
    folds: pd.DataFrame
    folds_hash: str


def outer_folds(problem: Problem, *, first_repeat_only: bool) -> list[Fold]:
    """Return the outer folds (repeat, fold) of a problem, ascending."""
    pairs = problem.folds[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"])
    return [
        (int(r), int(f))
        for r, f in zip(pairs["repeat"], pairs["fold"], strict=True)
        if f >= 0 and (r == 0 or not first_repeat_only)
    ]


def labels_differ(problem: Problem) -> bool:
    """Whether any two tested units have other readouts, so that permuting them changes anything."""
    import numpy as np

    tested = problem.data.Y[~problem.data.control]
    return bool(
        len(tested) and not np.array_equal(tested, np.broadcast_to(tested[0], tested.shape), equal_nan=True)
    )


def folder(key: str) -> str:
    """Return where the problem of this key stands in the store."""
    return f"folds/key={key}"


def make(
    store: Store | None,
    dataset: Dataset,
    layer: Layer,
    task: Task,
    protocol: Protocol,
    omics: Omics | None = None,
) -> list[Problem]:
    """Join the layer to the dataset's wells, draw the folds of every board of the task, and commit them.

    Without a store nothing is committed, for a dry run. With ``omics`` among the inputs only units that have
    them take part.
    """
    from bench.datasets import join_with_report

    joined, report = join_with_report(dataset, layer, dataset.wells)
    facts: dict[str, Any] = {
        "joined": report.sentences(),
        "prepared": " ".join([layer.prepared, *joined.notes]).strip(),
    }
    if layer.prepare:
        from bench.datasets.prepare import document

        facts["steps"] = document(layer)
    if omics is not None:
        from bench.inputs import restrict

        whole, joined = joined, restrict(joined, omics)
        if joined is not whole:
            # Layers that lack other units of the same perturbations give equal folds, and are other problems.
            facts["inputs"] = omics.folder
    return _commit_all(store, dataset, task.problems(joined), task, protocol, facts)


def make_from_wells(
    store: Store | None, dataset: Dataset, task: Task, protocol: Protocol, labels: Sequence[str]
) -> list[Problem]:
    """Pose what the task asks of the wells alone (labels and replicates), and commit it like :func:`make`."""
    from bench.datasets.joins import well_data

    data = well_data(dataset, dataset.wells)
    posed = task.from_wells(data, labels)
    return _commit_all(store, dataset, posed, task, protocol, {"joined": [], "prepared": ""})


def _commit_all(
    store: Store | None,
    dataset: Dataset,
    posed: Sequence[TaskData],
    task: Task,
    protocol: Protocol,
    facts: Mapping[str, Any],
) -> list[Problem]:
    """Commit every board of a task, whose code and tables are digested once."""
    from bench.featurize import identity
    from bench.store import code_digest

    if not posed:
        return []
    shared = {
        "kind": "problem",
        "dataset": identity(dataset),
        "tables": dataset.digest(),
        "task": {"name": task.name, "version": task.version, "code": code_digest(type(task))},
        "protocol": protocol.hash,
    }
    return [_commit(store, data, task, protocol, shared, facts) for data in posed]


def _commit(
    store: Store | None,
    data: TaskData,
    task: Task,
    protocol: Protocol,
    shared: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> Problem:
    from bench.store import digest
    from tasks import folds as draw

    folds = task.split(data, protocol)
    folds_hash = draw.digest(folds)
    document = {**shared, "layer": data.layer, "folds": folds_hash}
    if "steps" in facts:
        document["prepared"] = facts["steps"]
    if "inputs" in facts:
        document["inputs"] = facts["inputs"]
    key = digest(document)

    def write(into: Path) -> None:
        save(into, data, folds)

    manifest = {"key_document": document, **facts, "provenance": provenance()}
    if store is not None:
        store.commit(folder(key), write, manifest)
    return Problem(key, data, folds, folds_hash)


def save(into: Path, data: TaskData, folds: pd.DataFrame) -> None:
    """Write a problem as Parquet tables and a JSON of settings."""
    import numpy as np
    import pandas as pd

    from bench.store.tables import write_matrix, write_table

    units = data.units.reset_index(drop=True).assign(perturbation=data.groups, is_control=data.control)
    wells = data.wells.reset_index(drop=True).assign(is_control=data.well_control)
    members = data.members.tocoo()
    links = pd.DataFrame({"unit": members.row, "well": members.col, "weight": members.data})
    write_table(into / "units.parquet", units, {})
    write_table(into / "wells.parquet", wells, {})
    write_table(into / "members.parquet", links.sort_values(["unit", "well"], ignore_index=True), {})
    write_table(into / "folds.parquet", folds, {})
    index = pd.DataFrame({"unit": np.arange(len(units), dtype=np.int64)})
    write_matrix(into / "measured.parquet", index, {"measured": data.Y}, {})
    settings: dict[str, Any] = {name: getattr(data, name) for name in SETTINGS}
    settings["readouts"] = list(data.readouts)
    text = json.dumps(settings, indent=1, ensure_ascii=False, sort_keys=True)
    (into / "settings.json").write_text(text, encoding="utf-8")


def load(store: Store, key: str) -> Problem:
    """Read a stored problem."""
    import numpy as np
    from scipy import sparse

    from bench.store.tables import read_matrix, read_table
    from tasks import folds as draw
    from tasks.base import TaskData

    path = store.path(folder(key))
    settings = json.loads(store.read_bytes(folder(key), "settings.json"))
    units, wells = read_table(path / "units.parquet"), read_table(path / "wells.parquet")
    links, folds = read_table(path / "members.parquet"), read_table(path / "folds.parquet")
    _, values = read_matrix(path / "measured.parquet")
    shape = (len(units), len(wells))
    data = TaskData(
        wells=wells.drop(columns="is_control"),
        units=units.drop(columns=["perturbation", "is_control"]),
        members=sparse.csr_matrix((links["weight"], (links["unit"], links["well"])), shape=shape),
        Y=values["measured"],
        readouts=tuple(settings["readouts"]),
        groups=units["perturbation"].to_numpy(np.str_),
        control=units["is_control"].to_numpy(bool),
        well_control=wells["is_control"].to_numpy(bool),
        layer=settings["layer"],
        scale=settings["scale"],
        fit_by=tuple(settings["fit_by"]),
        score_by=tuple(settings["score_by"]),
        notes=tuple(settings.get("notes", ())),
        panel=settings.get("panel", "all"),
    )
    return Problem(key, data, folds, draw.digest(folds))
