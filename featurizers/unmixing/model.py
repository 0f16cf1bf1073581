"""The unmixing, and the read-out that it is trained through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurizers.training.schedules import stream

if TYPE_CHECKING:
    from featurizers.unmixing.config import UnmixingConfig

_NONLINEARITIES = {
    "identity": lambda c: c,
    "relu": torch.relu,
    "softplus": functional.softplus,
    "tanh": torch.tanh,
}

FLOOR = 1e-6
"""Share of the largest variance below which a direction of the pooled concentrations counts as constant."""


class Unmixer(nn.Module):
    """Pooled concentrations of intensities: h = mean over pixels of g(z U + b), z = (x - m) / s.

    Parameters
    ----------
    unmixing
        U (C, K), learnt.
    bias
        b (K,), learnt, 0 at the start.
    median, inverse_spread
        m and 1 / s (C,), of the training pixels; 0 for a channel that says nothing.
    """

    median: Tensor
    inverse_spread: Tensor

    def __init__(self, config: UnmixingConfig, channels: int, seed: int = 0) -> None:
        super().__init__()
        self.bend = _NONLINEARITIES[config.nonlinearity]
        self.unmixing = nn.Parameter(start(config, channels, seed))
        self.bias = nn.Parameter(torch.zeros(self.unmixing.shape[1]))
        self.register_buffer("median", torch.zeros(channels))
        self.register_buffer("inverse_spread", torch.ones(channels))

    def set_scale(self, median: Tensor, spread: Tensor) -> None:
        """Take m and s over; an infinite s makes a channel 0."""
        self.median.copy_(median)
        self.inverse_spread.copy_(1 / spread)

    def forward(self, intensities: Tensor) -> Tensor:
        """Return h (F, K) of intensities (F, P, C)."""
        z = (intensities - self.median) * self.inverse_spread
        concentrations: Tensor = self.bend(z @ self.unmixing + self.bias)
        return concentrations.mean(dim=1)


def start(config: UnmixingConfig, channels: int, seed: int) -> Tensor:
    """Return U (C, K) at the start; see :class:`~featurizers.unmixing.UnmixingConfig`."""
    count = config.concentrations or channels
    random = torch.randn(count, channels, generator=stream(seed, "weights", 0))
    columns = functional.normalize(random, dim=1).T.contiguous()
    if config.start == "identity" and count >= channels:
        columns[:, :channels] = torch.eye(channels)
    return columns


class Regression(nn.Module):
    """The unmixing with a linear read-out to T standardised readouts: ŷ = (h - μ) A W + w.

    μ and A (K, K) whiten the pooled concentrations that the training wells have at the start, and stay. They
    change no function that the read-out can reach, only how fast it gets there. W and w begin at 0, the
    training mean.
    """

    mean: Tensor
    whiten: Tensor

    def __init__(self, config: UnmixingConfig, channels: int, readouts: int, seed: int) -> None:
        super().__init__()
        self.unmixer = Unmixer(config, channels, seed)
        count = self.unmixer.bias.shape[0]
        self.weight = nn.Parameter(torch.zeros(count, readouts))
        self.intercept = nn.Parameter(torch.zeros(readouts))
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("whiten", torch.eye(count))

    def set_whitening(self, pooled: Tensor) -> None:
        """Take μ and A from the pooled concentrations (n, K) of the training wells.

        A = Q diag(λ^-½) Qᵀ with Q and λ the eigenvectors and eigenvalues of their covariance; a direction
        without variance is left out.
        """
        rows = pooled.double()
        mean = rows.mean(dim=0)
        values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        kept = values > FLOOR * values[-1].clamp(min=1e-12)
        factors = torch.where(kept, values.clamp(min=1e-300).rsqrt(), 0.0)
        self.mean.copy_(mean)
        self.whiten.copy_(vectors * factors @ vectors.T)

    def pooled(self, intensities: Tensor, unit: Tensor, units: int) -> Tensor:
        """Return (units, K): concentrations of fields (F, P, C), averaged over those of a unit (F,)."""
        h = self.unmixer(intensities)
        total = h.new_zeros(units, h.shape[1]).index_add(0, unit, h)
        mean: Tensor = total / torch.bincount(unit, minlength=units).clamp(min=1)[:, None]
        return mean

    def forward(self, intensities: Tensor, unit: Tensor, units: int) -> Tensor:
        """Return ŷ (units, T) of fields (F, P, C) that belong to units (F,); every unit has one."""
        rows = (self.pooled(intensities, unit, units) - self.mean) @ self.whiten
        predicted: Tensor = rows @ self.weight + self.intercept
        return predicted


def squared_error(predicted: Tensor, target: Tensor, observed: Tensor) -> Tensor:
    """Return Σ (ŷ - y)² over the observed entries of (n, T)."""
    return torch.where(observed, (predicted - target).square(), 0.0).sum()
