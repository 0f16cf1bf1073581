"""Readouts as a model is trained on them: centred and scaled on the training rows, masked where missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Standardised readouts z = (y − m) / s, and the way back.

    m and s are mean and standard deviation with divisor n − 1 over the observed rows of each readout, as
    Image2Omics' released code has them; s is 1 where it is 0 or unknown, m is NaN where nothing was observed.

    Parameters
    ----------
    values
        (n, T) float32, 0 where missing.
    observed
        (n, T) bool.
    mean, std
        (T,) float64.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def of(cls, readouts: NDArray[np.float32]) -> Targets:
        """Standardise (n, T) readouts, NaN where missing."""
        observed = ~np.isnan(readouts)
        count = observed.sum(axis=0)
        y = np.where(observed, readouts, 0.0).astype(np.float64)
        mean = np.divide(y.sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
        centred = np.where(observed, y - mean, 0.0)
        squares = (centred**2).sum(axis=0)
        std = np.sqrt(np.divide(squares, count - 1, out=np.zeros(len(count)), where=count > 1))
        # a constant readout keeps a spread of rounding errors that must not be blown up
        std = np.where(std > 1e-6 * np.abs(np.nan_to_num(mean)), std, 1.0)
        return cls((centred / std).astype(np.float32), observed, mean, std)

    def undone(self, predictions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (k, T) predictions of z on the readouts' own scale."""
        return (predictions.astype(np.float64) * self.std + self.mean).astype(np.float32)
