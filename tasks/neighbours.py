r"""Nearest neighbours and average precision of many queries at once, with ties at their expectation.

A query ranks its candidates by cosine similarity. With a ties' group of n candidates, r of them positive,
after N candidates of which R are positive, and P positives in all, the expected average precision over the
orders of the ties is [1]_

    AP = (1 / P) Σ_groups Σ_{j=1..n} (r / n) (R + 1 + (j − 1) (r − 1) / (n − 1)) / (N + j)

which without ties is the mean over positives of (rank among positives) / (rank), as copairs and scikit-learn
have it. An embedding without information (every similarity equal) then scores exactly what a random order is
expected to: (1 / M) (H_M + (P − 1) (M − H_M) / (M − 1)), H_M = Σ_{j≤M} 1/j, for M candidates.

References
----------
.. [1] McSherry & Najork, Computing information retrieval performance measures efficiently in the presence of
   tied scores, ECIR 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.floating[Any]]
    Mask = NDArray[np.bool_]

DECIMALS = 10
"""Similarities that agree to so many decimals are tied: equal rows stay equal however products are summed."""

QUERIES = 512
"""Queries whose similarities are held at once."""

BLOCK = 4_000_000
"""Random numbers drawn at once for a null distribution; bounds its memory."""


def unit_rows(X: Matrix) -> NDArray[np.float64]:
    """Return X (n, D) with rows of length 1; a row of zeros has no direction and stays 0."""
    own = np.asarray(X, np.float64)
    length = np.sqrt((own**2).sum(axis=1, keepdims=True))
    scaled: NDArray[np.float64] = np.divide(
        own, length, out=np.where(np.isnan(own), np.nan, 0.0), where=length > 0
    )
    return scaled


def cosine(queries: Matrix, candidates: Matrix) -> NDArray[np.float64]:
    """Return (b, m) cosines of rows that :func:`unit_rows` made, rounded so that equal rows tie."""
    product: NDArray[np.float64] = np.round(queries @ candidates.T, DECIMALS) + 0.0
    return product


@dataclass(frozen=True, eq=False)
class Precision:
    """Average precision of b queries: ``ap`` (b,), NaN without a positive or a negative; counts (b,)."""

    ap: NDArray[np.float64]
    positives: NDArray[np.int64]
    candidates: NDArray[np.int64]

    @classmethod
    def empty(cls, queries: int) -> Precision:
        """Return undefined precisions, to be :meth:`put` in their places."""
        counts = np.zeros((2, queries), np.int64)
        return cls(np.full(queries, np.nan), counts[0], counts[1])

    @classmethod
    def joined(cls, parts: Sequence[Precision]) -> Precision:
        """Return the queries of all parts, one after the other."""
        ap = np.concatenate([part.ap for part in parts])
        counts = ([getattr(part, name) for part in parts] for name in ("positives", "candidates"))
        return cls(ap, *(np.concatenate(count) for count in counts))

    def put(self, at: NDArray[np.int64], part: Precision) -> None:
        """Write the precisions of some queries in their places."""
        self.ap[at], self.positives[at], self.candidates[at] = part.ap, part.positives, part.candidates


def average_precision(similarity: Matrix, positive: Mask, candidate: Mask) -> Precision:
    """Return the expected average precision of each query by the module's formula.

    Parameters
    ----------
    similarity
        (b, m), larger is nearer; what is no candidate may hold anything.
    positive, candidate
        (b, m); a positive that is no candidate does not count.
    """
    b, m = similarity.shape
    hit = positive & candidate
    P, M = hit.sum(axis=1), candidate.sum(axis=1)
    order = np.argsort(np.where(candidate, -similarity, np.inf), axis=1, kind="stable")
    key = np.take_along_axis(np.where(candidate, similarity, -np.inf), order, axis=1)
    ranked = np.take_along_axis(hit, order, axis=1)
    start = np.ones((b, m), bool)
    np.not_equal(key[:, 1:], key[:, :-1], out=start[:, 1:])
    group = np.cumsum(start.ravel()) - 1  # a new group begins with every row
    first = np.flatnonzero(start)
    n = np.diff(first, append=b * m)
    r = np.add.reduceat(ranked.ravel().astype(np.int64), first) if b * m else np.zeros(0, np.int64)
    before: NDArray[np.int64] = np.cumsum(ranked, axis=1) - ranked  # positives above a place
    R = before.reshape(-1)[first]
    # Everything below is (b m,), in ranked order.
    place = np.tile(np.arange(1, m + 1), b)
    j = np.arange(b * m) - first[group]
    n_, r_ = n[group], r[group]
    within = j * (r_ - 1) / np.maximum(n_ - 1, 1)
    terms = np.where(r_ > 0, r_ / n_ * (R[group] + 1 + within) / place, 0.0).reshape(b, m)
    ap = np.divide(terms.sum(axis=1), P, out=np.full(b, np.nan), where=(P > 0) & (M > P))
    return Precision(ap, P, M)


def precision(
    rows: Matrix,
    queries: NDArray[np.int64],
    candidates: NDArray[np.int64],
    positive: Mask,
    allowed: Mask,
) -> Precision:
    """Return :func:`average_precision` of ``queries`` among ``candidates``, a block of queries at a time.

    Parameters
    ----------
    rows
        (n, D) as :func:`unit_rows` made them.
    queries, candidates
        (b,) and (m,) rows.
    positive, allowed
        (b, m).
    """
    found = Precision.empty(len(queries))
    for start in range(0, len(queries), QUERIES):
        own = np.arange(start, min(start + QUERIES, len(queries)))
        similarity = cosine(rows[queries[own]], rows[candidates])
        found.put(own, average_precision(similarity, positive[own], allowed[own]))
    return found


def grouped(groups: list[NDArray[np.int64]], found: Precision, draws: int, seed: int) -> pd.DataFrame:
    """Return per group of queries ``n_units``, ``score`` (mean AP), ``chance``, ``p``, ``p_least`` and ``q``.

    ``p_least`` is the p-value of a perfect score: few candidates cannot give a small one. ``q`` is Benjamini
    and Hochberg's over the groups that have a score; NaN where a group is empty.
    """
    from scipy.stats import false_discovery_control

    expected = chance_precision(found.positives, found.candidates)
    score = np.array([found.ap[own].mean() if own.size else np.nan for own in groups])
    p = p_values(score, groups, found, draws, seed)
    least = p_values(np.where(np.isnan(score), np.nan, 1.0), groups, found, draws, seed)
    q = np.full(len(p), np.nan)
    if (~np.isnan(p)).any():
        q[~np.isnan(p)] = false_discovery_control(p[~np.isnan(p)])
    chance = [expected[own].mean() if own.size else np.nan for own in groups]
    size = [len(own) for own in groups]
    return pd.DataFrame({"n_units": size, "score": score, "chance": chance, "p": p, "p_least": least, "q": q})


def nearest(similarity: Matrix, positive: Mask, candidate: Mask) -> NDArray[np.float64]:
    """Return (b,) share of positives among the nearest candidates, 0 or 1 without ties.

    NaN without a positive, which cannot be found, or without a negative.
    """
    filled = np.where(candidate, similarity, -np.inf)
    top = candidate & (filled == filled.max(axis=1, initial=-np.inf)[:, None])
    hit = positive & candidate
    asked = hit.any(axis=1) & (candidate & ~positive).any(axis=1)
    share: NDArray[np.float64] = np.divide(
        (top & hit).sum(axis=1), top.sum(axis=1), out=np.full(len(top), np.nan), where=asked
    )
    return share


def chance_precision(positives: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (b,) the expected average precision of a random order; NaN without a positive or a negative."""
    P, M = np.asarray(positives, np.float64), np.asarray(candidates, np.int64)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, M.max(initial=0) + 1))])[M]
    value = np.full(len(P), np.nan)
    asked = (P > 0) & (M > P)
    p, m, h = P[asked], M[asked], harmonic[asked]
    value[asked] = (h + (p - 1) * (m - h) / (m - 1)) / m
    return value


def p_values(
    mean: NDArray[np.float64], members: list[NDArray[np.int64]], found: Precision, draws: int, seed: int
) -> NDArray[np.float64]:
    """Return (G,) chances that random orders give a group's mean AP or more.

    As in copairs: the null of a group is the mean of its members' nulls, and members with the same numbers of
    positives and candidates share one (so that it is conservative: their random orders move together),

        p = (#{null >= mean} + 1) / (draws + 1)

    Unlike copairs, a null value equal to the observed one counts as reaching it: AP has few values where
    candidates are few, and p would be too small.

    Parameters
    ----------
    mean, members
        (G,) mean AP of a group and the queries it is over; NaN where there is none.
    found
        The queries' numbers of positives and candidates.
    """
    out = np.full(len(mean), np.nan)
    for g, own in enumerate(members):
        if np.isnan(mean[g]):
            continue
        sizes, count = np.unique(
            np.stack([found.positives[own], found.candidates[own]], axis=1), axis=0, return_counts=True
        )
        null = np.zeros(draws)
        for (P, M), times in zip(sizes, count, strict=True):
            null += times * null_precision(int(P), int(M), draws, seed)
        reached = int((null / len(own) >= mean[g] - 1e-12).sum())
        out[g] = (reached + 1) / (draws + 1)
    return out


@lru_cache(maxsize=512)
def null_precision(positives: int, candidates: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Return (draws,) average precision of random orders of ``candidates`` with ``positives`` among them."""
    rng = np.random.default_rng([seed, positives, candidates])
    out = np.empty(draws)
    rank = np.arange(1, positives + 1)
    step = max(1, BLOCK // candidates)
    for begin in range(0, draws, step):
        places = _subsets(rng, min(step, draws - begin), positives, candidates)
        out[begin : begin + len(places)] = (rank / (places + 1)).mean(axis=1)
    return out


def _subsets(rng: np.random.Generator, size: int, k: int, n: int) -> NDArray[np.int64]:
    """Return (size, k) uniform k-subsets of range(n), each ascending."""
    if k * k > n:
        keys = rng.random((size, n))
        return np.sort(np.argpartition(keys, k - 1, axis=1)[:, :k], axis=1)
    # Few of many: draw with replacement, and draw rows with a repetition again.
    out = np.sort(rng.integers(0, n, (size, k)), axis=1)
    while (again := np.flatnonzero((np.diff(out, axis=1) == 0).any(axis=1))).size:
        out[again] = np.sort(rng.integers(0, n, (again.size, k)), axis=1)
    return out
