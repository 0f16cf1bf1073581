"""Targets of compounds: which of many proteins a perturbation hits, by ROC AUC within folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.base import TaskData, TaskError
from tasks.binary import Binary, BinaryConfig, distinct
from tasks.checks import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 5


@dataclass(frozen=True)
class TargetConfig(BinaryConfig):
    """Settings of :class:`Target`.

    Parameters
    ----------
    min_perturbations
        Perturbations that hit a target, and that do not, from which it is asked about: one per outer fold of
        ``nested-cv``. With fewer, most folds have no positive to test or none to learn from.
    """

    min_perturbations: int = 5


class Target(Binary):
    """Predict which targets a compound has; score by ROC AUC over the perturbations tested in a fold.

    A target layer holds 1 where a compound hits the target, 0 where it does not, and is missing where that is
    not known. A compound that is annotated for some targets and not for others should have 0 there, as in
    published tables; the task adds no zero of its own.
    """

    name = "target"
    version = "1"
    layer_kinds = ("target",)
    inputs = ("image", "omics", "image+omics")

    def __init__(self, config: TargetConfig | None = None) -> None:
        self.config: TargetConfig = TargetConfig() if config is None else config

    def prepare(self, data: TaskData) -> TaskData:
        """Return the layer with targets of too few perturbations missing; ``notes`` count and name them.

        Raises
        ------
        TaskError
            When shapes disagree, a perturbation has no name, a value is neither 0 nor 1, or every target has
            too few perturbations.
        """
        check(data)
        wrong = np.argwhere(~(np.isin(data.Y, (0.0, 1.0)) | np.isnan(data.Y)))
        if len(wrong):
            row, column = wrong[0]
            raise TaskError(
                f"layer {data.layer!r}: target {data.readouts[column]!r} of unit row {row} is "
                f"{data.Y[row, column]:g} ({len(wrong)} such values): targets are 1 hit, 0 not hit, "
                "missing unknown"
            )
        hits, others = self._perturbations(data)
        need = self.config.min_perturbations
        few = (hits < need) | (others < need)
        if few.all():
            best = int(np.argmax(np.minimum(hits, others)))
            raise TaskError(
                f"layer {data.layer!r}: too few perturbations per target: the best supported of "
                f"{len(data.readouts)}, {data.readouts[best]!r}, is hit by {hits[best]} and not hit by "
                f"{others[best]}, and {need} of each are needed"
            )
        if not few.any():
            return data
        named = [f"{data.readouts[t]} ({hits[t]} hit, {others[t]} not)" for t in np.flatnonzero(few)[:SHOWN]]
        more = f" and {int(few.sum()) - SHOWN} more" if few.sum() > SHOWN else ""
        note = (
            f"{int(few.sum())} of {len(few)} targets have fewer than {need} perturbations that hit them, or "
            f"that do not, and are not asked: {', '.join(named)}{more}."
        )
        return replace(data, Y=np.where(few, np.float32(np.nan), data.Y), notes=(*data.notes, note))

    @staticmethod
    def _perturbations(data: TaskData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (T,) perturbations that hit each target and that do not; controls are neither."""
        tested = ~data.control
        code = np.unique(data.groups[tested], return_inverse=True)[1]
        Y = data.Y[tested]
        return distinct(Y == 1.0, code), distinct(Y == 0.0, code)
