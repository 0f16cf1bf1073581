"""Average precision with ties, nearest neighbours and their nulls, against loops and scikit-learn."""

from itertools import pairwise, permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tasks import neighbours


def slow_ap(similarity, positive):
    """AP of one query, averaged over every order of the candidates that agrees with the similarities."""
    m = len(similarity)
    found = []
    for order in permutations(range(m)):
        if any(similarity[a] < similarity[b] for a, b in pairwise(order)):
            continue
        hits, terms = 0, []
        for place, candidate in enumerate(order, start=1):
            if positive[candidate]:
                hits += 1
                terms.append(hits / place)
        found.append(np.mean(terms))
    return np.mean(found)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=6))
def test_ap_is_the_mean_over_every_order_of_the_ties(rows):
    similarity = np.array([[float(s) for s, _ in rows]])
    positive = np.array([[p for _, p in rows]])
    found = neighbours.average_precision(similarity, positive, np.ones_like(positive))
    if positive.all() or not positive.any():
        assert np.isnan(found.ap[0])
    else:
        np.testing.assert_allclose(found.ap[0], slow_ap(similarity[0], positive[0]), rtol=1e-12)


def test_ap_without_ties_is_scikit_learns_and_ignores_what_is_no_candidate():
    rng = np.random.default_rng(0)
    similarity, positive = rng.normal(size=(30, 50)), rng.random((30, 50)) < 0.2
    candidate = rng.random((30, 50)) < 0.7
    found = neighbours.average_precision(similarity, positive, candidate)
    for i in range(30):
        own = candidate[i]
        np.testing.assert_allclose(
            found.ap[i], average_precision_score(positive[i, own], similarity[i, own]), rtol=1e-12
        )
    np.testing.assert_array_equal(found.candidates, candidate.sum(axis=1))
    np.testing.assert_array_equal(found.positives, (candidate & positive).sum(axis=1))


def test_an_embedding_without_information_scores_chance():
    positive = np.arange(12)[None] < 3
    found = neighbours.average_precision(np.zeros((1, 12)), positive, np.ones_like(positive))
    chance = neighbours.chance_precision(found.positives, found.candidates)
    np.testing.assert_allclose(found.ap, chance, rtol=1e-12)
    orders = neighbours.null_precision(3, 12, 20_000, 0)
    assert abs(orders.mean() - chance[0]) < 4 * orders.std() / np.sqrt(len(orders))
    share = neighbours.nearest(np.zeros((1, 12)), positive, np.ones_like(positive))
    assert share[0] == pytest.approx(3 / 12)


@pytest.mark.parametrize(("k", "n"), [(2, 40), (3, 5), (1, 1)])
def test_random_subsets_are_subsets_and_all_are_as_likely(k, n):
    drawn = neighbours._subsets(np.random.default_rng(1), 20_000, k, n)
    assert (np.diff(drawn, axis=1) > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < n
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == comb(n, k)
    expected = 20_000 / comb(n, k)
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected) + 1


def test_the_nearest_is_found_and_a_query_that_cannot_be_right_has_no_score():
    similarity = np.array([[0.9, 0.5, 0.1], [0.2, 0.9, 0.9], [0.9, 0.2, 0.1]])
    positive = np.array([[True, False, False], [False, True, False], [False, False, False]])
    share = neighbours.nearest(similarity, positive, np.ones((3, 3), bool))
    np.testing.assert_allclose(share, [1.0, 0.5, np.nan])


def test_equal_rows_tie_however_they_are_summed():
    row = np.random.default_rng(2).normal(size=(1, 513)).astype(np.float32)
    rows = neighbours.unit_rows(np.repeat(row, 7, axis=0))
    assert len(np.unique(neighbours.cosine(rows[:3], rows))) == 1
    assert (neighbours.unit_rows(np.zeros((2, 4))) == 0).all()
    assert np.isnan(neighbours.unit_rows(np.full((1, 4), np.nan))).all()


def test_p_values_count_a_null_that_equals_what_is_observed():
    found = neighbours.Precision(np.array([1.0]), np.array([1]), np.array([2]))
    p = neighbours.p_values(np.array([1.0]), [np.array([0])], found, 999, 0)
    assert p[0] == pytest.approx(0.5, abs=0.08)  # one of two orders is perfect


def test_the_least_p_value_is_that_of_a_perfect_score():
    found = neighbours.Precision(np.array([1.0, 0.5]), np.array([1, 1]), np.array([33, 33]))
    frame = neighbours.grouped([np.array([0]), np.array([1])], found, 20_000, 0)
    np.testing.assert_allclose(frame["p_least"], 1 / 33, atol=0.004)
    assert frame["p"][0] == frame["p_least"][0]
    assert frame["p"][1] == pytest.approx(2 / 33, abs=0.006)


def test_p_values_of_random_orders_are_not_too_small():
    rng = np.random.default_rng(3)
    groups, size, M, P = 400, 4, 20, 3
    similarity = rng.normal(size=(groups * size, M))
    positive = np.tile(np.arange(M) < P, (groups * size, 1))
    found = neighbours.average_precision(similarity, positive, np.ones_like(positive))
    members = [np.arange(g * size, (g + 1) * size) for g in range(groups)]
    mean = np.array([found.ap[own].mean() for own in members])
    p = neighbours.p_values(mean, members, found, 2000, 0)
    assert (p <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / groups)
    assert (p > 0).all()
