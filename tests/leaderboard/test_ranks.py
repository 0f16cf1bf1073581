"""Rank intervals and tie letters against their definitions."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.decide import Decision
from leaderboard.ranks import rank, tie_letters


def decision(difference, p):
    return Decision(difference, math.nan, math.nan, math.nan, math.nan, p, math.nan, math.nan, "tied")


def test_three_entrants_by_hand():
    # A and B close; both clearly above C. Holm: p = 0.001 * 3, 0.02 * 2, 0.6.
    found = rank(
        3,
        {(0, 1): decision(0.02, 0.6), (0, 2): decision(0.1, 0.001), (1, 2): decision(0.08, 0.02)},
        margin=0.01,
        level=0.05,
    )
    assert found.low.tolist() == [1, 1, 3]
    assert found.high.tolist() == [2, 2, 3]
    assert found.ties == ("a", "a", "b")
    assert found.adjusted[1, 2] == pytest.approx(0.04)


def test_holm_stops_at_the_first_pair_it_cannot_declare():
    pairs = {(0, 1): decision(0.1, 0.02), (0, 2): decision(0.1, 0.02), (1, 2): decision(0.1, 0.02)}
    assert not rank(3, pairs, margin=0.01, level=0.05).beats.any()


def test_a_resolved_difference_within_the_margin_orders_nobody():
    found = rank(2, {(0, 1): decision(0.009, 1e-9)}, margin=0.01, level=0.05)
    assert found.ties == ("a", "a")


def test_a_pair_without_a_variance_orders_nobody():
    found = rank(2, {(0, 1): decision(0.5, math.nan)}, margin=0.01, level=0.05)
    assert (found.low.tolist(), found.high.tolist()) == ([1, 1], [2, 2])


def test_nobody_and_one_entrant_are_ranked_without_pairs():
    assert rank(0, {}, margin=0.01, level=0.05).ties == ()
    assert rank(1, {}, margin=0.01, level=0.05).high.tolist() == [1]


@given(st.integers(1, 7), st.integers(0, 2**21))
def test_two_entrants_share_a_letter_exactly_when_not_declared_different(count, bits):
    different = np.zeros((count, count), bool)
    for position, (i, j) in enumerate(combinations(range(count), 2)):
        different[i, j] = different[j, i] = bool(bits >> position & 1)
    letters = tie_letters(different)
    for i in range(count):
        for j in range(i):
            assert bool(set(letters[i]) & set(letters[j])) != different[i, j]
