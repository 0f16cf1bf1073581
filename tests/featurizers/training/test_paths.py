"""Dropped paths: the same for any passes and processes, at the right rate and scale, none in evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.dino.model import Backbone, SelfDistillation
from featurizers.dino.train import Distillation
from featurizers.training import parallel
from featurizers.training.cropfile import CropFile
from featurizers.training.paths import DrawnPath, draws, take_over
from featurizers.vision import prepare_timm
from tests.featurizers.dino.test_dino_loss import CONFIG
from tests.featurizers.tide.screen import CONFIG as TIDE
from tests.featurizers.tide.test_tide_featurizer import guidance

prepare_timm()
from timm.layers import DropPath  # noqa: E402
from timm.models.vision_transformer import Block  # noqa: E402

DINO = replace(CONFIG, depth=3, drop_path=0.5, batch=5)


def distillation(config):
    """Networks and crops of the same start, whatever the passes."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(500, 100, (7, 2, config.crop, config.crop)).astype(np.float32)
    crops = CropFile(pixels, np.ones((7, config.crop, config.crop), bool), np.arange(7), (("P", "A"),) * 7)
    network = SelfDistillation(config, 2, 0)
    network.train()
    return network, Distillation(network, config, 0, crops, None, torch.device("cpu"))


def pairs(config):
    network, found = guidance(config)
    network.train()
    return network, found


def gradients(made, step=2):
    network, training = made
    figures = training.accumulate(step)
    return figures, {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def assert_same(first, second):
    assert first[1].keys() == second[1].keys()
    for name, value in first[1].items():
        torch.testing.assert_close(second[1][name], value, rtol=1e-3, atol=1e-6)
    for name, value in first[0].items():
        torch.testing.assert_close(second[0][name], value, rtol=1e-4, atol=1e-6)


ENTRANTS = [
    pytest.param(distillation, DINO, id="dino"),
    pytest.param(pairs, replace(TIDE, depth=3, drop_path=0.5), id="tide"),
]


@pytest.mark.parametrize(("make", "config"), ENTRANTS)
def test_passes_give_the_gradient_of_the_batch_with_dropped_paths(make, config):
    whole = gradients(make(config))
    assert_same(whole, gradients(make(replace(config, micro_batch=2))))
    figure = next(iter(whole[0]))
    kept = gradients(make(replace(config, drop_path=0.0)))
    assert not torch.allclose(kept[0][figure], whole[0][figure]), "with paths dropped it is another step"


@pytest.mark.parametrize(("make", "config"), ENTRANTS)
def test_shares_of_processes_sum_to_the_gradient_of_one_with_dropped_paths(make, config, monkeypatch):
    whole = gradients(make(config))
    figures, summed = {}, {}
    monkeypatch.setattr(parallel, "size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        own = gradients(make(config))
        for total, part in ((figures, own[0]), (summed, own[1])):
            for name, value in part.items():
                total[name] = total.get(name, 0) + value
    assert_same(whole, (figures, summed))


def test_another_step_or_seed_drops_other_paths_and_the_same_one_the_same():
    first = draws(0, "drop path", 3, 4, 6, 5)
    assert torch.equal(first, draws(0, "drop path", 3, 4, 6, 5))
    for other in (draws(0, "drop path", 4, 4, 6, 5), draws(1, "drop path", 3, 4, 6, 5)):
        assert not torch.equal(first, other)
    assert len(first.unique()) > 0.99 * first.numel(), "branches, views and samples have draws of their own"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_path_is_dropped_at_its_rate_and_scaled_by_what_is_kept(rate):
    path = DrawnPath(rate).train()
    path.draw = draws(0, "drop path", 0, 1, 20_000)[0]
    x = torch.randn(20_000, 2, 3)
    made = path(x)
    kept = path.draw < 1 - rate
    assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / 20_000) ** 0.5)
    torch.testing.assert_close(made[kept], x[kept] / (1 - rate))
    assert not made[~kept].any()


def test_a_block_computes_what_timms_computes_with_the_same_samples_dropped():
    torch.manual_seed(0)
    theirs = Block(8, 2, drop_path=0.4).train()
    own = Block(8, 2, drop_path=0.4).train()
    own.load_state_dict(theirs.state_dict())
    paths = take_over(own)
    assert own.state_dict().keys() == theirs.state_dict().keys()
    assert [path.rate for path in paths] == [0.4, 0.4]
    x = torch.randn(50, 3, 8)
    torch.manual_seed(1)
    expected = theirs(x)
    torch.manual_seed(1)
    for path in paths:  # what timm draws, turned into draws that keep the same samples
        path.draw = 1 - torch.empty(50, 1, 1).bernoulli_(0.6)[:, 0, 0]
    torch.testing.assert_close(own(x), expected)
    assert not torch.allclose(expected, theirs.eval()(x))


def test_nothing_is_dropped_in_evaluation():
    dropping, whole = Backbone(DINO, 2, 0.5), Backbone(DINO, 2, 0.0)
    whole.load_state_dict(dropping.state_dict())
    images = torch.randn(4, 2, 16, 16)
    assert torch.equal(dropping.eval()(images), whole.eval()(images))
    given = draws(0, "drop path", 0, dropping.branches, 4)
    assert torch.equal(dropping(images, given), whole(images))
    assert not torch.allclose(dropping.train()(images, given), whole(images))


def test_rates_rise_over_the_blocks_and_no_path_of_timm_is_left():
    backbone = Backbone(DINO, 2, 0.5)
    assert not [m for m in backbone.modules() if isinstance(m, DropPath)]
    assert [path.rate for path in backbone._paths] == [0.25, 0.25, 0.5, 0.5]
    assert backbone.branches == 4
    assert Backbone(DINO, 2, 0.0).branches == 0


def test_a_training_pass_without_draws_is_an_error():
    with pytest.raises(AssertionError, match="nothing was drawn"):
        Backbone(DINO, 2, 0.5).train()(torch.randn(2, 2, 16, 16))
