"""Folds: whole perturbations, balanced, the same whatever the order of rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import folds
from tasks.base import TaskError
from tasks.protocol import load

NESTED, RANDOM = load("nested-cv"), load("random-wells")
names = st.lists(st.text("abcxyz0189-", min_size=1, max_size=6), min_size=1, max_size=60)


@given(groups=names, k=st.integers(2, 8), seed=st.integers(0, 2**31), repeat=st.integers(0, 9))
def test_groups_stay_whole_and_folds_differ_by_at_most_one_group(groups, k, seed, repeat):
    groups = np.array(groups)
    fold = folds.assign(groups, k, seed, repeat)
    homes = {g: set(fold[groups == g]) for g in groups}
    assert all(len(home) == 1 for home in homes.values())
    sizes = np.bincount([home.pop() for home in homes.values()], minlength=k)
    assert sizes.max() - sizes.min() <= 1


@given(groups=names, k=st.integers(2, 8), seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(groups, k, seed, order):
    shuffled = np.array(order.sample(range(len(groups)), len(groups)))
    groups = np.array(groups)
    np.testing.assert_array_equal(
        folds.assign(groups[shuffled], k, seed), folds.assign(groups, k, seed)[shuffled]
    )


def test_seeds_and_repeats_deal_differently():
    groups = np.array([f"g{i}" for i in range(40)])
    first = folds.assign(groups, 5, 0, 0)
    assert (first != folds.assign(groups, 5, 1, 0)).any()
    assert (first != folds.assign(groups, 5, 0, 1)).any()


def test_the_deal_is_the_same_for_ever():
    # A change here changes every stored fold: it needs a new protocol schema version.
    np.testing.assert_array_equal(
        folds.assign(np.array(list("abcdefgh")), 3, 20240, 1), [2, 0, 0, 1, 1, 2, 1, 0]
    )


@pytest.mark.parametrize("protocol", [NESTED, RANDOM], ids=lambda p: p.name)
@settings(max_examples=15)
@given(perturbations=st.integers(10, 23), doses=st.integers(1, 3), plates=st.integers(1, 2))
def test_every_unit_but_controls_is_tested_once_per_repeat(screen, protocol, perturbations, doses, plates):
    data = screen(perturbations, doses, plates).data
    frame = folds.make(data, protocol)
    assert set(frame["repeat"]) == set(range(5))
    for _, own in frame.groupby("repeat"):
        np.testing.assert_array_equal(np.sort(own["unit"]), np.flatnonzero(~data.control))
    np.testing.assert_array_equal(frame["perturbation"], data.groups[frame["unit"]])


def test_a_perturbation_is_in_one_fold_under_nested_cv_and_in_several_under_random_wells(screen):
    data = screen(perturbations=12, doses=3).data
    spread = {
        p.name: folds.make(data, p).groupby(["repeat", "perturbation"])["fold"].nunique()
        for p in (NESTED, RANDOM)
    }
    assert (spread["nested-cv"] == 1).all()
    assert (spread["random-wells"] > 1).all()


def test_random_units_are_balanced_and_independent_of_row_order(screen):
    data = screen(perturbations=12, doses=3).data
    frame = folds.make(data, RANDOM)
    sizes = frame.groupby(["repeat", "fold"]).size()
    assert sizes.max() - sizes.min() <= 1
    order = np.random.default_rng(1).permutation(len(data.units))
    moved = replace(
        data, units=data.units.iloc[order].reset_index(drop=True), groups=data.groups[order],
        control=data.control[order], Y=data.Y[order],
    )  # fmt: skip
    again = folds.make(moved, RANDOM)
    again["unit"] = order[again["unit"]]
    assert folds.digest(again) == folds.digest(frame)


def test_the_digest_sees_folds_and_not_the_order_of_rows(screen):
    frame = folds.make(screen().data, NESTED)
    assert folds.digest(frame.sample(frac=1, random_state=0)) == folds.digest(frame)
    other = frame.copy()
    other.loc[0, "fold"] = (other.loc[0, "fold"] + 1) % 5
    assert folds.digest(other) != folds.digest(frame)


@pytest.mark.parametrize(
    ("perturbations", "remedy"),
    [
        (9, "a protocol file with inner_folds = 3 would work"),
        (5, "a protocol file with inner_folds = 2 would work"),
        (4, "no number of folds works"),
        (1, "no number of folds works"),
    ],
)
def test_too_few_perturbations_are_refused_with_what_would_work(screen, perturbations, remedy):
    data = screen(perturbations=perturbations, doses=3).data
    with pytest.raises(TaskError, match=remedy) as caught:
        folds.make(data, NESTED)
    assert f"has {perturbations} perturbations" in str(caught.value)
    if perturbations > 1:
        assert "random-wells" in str(caught.value)
        folds.make(data, RANDOM)


def test_the_remedy_that_the_refusal_names_works(screen):
    data = screen(perturbations=9).data
    folds.make(data, NESTED.with_settings(inner_folds=3))
    data = screen(perturbations=6).data
    with pytest.raises(
        TaskError, match="outer_folds = 6, the largest possible, and inner_folds = 2 would work"
    ):
        folds.make(data, NESTED.with_settings(outer_folds=8))
    folds.make(data, NESTED.with_settings(outer_folds=6, inner_folds=2))


def test_a_stratum_with_too_few_perturbations_is_named(screen):
    data = screen(perturbations=16).data
    arm = np.where(np.isin(data.groups, ["cpd00", "cpd01", "cpd02"]), "rare", "common")
    data = replace(data, units=data.units.assign(arm=arm), fit_by=("arm",))
    with pytest.raises(TaskError, match="3 perturbations in stratum 'arm=rare'"):
        folds.make(data, NESTED)


def test_controls_alone_cannot_be_tested(screen):
    data = screen().data
    with pytest.raises(TaskError, match="nothing to test"):
        folds.make(replace(data, control=np.ones_like(data.control)), NESTED)
