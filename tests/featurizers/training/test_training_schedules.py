from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from featurizers.training.schedules import batch_indices, field_batch, one_cycle, stream


@pytest.mark.parametrize(("steps", "share"), [(100, 0.1), (57, 0.3), (1000, 0.1)])
def test_one_cycle_equals_torch(steps, share):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-4, total_steps=steps, pct_start=share)
    for step in range(steps):
        expected = optimiser.param_groups[0]["lr"]
        assert one_cycle(step, steps, 3e-4, share=share) == pytest.approx(expected, rel=1e-9)
        optimiser.step()
        if step + 1 < steps:
            theirs.step()


def test_a_linear_warm_up_is_a_straight_line():
    rates = [one_cycle(step, 100, 1.0, share=0.1, warmup="linear") for step in range(10)]
    differences = [b - a for a, b in pairwise(rates)]
    assert differences == pytest.approx([differences[0]] * 9)
    assert rates[-1] == 1.0


def test_very_short_trainings_have_a_finite_rate():
    assert all(0 < one_cycle(step, steps, 1.0) <= 1 for steps in (1, 2, 5, 10) for step in range(steps))


@pytest.mark.parametrize(("batch", "count"), [(4, 10), (10, 10), (25, 10)])
def test_every_epoch_passes_once_over_all_crops(batch, count):
    steps = 4 * count // batch
    drawn = torch.cat([batch_indices(3, step, batch, count) for step in range(steps)])
    for epoch in drawn[: len(drawn) // count * count].reshape(-1, count):
        assert sorted(epoch.tolist()) == list(range(count))
    assert drawn[:count].tolist() != drawn[count : 2 * count].tolist()


def test_streams_differ_by_seed_purpose_and_index():
    def draw(*key):
        return torch.rand(1, generator=stream(*key)).item()

    assert draw(0, "mask", 1) == draw(0, "mask", 1)
    assert len({draw(0, "mask", 1), draw(1, "mask", 1), draw(0, "order", 1), draw(0, "mask", 2)}) == 4


def test_a_batch_of_fields_has_so_many_crops_of_each_and_passes_over_every_field():
    owner = np.repeat([0, 2, 3, 5], [4, 1, 3, 6])  # field 2 has one crop, fields 1 and 4 have none
    seen = []
    for step in range(4):
        index = field_batch(0, step, 2, 3, owner).numpy()
        fields = owner[index].reshape(2, 3)
        assert (fields == fields[:, :1]).all()
        seen += fields[:, 0].tolist()
        for field, crops in zip(fields[:, 0], index.reshape(2, 3), strict=True):
            assert len(set(crops.tolist())) == (1 if field == 2 else 3)
    assert sorted(seen[:4]) == sorted(seen[4:]) == [0, 2, 3, 5]
    assert torch.equal(field_batch(0, 1, 2, 3, owner), field_batch(0, 1, 2, 3, owner))
    assert not torch.equal(field_batch(1, 1, 2, 3, owner), field_batch(0, 1, 2, 3, owner))
