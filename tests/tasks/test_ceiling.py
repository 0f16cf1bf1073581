"""The noise ceiling: the reliability of one row, from halves of replicates; NaN where there are none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import ceiling
from tasks.ceiling import of_task, replicates


def rows_of(reliability, sizes, seed=0):
    """Rows of perturbations of these sizes whose readouts have the given reliabilities."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    share = np.asarray(reliability)
    mu = rng.normal(size=(len(sizes), len(share))) * np.sqrt(share)
    Y = mu[group] + rng.normal(size=(len(group), len(share))) * np.sqrt(1 - share)
    return (5 + 3 * Y).astype(np.float32), group


@pytest.mark.parametrize("sizes", [[2], [3], [5], [2, 2, 7], [1, 2, 4]])
def test_it_is_the_share_of_variance_between_perturbations_whatever_their_sizes(sizes):
    reliability = np.repeat([0.0, 0.2, 0.5, 0.9], 25)
    Y, group = rows_of(reliability, np.resize(sizes, 400))
    found = ceiling.ceiling(Y, np.where(np.resize(sizes, 400)[group] > 1, group, -1), group.astype(str))
    np.testing.assert_allclose(found.reshape(4, 25).mean(axis=1), [0.0, 0.2, 0.5, 0.9], atol=0.035)


def test_a_predictor_that_knows_the_means_scores_the_ceiling():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(500), 3)
    mu = rng.normal(size=(500, 40))
    Y = mu[group] + rng.normal(size=(1500, 40)) * rng.uniform(0.2, 2, 40)
    skill = 1 - ((Y - mu[group]) ** 2).sum(axis=0) / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)
    found = ceiling.ceiling(Y, group, group.astype(str))
    assert np.abs(found - skill).mean() < 0.03


def slow(Y, group, owner, splits, seed):
    """One readout and one split at a time."""
    rows = np.flatnonzero(group >= 0)
    drawn = np.random.default_rng(seed)
    orders = [rows[drawn.permutation(len(rows))] for _ in range(splits)]
    out = []
    for y in Y.T:
        pairs, k = [], []
        for order in orders:
            a, b, w, h = [], [], [], []
            for g in sorted(set(group[rows])):
                own = [i for i in order if group[i] == g and np.isfinite(y[i])]
                half = len(own) // 2
                if half:
                    a.append(np.mean(y[own[:half]]))
                    b.append(np.mean(y[own[half : 2 * half]]))
                    w.append(owner[own[0]])
                    h.append(1 / half)
            weight = np.array([1 / w.count(p) for p in w])
            weight /= weight.sum()
            a, b = (np.array(x) - np.average(x, weights=weight) for x in (a, b))
            pairs.append([(weight * a * b).sum(), (weight * a * a).sum(), (weight * b * b).sum()])
            k = (weight * h).sum()
        both, left, right = np.sum(pairs, axis=0)
        r = both / np.sqrt(left * right)
        out.append(k * r / (1 + (k - 1) * r))
    return np.array(out)


def test_it_equals_a_loop_over_groups_with_missing_values_and_several_conditions():
    Y, group = rows_of([0.1, 0.5, 0.8], np.resize([2, 5, 3, 1], 60))
    owner = (group // 3).astype(str)
    Y[np.random.default_rng(0).random(Y.shape) < 0.15] = np.nan
    group[::17] = -1
    found = ceiling.ceiling(Y, group, owner, splits=3, seed=4)
    np.testing.assert_allclose(found, slow(Y.astype(float), group, owner, 3, 4), rtol=1e-9)


def test_wells_of_a_dose_are_replicates_and_doses_plates_and_controls_are_not(screen):
    data = screen(perturbations=12, doses=2, plates=3).data
    group = replicates(data)
    assert (group[data.control] == -1).all()
    for name in np.unique(group[group >= 0]):
        own = data.units[group == name]
        assert len(own) == 3
        assert own[["Metadata_Compound", "Metadata_Dose"]].drop_duplicates().shape[0] == 1
        assert own["Metadata_Plate"].nunique() == 3


def test_one_row_per_perturbation_or_copies_of_one_measurement_have_no_ceiling(screen):
    alone = screen(perturbations=20, doses=1, plates=1).data
    assert np.isnan(of_task(alone)).all()
    data = screen(perturbations=20, doses=1, plates=3).data
    assert np.isfinite(of_task(data)).all()
    first = {name: np.flatnonzero(data.groups == name)[0] for name in np.unique(data.groups)}
    copied = replace(data, Y=data.Y[[first[name] for name in data.groups]])
    assert np.isnan(of_task(copied)).all()
    few = screen(perturbations=9, doses=1, plates=3).data
    assert np.isnan(of_task(few)).all()


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(-100, 100))
def test_offset_scale_and_order_of_readouts_do_not_matter(seed, scale, offset):
    Y, group = rows_of([0.3, 0.6], [2] * 30, seed)
    Y = Y.astype(float)
    found = ceiling.ceiling(Y, group, group.astype(str))
    np.testing.assert_allclose(
        ceiling.ceiling(Y * scale + offset, group, group.astype(str)), found, rtol=1e-6
    )
    np.testing.assert_allclose(ceiling.ceiling(Y[:, ::-1], group, group.astype(str))[::-1], found)
