"""Distributions over the codebook, and the two losses on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def log_distribution(h: Tensor, codebook: Tensor, temperature: float) -> Tensor:
    """Return log P (N, K) with P = softmax(V h / (τ ‖h‖)).

    The length of h has no influence, that of the codebook's rows has.

    Parameters
    ----------
    h
        (N, d).
    codebook
        V, (K, d).

    Source: Chen et al. 2026, teacher and student alike.
    """
    return functional.log_softmax(functional.normalize(h, dim=1) @ codebook.T / temperature, dim=1)


def teacher_loss(log_teacher: Tensor, drug: Tensor) -> Tensor:
    """Return the mean over rows of -log P_t of the true drug: L_teacher of log P_t (N, K) and drug (N,)."""
    return functional.nll_loss(log_teacher, drug)


def divergence(log_teacher: Tensor, log_student: Tensor, *, detached: bool = True) -> Tensor:
    """Return L_distill, the mean over rows of KL(P_t ‖ P_s) = Σ_k P_t (log P_t - log P_s).

    Parameters
    ----------
    log_teacher, log_student
        (N, K).
    detached
        Whether the teacher is taken as it is, so that no gradient reaches it.
    """
    target = log_teacher.detach() if detached else log_teacher
    return (target.exp() * (target - log_student)).sum(dim=1).mean()
