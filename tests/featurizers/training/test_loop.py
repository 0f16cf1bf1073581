"""The shared loop on a regression of a few weights: resume, averages, clipping, faults, figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from featurizers.base import FeaturizerError, FitContext
from featurizers.training import parallel
from featurizers.training.files import checkpoints
from featurizers.training.loop import Loop, Recipe, _clip
from featurizers.training.schedules import cosine, seeded, stream

STEPS = 12
RECIPE = Recipe(
    "toy",
    steps=STEPS,
    crops=4,
    optimiser="adamw",
    beta1=0.9,
    beta2=0.999,
    rate=lambda t: cosine(t, STEPS, 0.1, 0.01, warmup=3),
    decay=lambda t: 0.1,
    clip=1.0,
)


class Stop(Exception):
    pass


class Toy(nn.Module):
    """A linear map, a layer that is frozen for the first steps, and a running mean of what was seen."""

    def __init__(self):
        super().__init__()
        with seeded(0, "weights", 0):
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 1)
        self.register_buffer("seen", torch.zeros(3))


def run(folder, *, recipe=RECIPE, stop=None, seconds=0.0, poison=None, report=None, error=None):
    folder.mkdir(exist_ok=True)
    net = Toy()
    context = FitContext(folder, report=report) if report else FitContext(folder)
    loop = Loop(
        net, recipe, context, {"seed": 0}, groups=[[net.first.weight, net.last.weight], [net.first.bias]]
    )

    def accumulate(step):
        if step == stop:
            raise Stop
        if step == poison and error is not None:
            raise error
        x = torch.randn(4, 3, generator=stream(0, "x", step))
        net.seen.mul_(0.9).add_(x.mean(0), alpha=0.1)
        loss = (net.last(net.first(x)) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        return {"loss": loss * torch.nan if step == poison else loss, "largest": x.max()}

    def freeze(step):
        if step < 4:
            net.last.weight.grad = None

    if not loop.done:
        loop.run(accumulate, before=freeze, checkpoint_seconds=seconds, extra={"note": "kept"})
    return net, loop


def bytes_of(folder):
    last = checkpoints(folder)[-1]
    return {p.name: p.read_bytes() for p in sorted(last.iterdir())}


@pytest.mark.parametrize("optimiser", ["adamw", "lion"])
@pytest.mark.parametrize("average", [0.0, 0.8])
def test_a_killed_training_ends_in_the_same_files(tmp_path, optimiser, average):
    recipe = replace(RECIPE, optimiser=optimiser, average=average)
    whole, _ = run(tmp_path / "whole", recipe=recipe)
    for stop in (2, 6, 11):  # before and after the last layer has an optimiser state
        with pytest.raises(Stop):
            run(tmp_path / "parts", recipe=recipe, stop=stop)
    parts, loop = run(tmp_path / "parts", recipe=recipe)
    assert loop.state == {"note": "kept"}
    assert bytes_of(tmp_path / "whole") == bytes_of(tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name])


def test_the_average_is_the_recursion_over_the_weights_of_each_step(tmp_path):
    recipe = replace(RECIPE, average=0.8)
    net = Toy()
    start = net.first.weight.detach().clone()
    loop = Loop(net, recipe, FitContext(tmp_path), {})
    mean = start

    def accumulate(step):
        loss = net.first(torch.ones(1, 3)).square().sum() + net.last(torch.ones(1, 3)).square().sum()
        loss.backward()
        return {"loss": loss}

    def after(step):
        nonlocal mean
        mean = 0.8 * mean + 0.2 * net.first.weight.detach()

    loop.run(accumulate, after=after)
    torch.testing.assert_close(net.first.weight.detach(), mean)
    assert not torch.allclose(mean, start)


def test_the_second_group_and_a_frozen_layer_do_not_decay(tmp_path):
    recipe = replace(RECIPE, rate=lambda t: 0.1, decay=lambda t: 1.0, steps=3)
    net = Toy()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    loop = Loop(net, recipe, FitContext(tmp_path), {}, groups=[[net.first.weight], [net.first.bias]])

    def accumulate(step):
        loss = 0 * (net.first.weight.sum() + net.first.bias.sum())
        loss.backward()
        return {"loss": loss}

    loop.run(accumulate)
    torch.testing.assert_close(net.first.weight.detach(), before["first.weight"] * 0.9**3)
    assert torch.equal(net.first.bias, before["first.bias"])
    assert torch.equal(net.last.weight, before["last.weight"])


def test_clipping_per_tensor_scales_each_alone_and_globally_all_together():
    for rule, expected in (("per-tensor", (1.0, 0.5)), ("global-norm", (3 / 3.0414, 0.5 / 3.0414))):
        parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.5])
        norm = _clip(parameters, replace(RECIPE, clip_rule=rule))
        assert norm == pytest.approx(3.0414, rel=1e-4)
        assert [float(p.grad[0]) for p in parameters] == pytest.approx(expected, rel=1e-3)


def test_a_loss_that_is_not_finite_names_step_and_checkpoint_and_keeps_it(tmp_path):
    with pytest.raises(
        FeaturizerError, match=r"toy: loss nan .* step 6 of 12; .*checkpoint-000000005; lower lr"
    ):
        run(tmp_path, poison=5)
    assert checkpoints(tmp_path)[-1].name == "checkpoint-000000005"
    run(tmp_path)


def test_the_end_of_a_devices_memory_names_the_setting_to_change(tmp_path):
    with pytest.raises(FeaturizerError, match=r"memory ended in step 1 of 12; lower micro_batch or batch"):
        run(tmp_path, poison=0, error=torch.OutOfMemoryError("CUDA out of memory"))


@pytest.mark.parametrize(
    "where", ["torch.optim.AdamW.step", "featurizers.training.parallel.sum_gradients", "Loop._update_average"]
)
def test_memory_that_ends_in_another_part_of_a_step_names_the_setting_too(tmp_path, monkeypatch, where):
    def ended(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    if where == "Loop._update_average":
        monkeypatch.setattr(Loop, "_update_average", ended)
    else:
        monkeypatch.setattr(where, ended)
    with pytest.raises(
        FeaturizerError, match=r"memory ended in step 1 of 12; lower micro_batch or batch, or"
    ):
        run(tmp_path)


@pytest.mark.parametrize("array", [lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)])
def test_memory_that_ends_on_a_cpu_names_the_setting_too(tmp_path, monkeypatch, array):
    monkeypatch.setattr(Loop, "_one", lambda *_: array())
    with pytest.raises(FeaturizerError, match=r"memory ended in step 1 of 12; lower micro_batch or batch"):
        run(tmp_path)


def test_metrics_have_one_row_per_step_also_after_a_kill(tmp_path):
    with pytest.raises(Stop):
        run(tmp_path, stop=7)
    run(tmp_path)
    rows = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert {"loss", "largest", "lr", "gradient_norm", "crops_per_second", "seconds"} < set(rows[0])
    assert [row["lr"] for row in rows] == pytest.approx([RECIPE.rate(t) for t in range(STEPS)])


def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch):
    import sys
    import types

    scalars = []

    class Writer:
        def __init__(self, folder, purge_step):
            assert folder == tmp_path / "tensorboard"
            assert purge_step == 1

        def add_scalar(self, name, value, step):
            scalars.append((name, step))

        def flush(self): ...
        def close(self): ...

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "tensorboard" or None)
    run(tmp_path)
    assert ("loss", STEPS) in scalars


def test_a_cosine_schedule_rises_on_a_line_and_falls_to_its_end():
    values = [cosine(t, 100, 2.0, 0.5, warmup=11) for t in range(100)]
    assert values[:11] == pytest.approx([0.2 * t for t in range(11)])
    assert values[11] == 2.0
    assert values[55] == pytest.approx(1.25, abs=0.02)
    assert values[-1] == pytest.approx(0.5, abs=1e-3)
    assert all(a >= b for a, b in pairwise(values[11:]))


@pytest.mark.parametrize("count", [1, 5, 8])
def test_shares_cover_every_row_once(monkeypatch, count):
    monkeypatch.setattr(parallel, "size", lambda: 3)
    rows = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        rows += range(count)[parallel.share(count)]
    assert rows == list(range(count))
