"""Retrieval: do neighbours in feature space share a mechanism, and do replicates find each other? No head.

Four questions, each a board of its own, named after what is labelled (a column of the wells, or a layer of
targets):

``activity``
    Wells as queries; positives are other wells of the same treatment (perturbation and dose), negatives the
    negative controls of the query's plate. A readout is a treatment: the mean AP of its wells. Where fewer
    than half of the treatments have two wells, wells of a perturbation at any dose are replicates
    (``activity-any-dose``). Per dose, too: the mean AP of the wells at that dose.
``1-nn``
    Treatments as queries; candidates are the labelled treatments of *other* perturbations, at any dose. A
    readout is a treatment: 1 where its nearest candidate shares a label, 0 where not [1]_.
``1-nn-other-batch``
    The same among treatments that share no batch with the query either.
``consistency``
    Treatments as queries; positives share the label and are of another perturbation, negatives share no
    label. A readout is a label: the mean AP of its treatments [2]_.

Similarity is the cosine after one fixed normalisation of the wells (:mod:`tasks.embedding`). Beside every
score stands what a random order is expected to score, and beside AP a p-value against random orders with
Benjamini–Hochberg over the readouts (:mod:`tasks.neighbours`).

References
----------
.. [1] Ljosa et al., Comparison of methods for image-based profiling of cellular morphological responses to
   small-molecule treatment, J. Biomol. Screen. 2013.
.. [2] Kalinin et al., A versatile information retrieval framework for evaluating profile strength and
   similarity, Nat. Commun. 2025 (copairs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks import neighbours, replicates
from tasks.base import Scored, TaskData, TaskError
from tasks.checks import check, check_wells
from tasks.embedding import EmbeddingTask
from tasks.treatments import activity, treatments, with_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import FoldResult
    from tasks.protocol import Protocol

    Rows = NDArray[np.float64]

ACTIVITY, ANY_DOSE = "activity", "activity-any-dose"
NEAREST, OTHER_BATCH, CONSISTENCY = "1-nn", "1-nn-other-batch", "consistency"


@dataclass(frozen=True)
class RetrievalConfig:
    """Settings of :class:`Retrieval`.

    Parameters
    ----------
    labels
        Columns of the wells that hold labels, taken where they exist and none is named; several labels of
        one well are separated by ``separator``.
    dose, batch, plate
        Columns of the wells.
    draws, seed
        Random orders behind a p-value, and their seed.
    """

    labels: tuple[str, ...] = ("Metadata_MOA", "Metadata_moa")
    separator: str = "|"
    dose: str = "Metadata_Concentration"
    batch: str = "Metadata_Batch"
    plate: str = "Metadata_Plate"
    draws: int = 10_000
    seed: int = 0


class Retrieval(EmbeddingTask):
    """Score features by what their nearest neighbours are: replicates, mechanisms, targets."""

    name = "retrieval"
    version = "1"
    layer_kinds = ("target",)
    estimand = "score"
    metric = "mAP"
    boards = (f":{NEAREST}", f":{CONSISTENCY}")

    def __init__(self, config: RetrievalConfig | None = None) -> None:
        self.config = RetrievalConfig() if config is None else config

    def called(self, data: TaskData) -> str:
        """Return what the score of these data is called."""
        return "1-NN accuracy" if _question(data) in (NEAREST, OTHER_BATCH) else "mAP"

    def prepare(self, data: TaskData) -> TaskData:
        """Check a layer of labels: 1, 0 or missing, with two labels at least that several perturbations have.

        Raises
        ------
        TaskError
            When shapes disagree, a value is no label, or no label is shared by two perturbations.
        """
        check(data)
        wrong = np.argwhere(~(np.isin(data.Y, (0.0, 1.0)) | np.isnan(data.Y)))
        if len(wrong):
            row, column = wrong[0]
            raise TaskError(
                f"layer {data.layer!r}: label {data.readouts[column]!r} of unit row {row} is "
                f"{data.Y[row, column]:g} ({len(wrong)} such values): labels are 1, 0 or missing"
            )
        return with_labels(data, self.config.dose)

    def problems(self, data: TaskData) -> tuple[TaskData, ...]:
        """Return the questions about a layer of labels: nearest neighbour and consistency."""
        own = self.prepare(data)
        asked = []
        for question in (NEAREST, OTHER_BATCH, CONSISTENCY):
            posed = replace(own, layer=f"{data.layer}:{question}")
            if question == OTHER_BATCH and self.config.batch not in data.wells.columns:
                continue
            if question != CONSISTENCY:
                shared, candidate = self._pairs(posed)
                lost = int((~(shared & candidate).any(axis=1) & candidate.any(axis=1)).sum())
                if question == OTHER_BATCH and not (shared & candidate).any():
                    continue
                where = " and batch" if question == OTHER_BATCH else ""
                note = (
                    f"{lost} of {len(shared)} treatments have no treatment of another perturbation{where} "
                    "with a label of theirs and are not asked."
                )
                posed = replace(posed, notes=(*posed.notes, note) if lost else posed.notes)
            asked.append(posed)
        return tuple(asked)

    def from_wells(self, data: TaskData, labels: Sequence[str] = ()) -> tuple[TaskData, ...]:
        """Return phenotypic activity, and the questions about every column of labels.

        Activity needs negative controls and replicates; columns of labels that were not named need to exist.

        Raises
        ------
        TaskError
            When a named column does not exist, its labels cannot be asked about, or nothing can be asked.
        """
        check_wells(data)
        config = self.config
        for column in labels:
            if column not in data.wells.columns:
                known = ", ".join(sorted(c for c in data.wells.columns if c.startswith("Metadata_")))
                raise TaskError(
                    f"the wells have no column {column!r} to take labels from; they have: {known}"
                )
        found = () if labels else tuple(c for c in config.labels if c in data.wells.columns)
        active = activity(data, config.dose)
        posed = [] if isinstance(active, str) else [active]
        for column in labels or found:
            own = treatments(data, column, config.dose, config.separator)
            posed += self.problems(own)
        if not posed:
            raise TaskError(
                f"there is nothing to retrieve: {active}, and the wells have no column of labels "
                f"({' or '.join(config.labels)}; --labels names another)"
            )
        return tuple(posed)

    def split(self, data: TaskData, protocol: Protocol) -> pd.DataFrame:  # noqa: ARG002 one fold, whatever it says
        """Return one fold of all units, controls too: every perturbation is tested at once."""
        unit = np.arange(len(data.groups), dtype=np.int64)
        zeros = np.zeros(len(unit), np.int16)
        frame = {"repeat": zeros, "fold": zeros, "unit": unit, "perturbation": data.groups}
        return pd.DataFrame(frame)

    def score(self, data: TaskData, folds: pd.DataFrame, results: list[FoldResult]) -> Scored:
        """Return a score per readout: ``score``, ``chance`` and, of AP, ``p`` and ``q``.

        Raises
        ------
        TaskError
            When the embedding is not of all units.
        """
        if len(results) != 1 or not np.array_equal(results[0].rows, np.sort(folds["unit"].to_numpy())):
            raise TaskError(
                "retrieval is scored from one embedding of all units; these results are of another task"
            )
        rows = neighbours.unit_rows(results[0].prediction)
        questions: dict[str, Callable[[TaskData, Rows], pd.DataFrame]] = {
            ACTIVITY: self._activity,
            ANY_DOSE: self._activity,
            NEAREST: self._nearest,
            OTHER_BATCH: self._nearest,
            CONSISTENCY: self._consistency,
        }
        frame = questions[_question(data)](data, rows)
        if "stratum" not in frame:
            frame.insert(1, "stratum", "all")
        whole = frame[frame["stratum"] == "all"]
        tested = np.unique(data.groups[~data.control])
        nothing = np.zeros((1, len(tested), 0), np.float32)
        return Scored(
            scores=frame,
            e=nothing,
            e0=nothing,
            perturbations=tuple(str(p) for p in tested),
            readouts=tuple(whole["readout"]),
            folds=np.zeros((1, len(tested)), np.int16),
            fold_values=whole["score"].to_numpy(np.float32).reshape(1, 1, -1),
        )

    def _activity(self, data: TaskData, rows: Rows) -> pd.DataFrame:
        config = self.config
        return replicates.score(data, rows, config.plate, config.dose, config.draws, config.seed)

    def _nearest(self, data: TaskData, rows: Rows) -> pd.DataFrame:
        """Whether the nearest labelled treatment of another perturbation shares a label, per treatment."""
        own = np.flatnonzero(~data.control)
        has = data.Y[own] == 1.0
        present = np.asarray(np.isfinite(rows[own]).all(axis=1))
        shared, candidate = self._pairs(data)
        candidate &= present & present[:, None]
        score = np.full(len(own), np.nan)
        for start in range(0, len(own), neighbours.QUERIES):
            q = slice(start, start + neighbours.QUERIES)
            similarity = neighbours.cosine(rows[own[q]], rows[own])
            score[q] = neighbours.nearest(similarity, shared[q], candidate[q])
        hits, of = (shared & candidate).sum(axis=1), candidate.sum(axis=1)
        chance = np.divide(hits, of, out=np.full(len(own), np.nan), where=~np.isnan(score))
        labels = np.array(data.readouts, dtype=object)
        return pd.DataFrame(
            {
                "readout": data.units["treatment"].to_numpy()[own],
                "n_units": 1,
                "n_perturbations": 1,
                "score": score,
                "chance": chance,
                "n_pos": hits,
                "n_neg": of - hits,
                "perturbation": data.groups[own],
                "label": ["|".join(labels[row]) for row in has],
            }
        )

    def _pairs(self, data: TaskData) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return (m, m) which tested units share a label, and which may be each other's neighbours."""
        own = np.flatnonzero(~data.control)
        has = data.Y[own] == 1.0
        labelled = has.any(axis=1)
        candidate = (data.groups[own][:, None] != data.groups[own]) & labelled & labelled[:, None]
        if _question(data) == OTHER_BATCH:
            batches = _batches(data, self.config.batch)[own]
            candidate &= ~((batches @ batches.T) > 0)
        return (has.astype(np.float32) @ has.T.astype(np.float32)) > 0, candidate

    def _consistency(self, data: TaskData, rows: Rows) -> pd.DataFrame:
        """Mean AP per label of its treatments among the treatments of other perturbations."""
        own = np.flatnonzero(~data.control)
        has = data.Y[own] == 1.0
        group = data.groups[own]
        present = np.asarray(np.isfinite(rows[own]).all(axis=1)) & has.any(axis=1)
        unlike = (has.astype(np.float32) @ has.T.astype(np.float32)) == 0
        parts, groups, start = [], [], 0
        for label in range(has.shape[1]):
            queries = np.flatnonzero(has[:, label] & present)
            positive = has[None, :, label] & (group[queries][:, None] != group)
            allowed = (positive | unlike[queries]) & present
            found = neighbours.precision(rows, own[queries], own, positive, allowed)
            parts.append(found)
            groups.append(start + np.flatnonzero(~np.isnan(found.ap)))
            start += len(queries)
        together = neighbours.Precision.joined(parts)
        frame = self._frame(np.array(data.readouts, dtype=object), groups, together)
        frame["n_perturbations"] = [len(np.unique(group[has[:, t] & present])) for t in range(has.shape[1])]
        return frame

    def _frame(
        self, readouts: NDArray[Any], groups: list[NDArray[np.int64]], found: neighbours.Precision
    ) -> pd.DataFrame:
        frame = neighbours.grouped(groups, found, self.config.draws, self.config.seed)
        frame.insert(0, "readout", readouts)
        frame.insert(2, "n_perturbations", 1)
        return frame


def _question(data: TaskData) -> str:
    return data.layer.rpartition(":")[2]


def _batches(data: TaskData, column: str) -> NDArray[np.float32]:
    """Return (n, B) whether a unit has a well in a batch."""
    codes, names = pd.factorize(data.wells[column].astype(str))
    member = np.zeros((len(codes), len(names)), np.float32)
    member[np.arange(len(codes)), codes] = 1.0
    return np.asarray((data.members != 0).astype(np.float32) @ member)
