"""The contrastive objectives against loops, hand-made cases, and what has no gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from featurizers.cloome.loss import cloob, info_loob, info_nce, retrieve


def unit(rows, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64))


INVERSE = torch.tensor(14.3, dtype=torch.float64)


def slow_info_loob(x, y, inverse_tau):
    tau, terms = 1 / inverse_tau, []
    for i in range(len(x)):
        own = float(np.dot(x[i], y[i])) / tau
        others = [math.exp(float(np.dot(x[i], y[j])) / tau) for j in range(len(y)) if j != i]
        terms.append(math.log(sum(others)) - own)
    return tau * sum(terms) / len(terms)


def slow_retrieve(state, stored, beta):
    rows = []
    for r in state:
        weights = np.array([math.exp(beta * float(np.dot(r, y))) for y in stored])
        row = sum(w * y for w, y in zip(weights / weights.sum(), stored, strict=True))
        rows.append(row / math.sqrt(float((row**2).sum())))
    return np.array(rows)


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_info_loob_equals_a_loop_that_leaves_the_positive_out(rows):
    x, y = unit(rows), unit(rows, seed=1)
    found = info_loob(x, y, INVERSE).item()
    assert found == pytest.approx(slow_info_loob(x.numpy(), y.numpy(), 14.3), rel=1e-10)


def test_retrieval_equals_the_formula():
    state, stored = unit(4), unit(6, seed=1)
    np.testing.assert_allclose(
        retrieve(state, stored, 14.3), slow_retrieve(state.numpy(), stored.numpy(), 14.3), rtol=1e-10
    )


def test_a_cold_retrieval_returns_the_nearest_pattern_and_a_hot_one_the_mean_of_all():
    state, stored = unit(4), unit(6, seed=1)
    nearest = stored[(state @ stored.T).argmax(dim=1)]
    np.testing.assert_allclose(retrieve(state, stored, 1e6), nearest, atol=1e-12)
    np.testing.assert_allclose(
        retrieve(state, stored, 0.0), normalize(stored.mean(0), dim=0).expand(4, -1), atol=1e-12
    )


def test_the_objective_compares_what_both_modalities_retrieve_from_one_memory():
    x, y = unit(6), unit(6, seed=1)
    a, b = x.numpy(), y.numpy()
    by_hand = slow_info_loob(slow_retrieve(a, a, 8.0), slow_retrieve(b, a, 8.0), 14.3) + slow_info_loob(
        slow_retrieve(b, b, 8.0), slow_retrieve(a, b, 8.0), 14.3
    )
    assert cloob(x, y, INVERSE, 8.0).item() == pytest.approx(by_hand, rel=1e-10)


def test_the_objective_equals_the_released_layers_arithmetic_with_a_large_negative_diagonal():
    """The published code sets the diagonal to -1000 instead of leaving it out; that is the same number."""
    x, y = unit(6), unit(6, seed=1)
    k = 14.3 * x @ y.T
    eye = torch.eye(6, dtype=torch.float64)
    theirs = (-(k * eye).sum(1).mean() + torch.logsumexp(k * (1 - eye) - 1000 * eye, 1).mean()) / 14.3
    assert info_loob(x, y, INVERSE).item() == pytest.approx(theirs.item(), rel=1e-12)


def test_info_nce_is_the_mean_of_both_cross_entropies():
    x, y = unit(5), unit(5, seed=1)
    logits = (14.3 * x @ y.T).numpy()
    rows = [math.log(sum(math.exp(v) for v in logits[i])) - logits[i, i] for i in range(5)]
    columns = [math.log(sum(math.exp(v) for v in logits[:, i])) - logits[i, i] for i in range(5)]
    assert info_nce(x, y, INVERSE).item() == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, rel=1e-10)


def test_matched_pairs_have_the_smaller_objective():
    x = unit(8)
    for objective in (lambda a, b: cloob(a, b, INVERSE, 14.3), lambda a, b: info_nce(a, b, INVERSE)):
        assert objective(x, x) < objective(x, x.roll(1, 0)) - 0.1


def test_the_pull_on_a_positive_does_not_fade_with_info_loob_and_does_with_info_nce():
    """∂L/∂s_ii is -1/N whatever s is: the positive stands in no denominator."""
    pulls = {}
    for name, apart in (("near", 0.0), ("far", 2.0)):
        s = (torch.eye(4, dtype=torch.float64) * (5.0 - apart)).requires_grad_()
        one = torch.ones((), dtype=torch.float64)
        # with x = s and y = I the similarities are s itself
        info_loob(s, torch.eye(4, dtype=torch.float64), one).backward()
        pulls[name] = s.grad.diagonal().clone()
    np.testing.assert_allclose(pulls["near"], -0.25)
    np.testing.assert_allclose(pulls["far"], -0.25)
    s = (torch.eye(4, dtype=torch.float64) * 30).requires_grad_()
    info_nce(s, torch.eye(4, dtype=torch.float64), torch.ones((), dtype=torch.float64)).backward()
    assert s.grad.diagonal().abs().max() < 1e-9


def test_a_pattern_that_nothing_retrieves_gets_no_gradient():
    state = torch.eye(3, dtype=torch.float64)[:2]
    stored = torch.eye(3, dtype=torch.float64).requires_grad_()
    retrieve(state, stored, 2000.0)[:, 1].sum().backward()
    assert stored.grad[2].abs().max() == 0
    assert stored.grad[0].abs().max() > 0


def test_the_objective_does_not_depend_on_the_order_of_pairs():
    x, y = unit(7), unit(7, seed=1)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cloob(x, y, INVERSE, 14.3), cloob(x[order], y[order], INVERSE, 14.3))
