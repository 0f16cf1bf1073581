"""The reconstruction objective: masked squared error and masked per-patch Fourier error.

Both are computed on an explicit tensor of patches (N, L, C, P, P), so that the transform is over the two axes
of one channel of one patch for every geometry. (Reshaping flat predictions instead is right only where the
number of patches equals the number of pixels per patch and channels are tokens of their own.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from featurizers.mae.config import FourierNorm, LossOn


class Objective(NamedTuple):
    """The value to minimise and its parts, scalars."""

    loss: Tensor
    squared: Tensor
    fourier: Tensor
    foreground: Tensor


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Cut (N, C, H, W) into non-overlapping patches (N, L, C, P, P), row by row, L = (H / P)(W / P)."""
    n, channels, height, width = images.shape
    grid = images.reshape(n, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, channels, patch, patch)


def to_channel_patches(patches: Tensor) -> Tensor:
    """Make each channel of a patch a token: (N, L, C, P, P) to (N, C L, 1, P, P), channel by channel."""
    n, tokens, channels, patch, _ = patches.shape
    return patches.permute(0, 2, 1, 3, 4).reshape(n, channels * tokens, 1, patch, patch)


def to_images(patches: Tensor) -> Tensor:
    """Undo :func:`to_patches` for square images: (N, L, C, P, P) to (N, C, S, S)."""
    n, tokens, channels, patch, _ = patches.shape
    edge = round(tokens**0.5)
    grid = patches.reshape(n, edge, edge, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(n, channels, edge * patch, edge * patch)


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Return mse[n, l] = mean over c, i, j of (ŷ - y)², (N, L), for patches (N, L, C, P, P)."""
    return (predicted - target).square().mean(dim=(2, 3, 4))


def fourier_error(predicted: Tensor, target: Tensor, norm: FourierNorm = "backward") -> Tensor:
    """Return ft[n, l] = mean over c, u, v of | |F(y)| - |F(ŷ)| |, (N, L), for patches (N, L, C, P, P).

    F is the two-dimensional discrete Fourier transform of one channel of one patch. With ``norm="backward"``
    it is not scaled, which is the convention that a weight of 0.01 belongs to: |F| grows with P. Phase is
    ignored, so a circular shift inside a patch costs nothing.

    Source: Kraus et al. 2024 (loss and weight); Chronowski et al. (L_FT, per patch).
    """
    difference: Tensor = torch.fft.fft2(target, norm=norm).abs() - torch.fft.fft2(predicted, norm=norm).abs()
    return difference.abs().mean(dim=(2, 3, 4))


def fourier_error_of_images(
    predicted: Tensor, target: Tensor, patch: int, norm: FourierNorm = "backward"
) -> Tensor:
    """Return :func:`fourier_error` (N, L) of images (N, C, H, W) cut into patches."""
    return fourier_error(to_patches(predicted, patch), to_patches(target, patch), norm)


def objective(
    predicted: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    weight: float = 0.01,
    norm: FourierNorm = "backward",
    loss_on: LossOn = "masked-tokens",
    foreground: Tensor | None = None,
    foreground_weight: float = 0.0,
    foreground_mean: Tensor | None = None,
) -> Objective:
    """Return (1 - g) [(1 - a) Σ m mse / Σ m + a Σ m ft / Σ m] + g Σ m f mse / Σ m f.

    Parameters
    ----------
    predicted, target
        (N, L, C, P, P).
    mask
        (N, L), 1 where a token was hidden from the encoder.
    weight
        a, the share of the Fourier term.
    norm
        Scaling of the transform, as in ``torch.fft.fft2``.
    loss_on
        m: ``"masked-tokens"`` the mask itself (visible tokens have no gradient), ``"all-tokens"`` ones.
    foreground, foreground_weight
        f (N, L), the share of each token's pixels that belong to the cell, and g. The poster names a third,
        single-cell loss without a formula; reconstruction weighted by foreground is our reading of it.
    foreground_mean
        Mean of m f over the tokens of the whole batch, where these rows are a part of it: then the mean of
        the parts' terms, weighted by their rows, is the term of the batch. None: these rows are the batch.

    Source: Kraus et al. 2024; He et al. 2022 for the masked mean.
    """
    counted = mask if loss_on == "masked-tokens" else torch.ones_like(mask)
    total = counted.sum()
    error = squared_error(predicted, target)
    squared = (error * counted).sum() / total
    fourier = own = torch.zeros_like(squared)
    loss = squared
    if weight:
        fourier = (fourier_error(predicted, target, norm) * counted).sum() / total
        loss = (1 - weight) * squared + weight * fourier
    if foreground_weight:
        assert foreground is not None
        weights = counted * foreground
        mean = weights.mean() if foreground_mean is None else foreground_mean
        own = (error * weights).mean() / mean.clamp(min=torch.finfo(error.dtype).eps)
        loss = (1 - foreground_weight) * loss + foreground_weight * own
    return Objective(loss, squared, fourier, own)
