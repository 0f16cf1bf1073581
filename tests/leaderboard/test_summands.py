"""Summands against a loop and a case worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.schema import BoardError
from leaderboard.summands import summands


def slow_summands(e, e0, folds):
    """The definition in docs/statistics.md, one cell at a time."""
    repeats, perturbations, readouts = e.shape
    observed = {
        g: [
            (r, i)
            for r in range(repeats)
            for i in range(perturbations)
            if folds[r, i] >= 0 and np.isfinite(e[r, i, g]) and np.isfinite(e0[r, i, g])
        ]
        for g in range(readouts)
    }
    skill = np.full(readouts, np.nan)
    mean_floor = {}
    for g, cells in observed.items():
        total = sum(float(e0[r, i, g]) for r, i in cells)
        if cells and total > 0:
            mean_floor[g] = total / len(cells)
            skill[g] = 1 - sum(float(e[r, i, g]) for r, i in cells) / total
    seen = {cell for g in mean_floor for cell in observed[g]}
    loss, floor = np.zeros((repeats, perturbations)), np.zeros((repeats, perturbations))
    for g, reference in mean_floor.items():
        for r, i in observed[g]:
            weight = len(seen) / len(observed[g]) / len(mean_floor)
            loss[r, i] += e[r, i, g] / reference * weight
            floor[r, i] += e0[r, i, g] / reference * weight
    return loss, floor, skill, len(seen)


def random_case(seed, missing=0.2, untested=0.1):
    rng = np.random.default_rng(seed)
    repeats, perturbations, readouts = rng.integers(1, 4), rng.integers(2, 9), rng.integers(1, 7)
    shape = (repeats, perturbations, readouts)
    e, e0 = rng.random(shape), rng.random(shape)
    e[rng.random(shape) < missing] = np.nan
    e0[rng.random(shape) < missing] = np.nan
    if readouts > 2:
        e0[:, :, 0] = 0.0
    folds = rng.integers(0, 3, shape[:2])
    folds[rng.random(shape[:2]) < untested] = -1
    return e, e0, folds


@pytest.mark.parametrize("seed", range(20))
def test_summands_equal_the_definition_cell_by_cell(seed):
    e, e0, folds = random_case(seed)
    fast = summands(e, e0, folds, block=2)
    loss, floor, skill, _ = slow_summands(e, e0, folds)
    np.testing.assert_allclose(fast.loss, loss, atol=1e-12)
    np.testing.assert_allclose(fast.floor_loss, floor, atol=1e-12)
    np.testing.assert_allclose(fast.skill_by_readout, skill)


@given(st.integers(0, 10_000))
@settings(max_examples=60)
def test_summands_add_up_to_the_mean_skill_whatever_is_missing(seed):
    e, e0, folds = random_case(seed, missing=0.4, untested=0.3)
    values = summands(e, e0, folds)
    _, _, skill, cells = slow_summands(e, e0, folds)
    if np.isfinite(skill).any():
        assert 1 - values.loss.sum() / cells == pytest.approx(np.nanmean(skill), abs=1e-10)
        assert values.floor_loss.sum() == pytest.approx(cells)
    else:
        assert np.isnan(values.skill)


def test_two_readouts_by_hand():
    # Readout 0: errors 1, 3 of floor 4, 4: skill 1/2. Readout 1: 2, 2 of 1, 3: skill 0.
    e = np.array([[[1.0, 2.0], [3.0, 2.0]]])
    e0 = np.array([[[4.0, 1.0], [4.0, 3.0]]])
    values = summands(e, e0, np.array([[0, 1]]))
    np.testing.assert_allclose(values.skill_by_readout, [0.5, 0.0])
    assert values.skill == pytest.approx(0.25)
    # M0 = 4 and 2: l = mean(1/4, 2/2), mean(3/4, 2/2); l0 = mean(1, 1/2), mean(1, 3/2).
    np.testing.assert_allclose(values.loss, [[0.625, 0.875]])
    np.testing.assert_allclose(values.floor_loss, [[0.75, 1.25]])
    assert values.effective_number == pytest.approx(2.0**2 / (0.75**2 + 1.25**2))


def test_the_floor_has_skill_zero_to_the_last_bit():
    e0 = np.random.default_rng(1).gamma(1.0, size=(5, 80, 300)).astype(np.float32)
    e0[:, 3, :50] = np.nan
    values = summands(e0, e0, np.zeros((5, 80), np.int16), block=128)
    assert (values.skill_by_readout == 0.0).all()
    assert values.skill == values.median_skill == 0.0


def test_skills_do_not_depend_on_how_the_errors_lie_in_memory():
    e, e0 = np.random.default_rng(2).gamma(1.0, size=(2, 5, 80, 300)).astype(np.float32)
    folds = np.zeros((5, 80), np.int16)
    turned = [np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 2, 0)), 0, 2) for x in (e, e0)]
    rows, columns = summands(e, e0, folds), summands(*turned, folds)
    assert rows.skill_by_readout.tobytes() == columns.skill_by_readout.tobytes()


def test_a_constant_readout_and_an_unobserved_one_have_no_skill():
    e = np.ones((1, 3, 3))
    e0 = np.ones((1, 3, 3)) * 2
    e0[:, :, 1] = 0.0
    e[:, :, 2] = np.nan
    values = summands(e, e0, np.array([[0, 1, 2]]))
    np.testing.assert_array_equal(values.defined, [True, False, False])
    assert values.skill == pytest.approx(0.5)


def test_a_perturbation_without_any_value_is_not_tested():
    e = np.ones((2, 3, 2))
    e[:, 1] = np.nan
    values = summands(e, np.ones_like(e), np.array([[0, 1, 0], [1, 0, -1]]))
    np.testing.assert_array_equal(values.folds, [[0, -1, 0], [1, -1, -1]])


def test_a_strong_perturbation_lowers_the_effective_number():
    e0 = np.ones((2, 10, 4))
    e0[:, 0] = 100.0
    values = summands(e0 / 2, e0, np.tile(np.arange(10) % 2, (2, 1)))
    assert values.effective_number == pytest.approx((109 / 100) ** 2 / (1 + 9 / 100**2), rel=1e-6)


@pytest.mark.parametrize(
    ("e", "folds", "words"),
    [
        (np.ones((2, 3)), np.zeros((2, 3), int), "repeats, perturbations, readouts"),
        (np.ones((1, 2, 2)), np.zeros((2, 2), int), "folds"),
        (-np.ones((1, 2, 2)), np.zeros((1, 2), int), "negative"),
    ],
)
def test_wrong_errors_are_refused_in_words(e, folds, words):
    with pytest.raises(BoardError, match=words):
        summands(e, np.abs(e), folds)
