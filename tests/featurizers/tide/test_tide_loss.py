"""Distributions over the codebook and their losses against slow definitions; where gradients go."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurizers.tide.loss import divergence, log_distribution, teacher_loss


def drawn(rows, drugs, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, dim), (rows, dim), (drugs, dim))
    h_t, h_s, v = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return h_t.requires_grad_(), h_s.requires_grad_(), v.requires_grad_()


def slow(h, codebook, temperature):
    """Every row, every drug."""
    out = []
    for row in h.tolist():
        length = math.sqrt(sum(x * x for x in row))
        weights = [
            math.exp(sum(v * x for v, x in zip(own, row, strict=True)) / (temperature * length))
            for own in codebook.tolist()
        ]
        out.append([w / sum(weights) for w in weights])
    return out


@given(
    rows=st.integers(1, 5),
    drugs=st.integers(1, 6),
    dim=st.integers(1, 4),
    temperature=st.sampled_from([0.1, 0.5, 2.0]),
    seed=st.integers(0, 999),
)
@settings(max_examples=25, deadline=None)
def test_distributions_and_losses_equal_the_loops(rows, drugs, dim, temperature, seed):
    h_t, h_s, codebook = (x.detach() for x in drawn(rows, drugs, dim, seed))
    p_t, p_s = slow(h_t, codebook, temperature), slow(h_s, codebook, temperature)
    log_t, log_s = (log_distribution(h, codebook, temperature) for h in (h_t, h_s))
    torch.testing.assert_close(log_t.exp(), torch.tensor(p_t, dtype=torch.float64))
    drug = torch.arange(rows) % drugs
    expected = -sum(math.log(p_t[n][int(drug[n])]) for n in range(rows)) / rows
    assert float(teacher_loss(log_t, drug)) == pytest.approx(expected, abs=1e-9)
    expected = (
        sum(t * math.log(t / s) for a, b in zip(p_t, p_s, strict=True) for t, s in zip(a, b, strict=True))
        / rows
    )
    found = float(divergence(log_t, log_s))
    assert found == pytest.approx(expected, abs=1e-9)
    assert found >= -1e-12


def test_a_distribution_sums_to_one_and_ignores_the_length_of_h():
    h, _, codebook = drawn(4, 6, 3)
    p = log_distribution(h, codebook, 0.1).exp()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(log_distribution(7.5 * h, codebook, 0.1).exp(), p)
    assert not torch.allclose(log_distribution(h, 2 * codebook, 0.1).exp(), p), "rows have a length"


def test_a_student_that_agrees_costs_nothing():
    h, _, codebook = drawn(4, 6, 3)
    log = log_distribution(h, codebook, 0.1)
    assert divergence(log, log.clone()).item() == 0.0


def test_the_students_loss_does_not_reach_the_teacher_unless_asked_to():
    for detached in (True, False):
        h_t, h_s, codebook = drawn(4, 6, 3)
        rows = codebook.detach()
        log_t, log_s = (log_distribution(h, rows, 0.1) for h in (h_t, h_s))
        divergence(log_t, log_s, detached=detached).backward()
        assert h_s.grad.abs().max() > 0
        assert (h_t.grad is None) is detached


def test_a_drug_that_is_not_in_the_batch_is_pushed_away_by_what_the_teacher_gives_it():
    """dL/dv_k = mean (p_k - [k is true]) h / (τ ‖h‖): a negative for the drugs that are there, no more."""
    h, _, codebook = drawn(3, 5, 4)
    drug = torch.tensor([0, 1, 0])
    log = log_distribution(h, codebook, 0.2)
    teacher_loss(log, drug).backward()
    p, unit = log.exp().detach(), (h / h.norm(dim=1, keepdim=True)).detach()
    for k in range(5):
        expected = sum((p[n, k] - float(drug[n] == k)) * unit[n] / 0.2 for n in range(3)) / 3
        torch.testing.assert_close(codebook.grad[k], expected)
