"""Attribution maps of one readout: from a run's head and encoder to SmoothGrad on example crops.

Rule: the best ranked entrant of the board whose network is differentiable and whose head is linear; of its
predictable readouts the one with the largest skill (of all, where none is predictable); of the units tested
in the first outer fold, the wells with the largest measured values, one per perturbation; of a well, the cell
with the median prediction in the first field that has cells. Encoder and head are those of the first outer
fold: neither saw these perturbations' labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench import runs
from bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.datasets import Dataset
    from bench.problem import Problem
    from bench.store import PartKey, Store
    from featurizers.attribution import Differentiable
    from featurizers.base import Featurizer
    from featurizers.crops import Crops
    from leaderboard import Board
    from leaderboard.figures import Absent, Figure
    from leaderboard.figures.attribution import Explained

TITLE = "Attribution maps (SmoothGrad)"
LINEAR = ("ridge", "linear", "elastic-net")
"""Heads whose prediction is linear in the normalised features."""
EXAMPLES = 3
PROBE = 100.0
"""Step, in standard deviations of a feature, by which the slope of a linear head is measured."""


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The run, its readout, and the encoder of the first outer fold."""

    record: Mapping[str, Any]
    readout: str
    established: bool
    featurizer: Featurizer
    parts: tuple[PartKey, ...]


def attribution(
    store: Store, board: Board, by_run: Mapping[str, Any], problem: Problem, tick: Callable[..., None]
) -> Figure | Absent:
    """Return the maps of this board's best differentiable entrant, or why there are none."""
    from featurizers.base import FeaturizerError
    from leaderboard.figures import Absent
    from tasks.base import TaskError

    if board.metric != "skill":
        return Absent(TITLE, "the first board has no squared errors, so its heads are not linear")
    try:
        chosen = _choose(store, board, by_run)
        if isinstance(chosen, str):
            return Absent(TITLE, chosen)
        return _drawn(store, chosen, problem, tick)
    except (BenchError, FeaturizerError, TaskError) as error:
        return Absent(TITLE, str(error).rstrip("."))


def _choose(store: Store, board: Board, by_run: Mapping[str, Any]) -> _Chosen | str:
    """Return what the rule picks, or why it picks nothing."""
    from bench.store import PartKey
    from bench.store.names import partitions

    reasons = []
    for row in board.rows[board.rows["role"] == "entrant"].itertuples(index=False):
        record = by_run[str(row.run)]
        if record["head"] not in LINEAR:
            reasons.append(f"the head {record['head']} of {row.label} is not linear")
            continue
        if record.get("inputs", "image") != "image" or record.get("imported"):
            reasons.append(f"{row.label} is not from images in this store")
            continue
        document = store.manifest(f"runs/run={row.run}")["key_document"]
        listed = (document.get("features") or {}).get("parts") or []
        first = [own for fold, own in listed if fold in ("None", "(0, 0)")]
        if not first:
            reasons.append(f"{row.label} has no features of its own")
            continue
        folders = [folder for folder in first[0] if store.has(folder)]
        found = _featurizer(store, record, folders)
        if isinstance(found, str):
            reasons.append(found)
            continue
        own = board.readouts[(board.readouts["run"] == row.run) & board.readouts["skill"].notna()]
        if own.empty:
            reasons.append(f"{row.label} has no readout with a skill")
            continue
        established = own[own["predictable"] == True]  # noqa: E712
        best = (established if len(established) else own).sort_values(
            ["skill", "readout"], ascending=[False, True]
        )
        keys = (partitions(folder) for folder in folders)
        parts = tuple(PartKey(k["dataset"], k["featurizer"], k["key"], k["plate"], k["images"]) for k in keys)
        readout = str(best["readout"].iloc[0])
        return _Chosen(record, readout, bool(len(established)), found, parts)
    return "; ".join(dict.fromkeys(reasons)) or "the board has no entrant"


def _featurizer(store: Store, record: Mapping[str, Any], folders: list[str]) -> Featurizer | str:
    """Return the featurizer with the weights behind these features, or why it has no gradients."""
    from bench.models.fit import entrant_spec
    from featurizers.attribution import Differentiable

    label = str(record["label"])
    if not folders:
        return f"features of {label} are no longer in the store"
    try:
        spec = entrant_spec(dict(record), ())
    except BenchError as error:
        return str(error).rstrip(".")
    if spec is None:
        return f"{label} is a table of profiles"
    featurizer = spec.build()
    if not isinstance(featurizer, Differentiable):
        return f"{label} has no network that gradients pass through"
    weights = (store.manifest(folders[0]).get("key_document") or {}).get("weights")
    if weights:
        featurizer.load(store.path(str(weights)))
    return featurizer


def _drawn(store: Store, chosen: _Chosen, problem: Problem, tick: Callable[..., None]) -> Figure | Absent:
    import numpy as np

    from leaderboard.figures import Absent
    from leaderboard.figures.attribution import attribution as draw

    record, data = chosen.record, problem.data
    dataset = _dataset(store, record)
    column = data.readouts.index(chosen.readout)
    fold = runs.load_fold(store, record["run"], 0, 0)
    X = runs.aligned(str(store.root), chosen.parts, data)
    tested = np.zeros(len(data.units), bool)
    tested[fold.rows] = True
    hidden = np.asarray(data.members[tested].sum(axis=0)).ravel() > 0
    model = _head(problem, np.where(hidden[:, None], np.float32(np.nan), X), column, record)
    measured = np.where(tested & ~data.control, data.Y[:, column], -np.inf)
    measured = np.where(np.isfinite(measured), measured, -np.inf)
    examples: list[Explained] = []
    seen: set[str] = set()
    for unit in np.argsort(-measured, kind="stable"):
        if len(examples) == EXAMPLES or measured[unit] == -np.inf:
            break
        group = str(data.groups[unit])
        if group in seen:
            continue
        well = next((int(w) for w in data.members[unit].indices if np.isfinite(X[w]).all()), None)
        if well is None:
            continue
        slope = _slope(model, problem, X, well)
        found = _example(dataset, chosen.featurizer, data.wells.iloc[[well]], slope)
        if found is None:
            continue
        seen.add(group)
        place = f"{data.wells['Metadata_Plate'].iloc[well]} {data.wells['Metadata_Well'].iloc[well]}"
        examples.append(replace(found, name=f"{group}, {place}"))
        tick("attribution maps", len(examples), EXAMPLES)
    if not examples:
        return Absent(TITLE, "no tested well of the readout has an image with cells")
    return draw(examples, f"{TITLE}: {chosen.readout}", _caption(chosen))


def _caption(chosen: _Chosen) -> str:
    from featurizers.attribution import NOISE, SAMPLES

    picked = (
        "its predictable readout with the largest skill"
        if chosen.established
        else "its readout with the largest skill; none is predictable, so the maps explain a model that may "
        "be wrong"
    )
    return (
        f"{chosen.record['label']}, head {chosen.record['head']}, {chosen.readout} ({picked}). Rows: wells "
        "with the largest measured values among those tested in the first fold, whose labels neither encoder "
        "nor head saw; the cell with the median prediction of its field. Maps: absolute mean gradient of the "
        f"prediction over {SAMPLES} noisy copies (noise {100 * NOISE:g} % of the channel's range), in change "
        "of the prediction per range of the channel; one scale per crop, bright is strong. They show what "
        "the model uses, not what causes the readout."
    )


def _dataset(store: Store, record: Mapping[str, Any]) -> Dataset:
    from bench.reproduce import recorded_dataset

    asked = store.manifest(f"runs/run={record['run']}")["provenance"].get("asked")
    if asked is None:
        raise BenchError("the run does not say where its images are")
    return recorded_dataset(asked["dataset"], asked, record)


def _head(problem: Problem, X: NDArray[np.float32], column: int, record: Mapping[str, Any]) -> Any:
    """Fit the run's head to one readout on the training units of the first fold."""
    from bench.entrants import known
    from tasks import final
    from tasks.protocol import from_settings

    data = problem.data
    one = replace(data, Y=data.Y[:, [column]], readouts=(data.readouts[column],))
    columns = tuple(f"x{k}" for k in range(X.shape[1]))
    protocol = from_settings(record["protocol"]["settings"])
    return final.fit(one, X, columns, protocol, known(()).get("heads", record["head"]))


def _slope(model: Any, problem: Problem, X: NDArray[np.float32], well: int) -> NDArray[np.float64]:
    """(D,) change of a well's prediction per unit of each of its features: exact for a linear head."""
    import numpy as np
    import pandas as pd

    data = problem.data
    spread = np.nanstd(X, axis=0, dtype=np.float64)
    step = PROBE * np.where(spread > 0, spread, 1.0)
    base = X[well].astype(np.float64)
    probes = np.concatenate([base + np.diag(step), base - np.diag(step)])
    mine = data.wells["Metadata_Plate"].to_numpy() == data.wells["Metadata_Plate"].iloc[well]
    controls = np.flatnonzero(mine & data.well_control)
    wells = pd.concat(
        [data.wells.iloc[controls], data.wells.iloc[np.full(len(probes), well)]], ignore_index=True
    )
    control = np.arange(len(wells)) < len(controls)
    given = np.concatenate([X[controls], probes]).astype(np.float32)
    prediction = model.predict(wells, control, given)[0][len(controls) :, 0].astype(np.float64)
    return np.asarray((prediction[: len(step)] - prediction[len(step) :]) / (2 * step))


def _example(
    dataset: Dataset, featurizer: Featurizer, wells: Any, slope: NDArray[np.float64]
) -> Explained | None:
    """Return a well's example crop with its map; None where no field of it has a cell."""
    import numpy as np
    import torch

    from bench.imaging import field_source
    from featurizers.attribution import Differentiable, smoothgrad
    from leaderboard.figures.attribution import Explained

    assert isinstance(featurizer, Differentiable)
    own: Differentiable = featurizer
    for field in field_source(dataset, wells, featurizer.card.needs):
        crops: Crops = own.crops(field)
        if not len(crops.ids):
            continue
        network = own.differentiable()
        with torch.inference_mode():
            rows = network(torch.from_numpy(crops.pixels), torch.from_numpy(crops.inside)).float().numpy()
        if rows.shape[1] != len(slope):
            raise BenchError("the entrant's rows per cell are not what its head takes")
        predicted = rows.astype(np.float64) @ slope
        middle = int(np.argsort(predicted, kind="stable")[(len(predicted) - 1) // 2])
        found = smoothgrad(network, crops.pixels[middle], crops.inside[middle], slope)
        names = tuple(channel.name for channel in field.channels)
        return Explained("", names, crops.pixels[middle], found)
    return None
