"""Random masking of patch tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from featurizers.mae.config import visible_tokens


class Masking(NamedTuple):
    """Which tokens stay visible.

    Parameters
    ----------
    keep
        (N, K) int64, indices of the visible tokens in ascending order of noise, K = int(L (1 - r)).
    restore
        (N, L) int64, the place of each token in the order (visible, hidden): it undoes the shuffle.
    mask
        (N, L) float32, 1 where a token is hidden.
    """

    keep: Tensor
    restore: Tensor
    mask: Tensor


def random_masking(noise: Tensor, ratio: float) -> Masking:
    """Keep the int(L (1 - r)) tokens with the lowest noise.

    Parameters
    ----------
    noise
        (N, L), one draw per token; the same noise gives the same mask.
    ratio
        Share r of hidden tokens.

    Source: He et al. 2022, section 3.
    """
    kept = visible_tokens(noise.shape[1], ratio)
    shuffle = torch.argsort(noise, dim=1, stable=True)  # (N, L) token at each place
    restore = torch.argsort(shuffle, dim=1)  # (N, L) place of each token
    return Masking(shuffle[:, :kept], restore, (restore >= kept).to(torch.float32))


def select(tokens: Tensor, index: Tensor) -> Tensor:
    """Return ``tokens[n, index[n, k]]``: (N, L, ...) and (N, K) to (N, K, ...)."""
    return tokens[torch.arange(len(tokens), device=tokens.device)[:, None], index]
