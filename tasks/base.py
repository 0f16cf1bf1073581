"""The contracts of this package: what a head is, what a task is given, what a fold returns.

Shapes: N wells, n units (rows that carry readouts), D features, T readouts, P perturbations,
R repeats, K outer folds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

    from tasks.protocol import Protocol


class TaskError(ValueError):
    """A wrong input of a task, head or protocol, said in one sentence with its remedy."""


class LeakageError(TaskError):
    """The audit's refusal: scoring would let something about the test rows reach the fit."""


@dataclass(frozen=True, eq=False)
class TaskData:
    """Readouts on units, and how wells make up a unit.

    Parameters
    ----------
    wells
        N rows; ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_pert_type`` where known.
    units
        n rows; one per row of ``Y``, with the ``Metadata_`` columns of the layer's key and whatever is
        constant over a unit's wells.
    members
        (n, N) CSR; row u averages the wells of unit u (each row sums to 1; a broadcast layer has one
        well per unit). Features of units are ``members @ X``.
    Y
        (n, T) float32; NaN is missing.
    readouts
        T unique names.
    groups
        (n,) str, the perturbation of each unit (InChIKey first block or name; the gene, not the guide).
    control
        (n,) bool, negative controls: they normalise and are never test rows.
    well_control
        (N,) bool, the same per well.
    layer
        Name of the readout layer.
    scale
        ``counts``, ``log``, ``ratio`` or ``z``, as the layer declares it.
    fit_by, score_by
        Columns of ``units``: a separate model per value of ``fit_by``; skill also per value of ``score_by``.
    notes
        What a reader of the scores must know of how units and readouts were chosen; a sentence each.
    panel
        How the readouts were picked: ``all``, ``named``, or ``score-selected``, which the audit warns of.
    """

    wells: pd.DataFrame
    units: pd.DataFrame
    members: sparse.csr_matrix
    Y: NDArray[np.float32]
    readouts: tuple[str, ...]
    groups: NDArray[np.str_]
    control: NDArray[np.bool_]
    well_control: NDArray[np.bool_]
    layer: str = "readouts"
    scale: str = "z"
    fit_by: tuple[str, ...] = ()
    score_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    panel: str = "all"


@dataclass(frozen=True, slots=True)
class FoldId:
    """One outer fold of one repeat."""

    repeat: int
    fold: int


@dataclass(frozen=True, eq=False)
class Block:
    """Features of one kind, normalised and standardised apart from others that stand beside them.

    Parameters
    ----------
    name
        ``image`` or ``omics``, for messages.
    X
        (N, D) features of the wells, NaN rows where a well has none.
    plates
        Whether the protocol's plate normalisations apply: the negative controls of image plates say nothing
        of values that were measured elsewhere.
    names
        D names of the features, where they are known; only a blocklist asks for them.
    """

    name: str
    X: NDArray[np.float32]
    plates: bool = True
    names: tuple[str, ...] = ()


FeatureSupplier = Callable[[FoldId], NDArray[np.float32] | Sequence[Block]]
"""Gives (N, D) features of the wells, NaN rows where a well has none, or several blocks of them. An inductive
encoder returns other features in every fold; pretrained and transductive ones return the same matrix."""


class Head(ABC):
    """Vectors to readouts, many readouts at once, in scikit-learn's manner.

    ``fit`` chooses every hyper-parameter by itself, per readout where the head allows, in grouped inner
    folds made from ``groups`` and the head's seed alone, so that every entrant meets the same
    inner folds, menu and budget.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    first_repeat_only: ClassVar[bool] = False
    """Whether a run takes the outer folds of the first repeat only, because the head is dear."""

    calls_only: ClassVar[bool] = False
    """Whether the head takes readouts of 0 and 1 only."""

    cost: ClassVar[str] = ""
    """What a dear head costs, in one sentence that is shown before it runs."""

    saved: ClassVar[tuple[str, ...]] = ()
    """Attributes that ``predict`` reads, for :mod:`tasks.heads.saved`; empty for a head that cannot be
    saved."""

    device: str = "cpu"
    """Where it computes, in torch's words; heads that know only the processor do not ask."""

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Head:  # noqa: ARG003 a head without such settings ignores it
        """Return a head with the protocol's menu and budget (``inner_folds``, ``seed``, ``penalties``)."""
        return cls()

    @abstractmethod
    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Head:
        """Fit X (m, D) to Y (m, T) where mask (m, T) is True; groups (m,) are perturbations.

        Sets ``inner_loss_`` (T,): summed squared error (or the head's own loss) over the inner validation
        rows at the chosen setting, and ``chosen_``: mapping of setting name to (T,) array.
        """

    @abstractmethod
    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 predictions for X (k, D)."""

    def restored(self) -> None:  # noqa: B027 most heads have nothing to put right
        """Put right what files cannot hold as it was, after the attributes of ``saved`` were read."""

    inner_loss_: NDArray[np.float64]
    chosen_: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What one outer fold of one run leaves behind; enough to recompute every score.

    Parameters
    ----------
    rows
        (m,) int64, units that were tested, ascending.
    prediction
        (m, T) float32; NaN for a unit whose wells have no features.
    floor
        (m, T) float32, the floor's prediction for the same rows (training mean; per ``fit_by`` stratum).
    chosen
        Setting name to (T,) values chosen in the inner folds (``alpha``), or to a scalar string
        (``normalisation``).
    """

    id: FoldId
    rows: NDArray[np.int64]
    prediction: NDArray[np.float32]
    floor: NDArray[np.float32]
    chosen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores and summands of one run.

    Parameters
    ----------
    scores
        One row per readout (and per ``score_by`` stratum, column ``stratum``, ``"all"`` for the whole):
        ``readout``, ``stratum``, ``n_units``, ``n_perturbations`` and the task's estimands (NaN: undefined).
    e, e0
        (R, P, T) float32: squared error of the entrant and of the floor, averaged over the rows of a
        perturbation within a repeat; NaN where the perturbation has no observed row.
    perturbations
        P names, ascending.
    folds
        (R, P) int16, the outer fold in which a perturbation was tested; -1 when never.
    fold_values
        (R, K, T) float32 scores of a task whose estimand exists per fold only, NaN where undefined; ``e`` and
        ``e0`` are then (R, P, 0). None for a task with squared errors.
    """

    scores: pd.DataFrame
    e: NDArray[np.float32]
    e0: NDArray[np.float32]
    perturbations: tuple[str, ...]
    readouts: tuple[str, ...]
    folds: NDArray[np.int16]
    fold_values: NDArray[np.float32] | None = None


class Task(ABC):
    """What is predicted and how it is scored."""

    name: ClassVar[str]
    version: ClassVar[str]
    layer_kinds: ClassVar[tuple[str, ...]]
    """Kinds of readout layer (``abundance``, ``regulation``, ``target``) that the task takes."""
    floor: ClassVar[str]
    """Head of the floor's run."""

    floor_label: ClassVar[str] = "training mean"
    """What a board calls the floor."""

    default_head: ClassVar[str]
    needs_head: ClassVar[bool] = True
    """False for a task that scores features as they are: see :mod:`tasks.embedding`."""

    predicts_calls: ClassVar[bool] = False
    """Whether all that is fitted is 0 or 1, so that a head of calls may take it."""

    estimand: ClassVar[str] = "r2"
    """Column of the scores whose mean over readouts ranks a board."""

    metric: ClassVar[str] = "skill"
    """What a board calls that column."""

    takes_predictors: ClassVar[bool] = False
    """Whether values of readouts, predicted by one model from images, can be scored as they are."""

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    """What may be predicted from: ``image``, ``omics``, ``image+omics``."""

    boards: ClassVar[tuple[str, ...]] = ("",)
    """What :meth:`problems` adds to the layer's name, per board."""

    def problems(self, data: TaskData) -> tuple[TaskData, ...]:
        """Return what a layer asks, one prepared table per board; ``layer`` tells them apart."""
        return (self.prepare(data),)

    @abstractmethod
    def prepare(self, data: TaskData) -> TaskData:
        """Check the layer for this task and return what is fitted, or raise :class:`TaskError`."""

    def from_wells(self, data: TaskData, labels: Sequence[str] = ()) -> tuple[TaskData, ...]:  # noqa: ARG002
        """Return what is asked of the wells alone, without a readout layer; nothing by default.

        Parameters
        ----------
        data
            One unit per well, without readouts.
        labels
            Columns of the wells that were named to be asked about; empty leaves it to the task.
        """
        return ()

    def rules(self, protocol: Protocol) -> Protocol:
        """Return the protocol that the task runs under when ``protocol`` is chosen: that one by default."""
        return protocol

    def called(self, data: TaskData) -> str:  # noqa: ARG002 a task with one score
        """Return what a board calls the score of these data."""
        return self.metric

    def split(self, data: TaskData, protocol: Protocol) -> pd.DataFrame:
        """Return the outer folds of the units; see :func:`tasks.folds.make`."""
        from tasks import folds

        return folds.make(data, protocol)

    @abstractmethod
    def score(self, data: TaskData, folds: pd.DataFrame, results: list[FoldResult]) -> Scored:
        """Turn stored fold results into scores and summands; a pure function of its arguments."""
