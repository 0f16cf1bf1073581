"""The objective of self-distillation, its centre and its temperature."""

from __future__ import annotations

import torch
from torch import Tensor


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    centre: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Return the mean over pairs i != j and rows of -Σ_k q_ik log p_jk, a scalar.

    q_i = softmax((t_i - c) / τ_t) of the teacher's view i, p_j = softmax(s_j / τ_s) of the student's view j;
    the first views of the student are the teacher's. No gradient reaches teacher or centre.

    Parameters
    ----------
    student
        (V, N, K), global views first.
    teacher
        (G, N, K) with G <= V.
    centre
        (K,).

    Source: Caron et al. 2021, equations 1 to 3.
    """
    target = ((teacher - centre) / teacher_temperature).softmax(dim=-1).detach()
    predicted = (student / student_temperature).log_softmax(dim=-1)
    cross = -torch.einsum("ink,jnk->ij", target, predicted) / student.shape[1]  # (G, V)
    other = ~torch.eye(*cross.shape, dtype=torch.bool, device=cross.device)
    return cross[other].mean()


def moved_centre(centre: Tensor, mean: Tensor, momentum: float) -> Tensor:
    """Return c <- m c + (1 - m) mean, with the teacher's mean output over views and batch (K,).

    Source: Caron et al. 2021, equation 4.
    """
    return centre * momentum + mean * (1 - momentum)


def temperature(step: int, steps: int, start: float, end: float, share: float) -> float:
    """Return τ_t of step 0 <= t < T: a line from ``start`` to ``end`` over ``share`` T steps."""
    rising = share * steps
    return end if step >= rising else start + (end - start) * step / rising
