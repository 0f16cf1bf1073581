"""D1 and D2 against loops, SciPy and a case worked by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from leaderboard.decide import decide, design, fold_means, judge, skill_interval, t_quantile, t_two_sided
from leaderboard.summands import Summands, summands


def slow_decision(a, b, folds, level):
    """STATISTICS: section D1, one fold at a time."""
    repeats, perturbations = folds.shape
    difference = a.skill - b.skill
    raw, linear = [], []
    for r in range(repeats):
        for f in sorted(set(folds[r]) - {-1}):
            inside = [i for i in range(perturbations) if folds[r, i] == f]
            gain = [b.loss[r, i] - a.loss[r, i] for i in inside]
            raw.append(sum(gain) / len(inside))
            corrected = [g - difference * a.floor_loss[r, i] for g, i in zip(gain, inside, strict=True)]
            linear.append(sum(corrected) / len(inside))
    k = len(set(folds[0]) - {-1})
    n = int((folds >= 0).any(axis=0).sum())
    c = 1 / len(raw) + 1 / (k - 1)
    variance = c * max(np.var(raw, ddof=1), np.var(linear, ddof=1))
    df = 1 / (1 / (n - 1) + 1 / (repeats * (k - 1)))
    return difference, math.sqrt(variance), df, stats.t.ppf(1 - level / 2, df)


def pair(seed, make_folds, repeats=5, folds=5, perturbations=23, readouts=17):
    rng = np.random.default_rng(seed)
    table = make_folds(repeats, folds, perturbations, seed)
    strength = rng.lognormal(sigma=0.8, size=(1, perturbations, 1))
    e0 = strength * rng.chisquare(1, (repeats, perturbations, readouts))
    a = summands(e0 * rng.uniform(0.5, 1.1, e0.shape), e0, table)
    b = summands(e0 * rng.uniform(0.6, 1.2, e0.shape), e0, table)
    return a, b, table


@pytest.mark.parametrize(("repeats", "folds"), [(5, 5), (1, 5), (3, 10), (10, 2)])
def test_a_decision_equals_the_rule_fold_by_fold(make_folds, repeats, folds):
    a, b, table = pair(repeats, make_folds, repeats, folds)
    found = decide(a, b, margin=0.01, level=0.1)
    difference, error, df, quantile = slow_decision(a, b, table, 0.1)
    assert found.difference == pytest.approx(difference)
    assert found.standard_error == pytest.approx(error)
    assert found.df == pytest.approx(df)
    assert found.mdd80 == pytest.approx(3.2 * error)
    assert (found.low, found.high) == pytest.approx(
        (difference - quantile * error, difference + quantile * error)
    )
    assert found.p == pytest.approx(2 * stats.t.sf(abs(difference) / error, df))


def test_one_repeat_of_two_folds_by_hand():
    # l of A: 1, 2 | 3, 2; of B: 2, 2 | 3, 5; l0 = 1. Gains by fold: 1/2 and 3/2; D = 1.
    def run(loss):
        total = np.array(loss, float)
        return Summands(total, np.ones((1, 4)), np.array([[0, 0, 1, 1]]), np.array([1 - total.mean()]))

    a, b = run([[1, 2, 3, 2]]), run([[2, 2, 3, 5]])
    found = decide(a, b, margin=0.01)
    assert found.difference == pytest.approx(1.0)
    # var(0.5, 1.5) = 0.5 in both forms (l0 is constant); c = 1/2 + 1/1.
    assert found.standard_error == pytest.approx(math.sqrt(1.5 * 0.5))
    assert found.df == pytest.approx(1 / (1 / 3 + 1 / 1))
    assert found.verdict == "tied"


def test_the_interval_of_one_run_uses_linearised_fold_values(make_folds):
    a, _, table = pair(7, make_folds)
    values = [
        -np.mean((a.loss - (1 - a.skill) * a.floor_loss)[r][table[r] == f])
        for r in range(5)
        for f in range(5)
    ]
    error = math.sqrt((1 / 25 + 1 / 4) * np.var(values, ddof=1))
    half = stats.t.ppf(0.975, 1 / (1 / 22 + 1 / 20)) * error
    found = skill_interval(a)
    assert (found.low, found.high) == pytest.approx((a.skill - half, a.skill + half))


def test_no_interval_of_a_skill_passes_one(make_folds):
    rng = np.random.default_rng(7)
    floor = np.ones((5, 23, 17))
    error = np.where(np.arange(23) == 3, 0.5, 1e-3)[None, :, None] * rng.uniform(0.5, 1.5, floor.shape)
    found = skill_interval(summands(error, floor, make_folds(5, 5, 23, 7)))
    assert found.estimate + (found.estimate - found.low) > 1.0
    assert found.high == 1.0


def test_the_variance_is_the_larger_of_raw_and_linear(make_folds):
    a, b, table = pair(11, make_folds)
    found = decide(a, b, margin=0.0)
    raw = fold_means(b.loss - a.loss, table).var(ddof=1)
    linear = fold_means(b.loss - a.loss - found.difference * a.floor_loss, table).var(ddof=1)
    assert raw != pytest.approx(linear)
    assert found.standard_error**2 == pytest.approx((1 / 25 + 1 / 4) * max(raw, linear))


def test_fold_sums_skip_untested_perturbations():
    cells = np.array([[1.0, 3.0, 100.0, 5.0], [2.0, 4.0, 6.0, 8.0]])
    folds = np.array([[0, 0, -1, 2], [1, 1, 0, 0]])
    np.testing.assert_allclose(fold_means(cells, folds), [2.0, 5.0, 7.0, 3.0])
    assert design(folds).values == 4
    assert design(folds).perturbations == 4


def test_identical_runs_are_tied_with_p_one(make_folds):
    a, _, _ = pair(2, make_folds)
    found = decide(a, a, margin=0.01)
    assert (found.verdict, found.p, found.standard_error) == ("tied", 1.0, 0.0)


def test_swapping_the_runs_mirrors_the_decision(make_folds):
    a, b, _ = pair(5, make_folds)
    one, other = decide(a, b, margin=0.0), decide(b, a, margin=0.0)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p == pytest.approx(other.p)
    assert {one.verdict, other.verdict} in ({"better", "worse"}, {"tied"})


@pytest.mark.parametrize(
    ("difference", "resolved", "verdict"),
    [(0.02, True, "better"), (-0.02, True, "worse"), (0.02, False, "tied"), (0.005, True, "tied")],
)
def test_better_needs_resolution_and_margin(difference, resolved, verdict):
    assert judge(difference, resolved=resolved, margin=0.01) == verdict


@pytest.mark.parametrize("folds", [[[0, 0, 0, 0]], [[-1, -1, -1, -1]]])
def test_without_two_folds_nothing_is_decided(folds):
    e0 = np.ones((1, 4, 3))
    a = summands(e0 / 2, e0, np.array(folds))
    assert decide(a, a, margin=0.01).verdict == "undecided"
    assert math.isnan(skill_interval(a).low)


def test_an_unmeasured_protocol_states_the_difference_alone(make_folds):
    a, b, _ = pair(4, make_folds)
    found = decide(a, b, margin=0.01, measured=False)
    assert found.verdict == "undecided"
    assert math.isfinite(found.difference)
    assert math.isnan(found.low)
    assert math.isnan(skill_interval(a, measured=False).high)


def test_student_t_equals_scipy_at_fractional_degrees_of_freedom():
    for df in (0.75, 3.0, 14.87, 400.0):
        assert t_quantile(df, 0.05) == pytest.approx(stats.t.ppf(0.975, df))
        assert float(t_two_sided(2.1, df)) == pytest.approx(2 * stats.t.sf(2.1, df))


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.2])
def test_posterior_probabilities_are_areas_of_the_t_distribution(make_folds, margin):
    a, b, _ = pair(6, make_folds)
    found = decide(a, b, margin=margin)
    grid = np.linspace(-4, 4, 400_001)
    density = stats.t.pdf(grid, found.df, found.difference, found.standard_error)
    step = grid[1] - grid[0]
    areas = [density[part].sum() * step for part in (grid < -margin, np.abs(grid) <= margin, grid > margin)]
    assert (found.p_worse, found.p_same, found.p_better) == pytest.approx(areas, abs=1e-3)
    assert found.p_worse + found.p_same + found.p_better == pytest.approx(1.0)


def test_without_a_margin_the_posterior_is_the_one_sided_p_value(make_folds):
    a, b, _ = pair(7, make_folds)
    found = decide(a, b, margin=0.0)
    assert 2 * min(found.p_worse, found.p_better) == pytest.approx(found.p)


def test_identical_runs_are_the_same_for_certain(make_folds):
    a, _, _ = pair(8, make_folds)
    found = decide(a, a, margin=0.01)
    assert (found.p_worse, found.p_same, found.p_better) == (0.0, 1.0, 0.0)
