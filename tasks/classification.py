"""Classification of regulation calls: up against not and down against not, by ROC AUC within folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import TaskData, TaskError
from tasks.binary import Binary, BinaryConfig, both_classes
from tasks.checks import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.floating[Any]]

DIRECTIONS = {"up": 1.0, "down": -1.0}
"""Names of the two questions and the call that is positive in each."""


@dataclass(frozen=True)
class ClassificationConfig(BinaryConfig):
    """Settings of :class:`Classification`: those of every task of two classes."""


class Classification(Binary):
    """Predict regulation calls; score by ROC AUC over the perturbations tested in a fold.

    A layer asks two questions, each a board of its own because its readouts, missing values and prevalence
    differ: *up* (1 where up, 0 where not) and *down* (1 where down, 0 where not). In each the other direction
    and the unclassified are missing, never negatives.
    """

    name = "classification"
    version = "1"
    layer_kinds = ("regulation",)
    boards = tuple(f":{direction}" for direction in DIRECTIONS)

    def __init__(self, config: ClassificationConfig | None = None) -> None:
        self.config = ClassificationConfig() if config is None else config

    def prepare(self, data: TaskData) -> TaskData:
        """Check that a layer holds calls: 1 up, -1 down, 0 not, NaN unclassified.

        Raises
        ------
        TaskError
            When shapes disagree, a perturbation has no name, or a value is not a call.
        """
        check(data)
        wrong = np.argwhere(~(np.isin(data.Y, (-1.0, 0.0, 1.0)) | np.isnan(data.Y)))
        if len(wrong):
            row, column = wrong[0]
            raise TaskError(
                f"layer {data.layer!r}: readout {data.readouts[column]!r} of unit row {row} is "
                f"{data.Y[row, column]:g}, not a call ({len(wrong)} such values): calls are 1 up, -1 down, 0 "
                "not, missing unclassified; where replicates disagree, join them with dose_rule each or top"
            )
        return data

    def problems(self, data: TaskData) -> tuple[TaskData, ...]:
        """Return the two questions, ``LAYER:up`` and ``LAYER:down``.

        One that no readout could answer, because none has both classes, is left out, and ``notes`` of the
        other say so.

        Raises
        ------
        TaskError
            As :meth:`prepare`, and when no readout has both classes in either direction.
        """
        prepared = self.prepare(data)
        asked, left = [], []
        for direction, sign in DIRECTIONS.items():
            own = replace(prepared, Y=calls(prepared.Y, sign), layer=f"{data.layer}:{direction}")
            if both_classes(own.Y[~data.control]).any():
                asked.append(own)
            else:
                left.append(f"No board {own.layer}: no readout has both a {direction} and a not call.")
        if not asked:
            raise TaskError(
                f"layer {data.layer!r}: no readout has both a regulated and a not regulated perturbation, so "
                "there is nothing to classify"
            )
        return tuple(replace(own, notes=(*own.notes, *left)) for own in asked)


def calls(Y: Matrix, sign: float) -> NDArray[np.float32]:
    """Return 1 where the call is ``sign`` (1 up, -1 down), 0 where it is not regulated, NaN elsewhere."""
    return np.where(sign == Y, 1.0, np.where(Y == 0.0, 0.0, np.nan)).astype(np.float32)
