r"""Squared errors per readout, repeat and perturbation to skill and to the summands that decisions use.

With O_g the observed cells (r, i) of readout g (both errors finite, perturbation i tested in repeat r):

    skill_g = 1 - sum_{O_g} e_rig / sum_{O_g} e0_rig,      skill = mean of skill_g over the defined readouts.

The summand of a perturbation in a repeat is its share of the relative errors, averaged over readouts,

    l_ri = mean_g (e_rig / M0_g) (S / N_g),     M0_g = sum_{O_g} e0_rig / N_g,     N_g = |O_g|,

where S is the number of tested cells (r, i) and unobserved terms are zero. The factor S / N_g = W / n_g (W
perturbations under test and n_g observed, per repeat) is 1 when nothing is missing. Since M0_g N_g is the
floor's total error, l_ri = S mean_g (e_rig / sum e0_g), and so, missing values or not,

    1 - sum_ri l_ri / S  =  mean_g (1 - sum e_g / sum e0_g)  =  skill     exactly.

A readout whose floor makes no error at all, or that is nowhere observed, has no skill: NaN, counted, left out
of means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from leaderboard.schema import BoardError

FloatArray = NDArray[np.float64]
BLOCK = 2048
"""Readouts handled at once: bounds the memory of every kernel in this package."""


@dataclass(frozen=True, eq=False)
class Summands:
    """Relative losses of one run per repeat and perturbation.

    Parameters
    ----------
    loss, floor_loss
        (R, P) float64: l and l0 of the module's formula; 0 where ``folds`` is -1.
    folds
        (R, P) int: outer fold of each cell; -1 where it was not tested or nothing was observed.
    skill_by_readout
        (T,) float64, NaN where undefined.
    variance_factor
        Measured factor on the corrected variance of decisions; 1 for squared errors.
    """

    loss: FloatArray
    floor_loss: FloatArray
    folds: NDArray[np.int64]
    skill_by_readout: FloatArray
    variance_factor: float = 1.0

    @cached_property
    def defined(self) -> NDArray[np.bool_]:
        """(T,) bool: readouts with a skill."""
        return np.isfinite(self.skill_by_readout)

    @cached_property
    def skill(self) -> float:
        """Mean skill over the defined readouts; NaN when there is none."""
        return float(self.skill_by_readout[self.defined].mean()) if self.defined.any() else float("nan")

    @cached_property
    def median_skill(self) -> float:
        """Median over the defined readouts: shown, never decided on."""
        return float(np.median(self.skill_by_readout[self.defined])) if self.defined.any() else float("nan")

    @cached_property
    def effective_number(self) -> float:
        """Effective number of perturbations, (sum l0)^2 / sum l0^2 with l0 averaged over repeats."""
        cells = (self.folds >= 0).sum(axis=0)
        floor = self.floor_loss.sum(axis=0)[cells > 0] / cells[cells > 0]
        total = float((floor**2).sum())
        return float(floor.sum() ** 2 / total) if total > 0 else 0.0


def summands(
    e: NDArray[np.floating], e0: NDArray[np.floating], folds: NDArray[np.integer], block: int = BLOCK
) -> Summands:
    """Return skill per readout and the summands l, l0 of one run.

    Parameters
    ----------
    e, e0
        (R, P, T) squared errors of the run and of the floor; a cell counts where both are finite.
    folds
        (R, P) outer fold of each perturbation, -1 where untested.
    block
        Readouts per block.

    Raises
    ------
    BoardError
        When shapes disagree or an error is negative.

    References
    ----------
    ``docs/statistics.md``, "Summands".
    """
    if e.ndim != 3 or e.shape != e0.shape or folds.shape != e.shape[:2]:
        raise BoardError(
            f"Squared errors must be (repeats, perturbations, readouts) and folds (repeats, perturbations); "
            f"got e {e.shape}, e0 {e0.shape}, folds {folds.shape}."
        )
    repeats, perturbations, readouts = e.shape
    tested = (folds >= 0).reshape(-1, 1)
    loss = np.zeros(repeats * perturbations)
    floor_loss = np.zeros_like(loss)
    seen = np.zeros(loss.shape, dtype=bool)
    skill = np.full(readouts, np.nan)
    flat, flat0 = e.reshape(-1, readouts), e0.reshape(-1, readouts)
    for start in range(0, readouts, block):
        part = slice(start, start + block)
        # Everything below is (RP, block), flattened over repeats and perturbations.
        observed = np.isfinite(flat[:, part]) & np.isfinite(flat0[:, part]) & tested
        # One layout in memory, for the order in which a sum is taken follows it.
        error = np.where(observed, flat[:, part], 0.0).astype(np.float64, order="C")
        floor = np.where(observed, flat0[:, part], 0.0).astype(np.float64, order="C")
        if (error < 0).any() or (floor < 0).any():
            raise BoardError("A squared error is negative: pass squared errors, not differences or scores.")
        total = floor.sum(axis=0)
        defined = total > 0
        weight = np.divide(1.0, total, out=np.zeros_like(total), where=defined)
        loss += error @ weight
        floor_loss += floor @ weight
        seen |= observed[:, defined].any(axis=1)
        # A quotient, not a product with 1 / total: the floor against itself is 0 to the last bit.
        skill[part][defined] = 1.0 - error.sum(axis=0)[defined] / total[defined]
    scale = seen.sum() / max(np.isfinite(skill).sum(), 1)
    shape = (repeats, perturbations)
    return Summands(
        loss=(loss * scale).reshape(shape),
        floor_loss=(floor_loss * scale).reshape(shape),
        folds=np.where(seen.reshape(shape), folds, -1).astype(np.int64),
        skill_by_readout=skill,
    )
