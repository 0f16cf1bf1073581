"""One-shot transfer: is a perturbation that nobody was trained on known again from a single well of it?

The perturbations of one outer fold are the unseen interventions. In a draw one well of each is its support;
every other well of the fold is a query and is assigned to the perturbations in the order of its cosine with
their supports. A label-free or pretrained featurizer gives the same features in every fold; an inductive one
is refitted without the fold's perturbations.

The intervention-aware paper [1]_ reports top-1 and top-5 accuracy over 50 draws. Its one-shot classifier
is not known to us: the nearest support by cosine is our reading, as is that wells of any dose are one class.

References
----------
.. [1] Chen, Liu, Gu & Zhang, intervention-aware distillation (TIDE), arXiv 2604.22832.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks import neighbours
from tasks.base import Scored, TaskData, TaskError
from tasks.checks import check_wells
from tasks.embedding import EmbeddingTask
from tasks.outcomes import agree, tested_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import FoldResult


@dataclass(frozen=True)
class OneShotConfig:
    """Settings of :class:`OneShot`.

    Parameters
    ----------
    draws, seed
        Draws of the supports, and their seed.
    top
        The k of top-k accuracy beside top-1.
    """

    draws: int = 50
    seed: int = 0
    top: int = 5


class OneShot(EmbeddingTask):
    """Know an unseen perturbation again from one well of it: top-1 and top-k accuracy.

    A readout is a perturbation: the share of its query wells, over all draws, whose own support is the
    nearest (``top1``) or among the k nearest (``top5``). Equal similarities count at their expectation, so
    that an embedding without information scores chance, 1 / C and k / C of C perturbations. Every
    perturbation has the same weight, however many wells it has.
    """

    name = "one-shot"
    version = "1"
    layer_kinds = ()
    estimand = "top1"
    metric = "top-1 accuracy"

    def __init__(self, config: OneShotConfig | None = None) -> None:
        self.config = OneShotConfig() if config is None else config

    def prepare(self, data: TaskData) -> TaskData:
        """Return the data: there is no layer to check."""
        return data

    def from_wells(self, data: TaskData, labels: Sequence[str] = ()) -> tuple[TaskData, ...]:  # noqa: ARG002
        """Return the treated wells of perturbations that have two wells at least.

        Raises
        ------
        TaskError
            When fewer than two perturbations have two wells.
        """
        check_wells(data)
        names, count = np.unique(data.groups[~data.control], return_counts=True)
        usable = names[count > 1]
        if len(usable) < 2:
            raise TaskError(
                f"{len(usable)} of {len(names)} perturbations have two wells, one to show and one to ask: "
                "one-shot transfer needs two such perturbations in every fold"
            )
        notes = list(data.notes)
        if len(usable) < len(names):
            alone = len(names) - len(usable)
            notes.append(f"{alone} of {len(names)} perturbations have a single well and take no part.")
        rows = np.flatnonzero(~data.control & np.isin(data.groups, usable))
        posed = replace(
            data,
            units=data.units.iloc[rows].reset_index(drop=True),
            members=data.members[rows],
            Y=np.ones((len(rows), 1), np.float32),
            readouts=("perturbation",),
            groups=data.groups[rows],
            control=data.control[rows],
            layer="wells:one-shot",
            notes=tuple(notes),
        )
        return (posed,)

    def score(self, data: TaskData, folds: pd.DataFrame, results: list[FoldResult]) -> Scored:
        """Return ``top1``, ``top5`` and their chances per perturbation, averaged over repeats.

        Raises
        ------
        TaskError
            When a fold stands twice among the results, or its rows are not those of the fold table.
        """
        agree(folds, results)
        tested = np.unique(folds["perturbation"].to_numpy(np.str_))
        repeats = 1 + max(result.id.repeat for result in results)
        width = 1 + int(folds["fold"].max())
        shape = (repeats, width, len(tested))
        near, among, chance, wide = (np.full(shape, np.nan) for _ in range(4))
        for result in results:
            rows = neighbours.unit_rows(result.prediction)
            names, own = np.unique(data.groups[result.rows], return_inverse=True)
            at = (result.id.repeat, result.id.fold, np.searchsorted(tested, names))
            near[at], among[at], candidates = self._transfer(rows, own, len(names))
            if candidates:
                chance[at], wide[at] = 1.0 / candidates, min(1.0, self.config.top / candidates)
        known = ~np.isnan(near)
        for values in (chance, wide):
            values[~known] = np.nan
        size = np.array([(data.groups == name).sum() for name in tested])
        frame = pd.DataFrame(
            {
                "readout": tested.astype(object),
                "stratum": "all",
                "n_units": size,
                "n_perturbations": 1,
                "top1": _means(near),
                f"top{self.config.top}": _means(among),
                "chance": _means(chance),
                f"chance{self.config.top}": _means(wide),
            }
        )
        nothing = np.zeros((repeats, len(tested), 0), np.float32)
        return Scored(
            scores=frame,
            e=nothing,
            e0=nothing,
            perturbations=tuple(str(p) for p in tested),
            readouts=tuple(str(p) for p in tested),
            folds=tested_in(folds, results, tested),
            fold_values=near.astype(np.float32),
        )

    def _transfer(
        self, rows: NDArray[np.float64], own: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Top-1 and top-k accuracy of a fold's perturbations, and how many candidates there were.

        Wells without features are neither support nor query; a perturbation with fewer than two others is no
        candidate and NaN.
        """
        present = np.isfinite(rows).all(axis=1)
        wells = [np.flatnonzero((own == p) & present) for p in range(number)]
        asked = [p for p in range(number) if len(wells[p]) > 1]
        near, among = np.full(number, np.nan), np.full(number, np.nan)
        if len(asked) < 2:
            return near, among, len(asked)
        used = np.concatenate([wells[p] for p in asked])
        label = np.repeat(np.arange(len(asked)), [len(wells[p]) for p in asked])
        first = np.concatenate([[0], np.cumsum(np.bincount(label))[:-1]])
        similarity = neighbours.cosine(rows[used], rows[used])
        hits = np.zeros((2, len(asked)))
        for draw in range(self.config.draws):
            rng = np.random.default_rng([self.config.seed, draw])
            support = first + np.array([rng.integers(len(wells[p])) for p in asked])
            scores = similarity[:, support]
            mine = scores[np.arange(len(used)), label][:, None]
            above, tied = (scores > mine).sum(axis=1), (scores == mine).sum(axis=1)
            query = np.ones(len(used), bool)
            query[support] = False
            for row, k in enumerate((1, self.config.top)):
                hit = np.clip((k - above) / tied, 0.0, 1.0)
                hits[row] += np.bincount(label[query], hit[query], minlength=len(asked))
        asks = self.config.draws * (np.bincount(label) - 1)
        near[asked], among[asked] = hits / asks
        return near, among, len(asked)


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over repeats and folds of what is known."""
    flat = values.reshape(-1, values.shape[-1])
    known = ~np.isnan(flat)
    count = known.sum(axis=0)
    total = np.where(known, flat, 0.0).sum(axis=0)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return mean
