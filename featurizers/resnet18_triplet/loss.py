"""The multiple-instance triplet loss with semi-hard online mining over well embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from featurizers.resnet18_triplet.config import Fallback


class Triplets(NamedTuple):
    """Indices of wells, (T,) int64 each."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def squared_distances(embeddings: Tensor) -> Tensor:
    """Return d[i, j] = ||h_i - h_j||² (n, n) for h (n, D), by differences: exactly 0 on the diagonal."""
    return (embeddings[:, None] - embeddings[None]).square().sum(dim=2)


def mine(distances: Tensor, classes: Tensor, *, margin: float, fallback: Fallback) -> Triplets:
    """Choose one negative for each ordered pair of wells of a class.

    For a pair (a, p) the semi-hard negatives are the wells n of other classes with
    d(a, p) < d(a, n) < d(a, p) + α; the nearest of them is taken. Where there is none, ``"farthest"``
    takes the negative with the largest d(a, n), ``"skip"`` leaves the pair out. Ties go to the smaller index.

    Parameters
    ----------
    distances
        (n, n) squared distances.
    classes
        (n,) int64.
    margin
        α.

    Source: Mehrizi et al. 2023, section 5.3.2; semi-hard after Schroff et al. 2015 (FaceNet), section 3.2.
    The paper does not say which of several semi-hard negatives is taken, nor the fallback: both our reading.
    """
    same = classes[:, None] == classes[None]  # (n, n)
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    anchor, positive = torch.nonzero(same & ~itself, as_tuple=True)  # (T,) each
    near = distances[anchor, positive][:, None]  # (T, 1)
    to_all = distances[anchor]  # (T, n)
    other = ~same[anchor]
    semi_hard = other & (to_all > near) & (to_all < near + margin)
    nearest = to_all.masked_fill(~semi_hard, torch.inf).argmin(dim=1)
    farthest = to_all.masked_fill(~other, -torch.inf).argmax(dim=1)
    found = semi_hard.any(dim=1)
    usable = found if fallback == "skip" else other.any(dim=1)
    negative = torch.where(found, nearest, farthest)
    return Triplets(anchor[usable], positive[usable], negative[usable])


def triplet_loss(distances: Tensor, triplets: Triplets, margin: float) -> Tensor:
    """Return the mean of max(0, d(a, p) - d(a, n) + α) over triplets; 0 without any.

    Source: Mehrizi et al. 2023, section 5.3.2, squared Euclidean distances of well embeddings, which are not
    normalised (FaceNet's are; the paper names no normalisation).
    """
    if not len(triplets.anchor):
        return distances.sum() * 0.0
    near = distances[triplets.anchor, triplets.positive]
    far = distances[triplets.anchor, triplets.negative]
    return (near - far + margin).clamp(min=0).mean()
