"""Contrastive objectives over a batch of images and their molecules.

References
----------
.. [1] Fürst et al. 2022, CLOOB: Modern Hopfield Networks with InfoLOOB Outperform CLIP, NeurIPS.
.. [2] Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, ICML
(CLIP).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def retrieve(state: Tensor, stored: Tensor, beta: float) -> Tensor:
    """Return what a modern Hopfield network that stores Y retrieves for states R, at unit length.

    U(R, Y) = softmax(β R Yᵀ) Y, each row then divided by its norm; no projections [1]_. For β → ∞ a row is
    the stored pattern nearest to its state, for β → 0 the mean of all.

    Parameters
    ----------
    state
        (N, D) state patterns R.
    stored
        (M, D) stored patterns Y.
    beta
        Inverse temperature of the retrieval.

    Returns
    -------
    (N, D).
    """
    weights = (beta * state @ stored.T).softmax(dim=1)  # (N, M)
    return functional.normalize(weights @ stored, dim=1)


def info_loob(x: Tensor, y: Tensor, inverse_tau: Tensor) -> Tensor:
    """Return InfoLOOB of rows that belong together: the positive is left out of the denominator.

    L = τ mean_i [ log Σ_{j ≠ i} exp(x_i·y_j / τ) − x_i·y_i / τ ]. Unlike InfoNCE the pull on a positive
    does not fade as its similarity grows [1]_.

    Parameters
    ----------
    x, y
        (N, D), N ≥ 2, rows of unit length.
    inverse_tau
        1/τ, a scalar.
    """
    similarity = inverse_tau * x @ y.T  # (N, N)
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    negatives = similarity.masked_fill(own, -torch.inf).logsumexp(dim=1)
    return (negatives - similarity.diagonal()).mean() / inverse_tau


def cloob(images: Tensor, molecules: Tensor, inverse_tau: Tensor, beta: float) -> Tensor:
    """Return the objective of CLOOB and CLOOME.

    InfoLOOB(U(x, x), U(y, x)) + InfoLOOB(U(y, y), U(x, y)) with x the images, y the molecules and U(state,
    stored) the retrieval: both terms compare what the two modalities retrieve from the same memory [1]_.

    Parameters
    ----------
    images, molecules
        (N, D) rows of unit length; row i of one belongs to row i of the other.
    """
    from_images = info_loob(retrieve(images, images, beta), retrieve(molecules, images, beta), inverse_tau)
    from_molecules = info_loob(
        retrieve(molecules, molecules, beta), retrieve(images, molecules, beta), inverse_tau
    )
    return from_images + from_molecules


def info_nce(images: Tensor, molecules: Tensor, inverse_tau: Tensor) -> Tensor:
    """Return the objective of CLIP: the mean over both directions of cross-entropy over the batch [2]_."""
    similarity = inverse_tau * images @ molecules.T
    own = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)) / 2
