"""Target genes of compounds: does the perturbation of its target look like the compound?

Compounds are queries; candidates are all genes that were perturbed on the same dataset; positives are a
compound's known targets among them. Both are means over their wells (a compound's over all doses), and
similarity is the cosine: whoever blocks a protein should look like the loss of its gene. Nothing is fitted
(the intervention-aware paper's second evaluation [1]_; it reports average precision, ROC AUC and Hit@k).

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
from scipy import sparse
from scipy.special import gammaln

from tasks import neighbours, ranking
from tasks.base import Scored, TaskData, TaskError
from tasks.checks import check_wells
from tasks.embedding import EmbeddingTask
from tasks.treatments import MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import FoldResult
    from tasks.protocol import Protocol

GENE, COMPOUND = "gene", "compound"


@dataclass(frozen=True)
class TargetGeneConfig:
    """Settings of :class:`TargetGene`.

    Parameters
    ----------
    gene
        Column of the wells that names the gene that was perturbed; empty for compounds.
    targets
        Columns that list a compound's target genes, taken where one exists and none is named.
    separator
        Between several targets.
    hits
        The k of Hit@k.
    draws, seed
        Random orders behind a p-value, and their seed.
    """

    gene: str = "Metadata_Gene"
    targets: tuple[str, ...] = ("Metadata_Target", "Metadata_target")
    separator: str = "|"
    hits: tuple[int, ...] = (1, 5, 10)
    draws: int = 10_000
    seed: int = 0


class TargetGene(EmbeddingTask):
    """Rank perturbed genes for each compound by the similarity of their features.

    A readout is a compound: ``ap`` (with ``chance``, ``p`` and ``q`` as in retrieval), ``roc_auc`` (chance
    0.5) and ``hit1`` … (a target among the k nearest genes). Equal similarities count at their expectation.
    """

    name = "target-gene"
    version = "1"
    layer_kinds = ()
    estimand = "ap"
    metric = "mAP"

    def __init__(self, config: TargetGeneConfig | None = None) -> None:
        self.config = TargetGeneConfig() if config is None else config

    def prepare(self, data: TaskData) -> TaskData:
        """Return the data: there is no layer to check."""
        return data

    def from_wells(self, data: TaskData, labels: Sequence[str] = ()) -> tuple[TaskData, ...]:
        """Return one unit per gene and per compound, with the compounds' targets as readouts of 1 and 0.

        Raises
        ------
        TaskError
            When a column is absent, no gene was perturbed, or no compound has a perturbed target.
        """
        check_wells(data)
        config, columns = self.config, data.units.columns
        if config.gene not in columns:
            raise TaskError(
                f"the wells have no column {config.gene!r}: it names the gene that a perturbation hits "
                "(a knock-out, say) and is empty for compounds"
            )
        found = [c for c in (labels or config.targets) if c in columns]
        if not found:
            raise TaskError(
                f"the wells have no column of target genes ({' or '.join(labels or config.targets)}); "
                "--labels names it"
            )
        return tuple(self._posed(data, column) for column in (found if labels else found[:1]))

    def _posed(self, data: TaskData, column: str) -> TaskData:
        treated = np.flatnonzero(~data.control)
        gene = _text(data.units[self.config.gene])[treated]
        listed = _text(data.units[column])[treated]
        is_gene = gene != ""
        names = np.where(is_gene, gene, data.groups[treated].astype(object)).astype(str)
        kind = np.where(is_gene, GENE, COMPOUND)
        key = np.char.add(np.char.add(kind.astype(str), ":"), names)
        unit, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        genes = sorted({str(name) for name in names[is_gene]})
        place = {g: i for i, g in enumerate(genes)}
        if not genes:
            raise TaskError(f"column {self.config.gene!r} is empty for every well: no gene was perturbed")
        targets: list[set[str]] = [set() for _ in unit]
        for row, text in zip(inverse, listed, strict=True):
            targets[row] |= {part.strip() for part in str(text).split(self.config.separator)} - {""}
        compound = kind[first] == COMPOUND
        Y = np.full((len(unit), len(genes)), np.nan, np.float32)
        for row in np.flatnonzero(compound):
            own = [place[t] for t in targets[row] if t in place]
            if own:
                Y[row] = 0.0
                Y[row, own] = 1.0
        asked = ~np.isnan(Y).any(axis=1)
        if not asked.any():
            raise TaskError(
                f"no compound has a target in column {column!r} that is among the {len(genes)} perturbed "
                f"genes (such as {genes[0]!r}): check that both use the same gene symbols"
            )
        keep = asked | ~compound
        number = np.cumsum(keep) - 1
        links = np.flatnonzero(keep[inverse])
        at = number[inverse[links]]
        size = np.bincount(at, minlength=int(keep.sum()))
        shape = (int(keep.sum()), len(data.groups))
        average = sparse.csr_matrix((1.0 / size[at], (at, treated[links])), shape=shape)
        notes = list(data.notes)
        if not keep.all():
            notes.append(
                f"{int((~keep).sum())} of {int(compound.sum())} compounds have no target among the "
                f"{len(genes)} perturbed genes and are not asked."
            )
        return replace(
            data,
            units=pd.DataFrame({"kind": kind[first][keep], "name": names[first][keep]}),
            members=(average @ data.members).tocsr(),
            Y=Y[keep],
            readouts=tuple(genes),
            groups=np.char.partition(unit[keep].astype(str), ":")[:, 2],
            control=np.zeros(int(keep.sum()), bool),
            layer=f"{column}:genes",
            fit_by=("kind",),  # so that permuted labels stay among compounds
            notes=tuple(notes),
        )

    def split(self, data: TaskData, protocol: Protocol) -> pd.DataFrame:  # noqa: ARG002 one fold, whatever it says
        """Return one fold of all units: every compound is asked at once."""
        unit = np.arange(len(data.groups), dtype=np.int64)
        zeros = np.zeros(len(unit), np.int16)
        return pd.DataFrame({"repeat": zeros, "fold": zeros, "unit": unit, "perturbation": data.groups})

    def score(self, data: TaskData, folds: pd.DataFrame, results: list[FoldResult]) -> Scored:
        """Return ``ap``, ``roc_auc`` and ``hit…`` per compound.

        Raises
        ------
        TaskError
            When the embedding is not of all units.
        """
        if len(results) != 1 or not np.array_equal(results[0].rows, np.sort(folds["unit"].to_numpy())):
            raise TaskError(
                "target genes are ranked in one embedding of all units; these results are not one"
            )
        rows = neighbours.unit_rows(results[0].prediction)
        genes = np.flatnonzero((data.units["kind"] == GENE).to_numpy())
        genes = genes[np.argsort(data.units["name"].to_numpy()[genes].astype(str), kind="stable")]
        compounds = np.flatnonzero((data.units["kind"] == COMPOUND).to_numpy())
        present = np.asarray(np.isfinite(rows).all(axis=1))
        positive = data.Y[compounds] == 1.0
        allowed = present[genes] & present[compounds][:, None]
        similarity = np.where(allowed, neighbours.cosine(rows[compounds], rows[genes]), 0.0)
        found = neighbours.average_precision(similarity, positive, allowed)
        each = [
            np.array([i]) if not np.isnan(found.ap[i]) else np.zeros(0, int) for i in range(len(compounds))
        ]
        frame = neighbours.grouped(each, found, self.config.draws, self.config.seed)
        frame = frame.rename(columns={"score": "ap"})
        frame.insert(0, "readout", data.units["name"].to_numpy()[compounds])
        frame.insert(1, "stratum", "all")
        frame.insert(3, "n_perturbations", 1)
        frame["roc_auc"] = ranking.roc_auc(positive.T.astype(np.float32), similarity.T, allowed.T)
        for k in self.config.hits:
            frame[f"hit{k}"] = np.where(np.isnan(found.ap), np.nan, hit_at(k, similarity, positive, allowed))
        frame["n_targets"] = found.positives
        tested = np.unique(data.groups)
        nothing = np.zeros((1, len(tested), 0), np.float32)
        return Scored(
            scores=frame,
            e=nothing,
            e0=nothing,
            perturbations=tuple(str(p) for p in tested),
            readouts=tuple(frame["readout"]),
            folds=np.zeros((1, len(tested)), np.int16),
            fold_values=frame["ap"].to_numpy(np.float32).reshape(1, 1, -1),
        )


def hit_at(
    k: int, similarity: NDArray[np.float64], positive: NDArray[np.bool_], allowed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (b,) the chance that a positive is among the k nearest candidates, over the orders of ties.

    With N candidates above the tie that holds the k-th place, and n in it of which r are positive, it is 1
    where a positive is above, else 1 − C(n − r, k − N) / C(n, k − N).
    """
    filled = np.where(allowed, similarity, -np.inf)
    at = np.minimum(k, allowed.sum(axis=1))
    limit = -np.sort(-filled, axis=1)[np.arange(len(filled)), np.maximum(at, 1) - 1][:, None]
    above = allowed & (filled > limit)
    tie = allowed & (filled == limit)
    n, r = tie.sum(axis=1), (tie & positive).sum(axis=1)
    left = at - above.sum(axis=1)
    possible = n - r >= left
    miss = np.zeros(len(n))
    own = np.flatnonzero(possible)
    miss[own] = np.exp(_log_choose(n[own] - r[own], left[own]) - _log_choose(n[own], left[own]))
    chance: NDArray[np.float64] = np.where((above & positive).any(axis=1), 1.0, 1.0 - miss)
    return chance


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    value: NDArray[np.float64] = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return value


def _text(column: pd.Series) -> NDArray[np.object_]:
    return np.array(["" if str(v).strip() in MISSING else str(v).strip() for v in column], dtype=object)
