"""Eleven numbers per gene, all genes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurizers.base import FeaturizerError
from featurizers.fields import grey_levels, lattice, where

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.base import Field
    from featurizers.stain.config import StainConfig

RUIFROK = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Absorption of red, green and blue by haematoxylin, eosin and DAB, not yet of length 1 (Ruifrok and Johnston
2001, as scikit-image's ``rgb_from_hed`` has them)."""

ELEMENTS = 1 << 24
"""Concentrations computed at once; more are taken gene by gene block."""

_NONLINEARITIES = {
    "identity": lambda c: c,
    "relu": torch.relu,
    "softplus": functional.softplus,
    "tanh": torch.tanh,
}


def stains() -> Tensor:
    """Return M (3, 3): one stain's colour per row, each of length 1."""
    colours = torch.tensor(RUIFROK, dtype=torch.float64)
    unit: Tensor = colours / colours.square().sum(dim=1, keepdim=True).sqrt()
    return unit.float()


def optical_density(levels: NDArray[np.float64], epsilon: float) -> NDArray[np.float32]:
    """Return −ln((x + ε) / (1 + ε)) of grey levels x in [0, 1]; 0 for white."""
    return (-np.log((levels + epsilon) / (1.0 + epsilon))).astype(np.float32)


def sampled(field: Field, name: str, config: StainConfig) -> NDArray[np.float32]:
    """Return (P, 3) optical densities of the field's lattice of pixels.

    Raises
    ------
    FeaturizerError
        When the field has no pixels or they are not finite.
    """
    levels = grey_levels(field, name)
    if levels.min() < 0:
        msg = f"{where(field)}: pixels below 0 have no optical density; {name} reads raw transmitted light"
        raise FeaturizerError(msg)
    return optical_density(lattice(levels, config.pixels).T, config.epsilon)


class StainRegressors(nn.Module):
    """One stain regressor per gene, 11 parameters each: a 3 × 3 matrix and two of a read-out.

    With o the optical density of a pixel (a row of 3), D = M⁻¹ the unmixing, c = o D the concentrations and
    h = mean over pixels of g(c),

        y = w h₁ + b  (one-stain)      or      y = w₁ h₁ + w₂ h₂  (two-stains).

    Parameters
    ----------
    matrix
        (G, 3, 3): M, or D itself where that is learnt.
    readout
        (G, 2): the two weights, or weight and intercept. They start at 0, the training mean.
    """

    def __init__(self, config: StainConfig, genes: int) -> None:
        super().__init__()
        start = stains() if config.learn == "stain" else torch.linalg.inv(stains())
        self.matrix = nn.Parameter(start.repeat(genes, 1, 1))
        self.readout = nn.Parameter(torch.zeros(genes, 2))
        self.config = config

    def unmixing(self) -> Tensor:
        """Return D (G, 3, k): the columns that the read-out uses."""
        whole = torch.linalg.inv(self.matrix) if self.config.learn == "stain" else self.matrix
        return whole[:, :, : 2 if self.config.readout == "two-stains" else 1]

    def pooled(self, density: Tensor) -> Tensor:
        """Return h (F, G, k), the mean of g over the pixels of each field, from densities (F, P, 3)."""
        nonlinearity = _NONLINEARITIES[self.config.nonlinearity]
        unmixing = self.unmixing()
        genes, _, stains_used = unmixing.shape
        fields, pixels, _ = density.shape
        block = max(1, ELEMENTS // max(1, fields * pixels * stains_used))
        flat = density.reshape(-1, 3)
        means = []
        for start in range(0, genes, block):
            own = unmixing[start : start + block]
            columns = own.permute(1, 0, 2).reshape(3, -1)  # (3, genes · k)
            concentrations = nonlinearity(flat @ columns).reshape(fields, pixels, -1)
            means.append(concentrations.mean(dim=1).reshape(fields, len(own), stains_used))
        return torch.cat(means, dim=1)

    def forward(self, density: Tensor, unit: Tensor, units: int) -> Tensor:
        """Return y (units, G): fields (F, P, 3) of the same unit (F,) are averaged; every unit has one."""
        h = self.pooled(density)
        total = h.new_zeros(units, *h.shape[1:]).index_add(0, unit, h)
        count = torch.bincount(unit, minlength=units).clamp(min=1)
        mean = total / count[:, None, None]
        if self.config.readout == "two-stains":
            return (mean * self.readout).sum(dim=2)
        return mean[:, :, 0] * self.readout[:, 0] + self.readout[:, 1]


def losses(predicted: Tensor, target: Tensor, observed: Tensor, config: StainConfig) -> Tensor:
    """Return (G,) the mean loss over the observed rows of each gene; 0 where none is.

    Genes share nothing, so the gradient of the sum is that of each gene's own training.
    """
    distance = functional.mse_loss if config.loss == "mse" else functional.huber_loss
    each = distance(predicted, target, reduction="none")
    return torch.where(observed, each, 0.0).sum(dim=0) / observed.sum(dim=0).clamp(min=1)
