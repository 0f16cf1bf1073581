"""The towers: the published names and shapes, what makes the image tower no common ResNet-50, its pooling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.cloome import CloomeConfig
from featurizers.cloome.config import PRESETS, TowerSettings
from featurizers.cloome.model import ResNet, Towers
from featurizers.cloome.train import parameter_groups, rate

SMALL = replace(PRESETS["tiny"], planes=4, blocks=(1, 2), dim=6, hidden=8, bits=32)


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return Towers(TowerSettings(), 5, 0)


def test_the_image_tower_has_the_tensors_of_a_resnet50(published):
    """Names and shapes are torchvision's; published weights would load there too."""
    from featurizers.vision import import_torchvision

    import_torchvision()
    from torchvision.models import resnet50

    with torch.device("meta"):
        common = resnet50(num_classes=512)
    expected = {name: tuple(value.shape) for name, value in common.state_dict().items()}
    expected["conv1.weight"] = (64, 5, 7, 7)
    found = {name: tuple(value.shape) for name, value in published.visual.state_dict().items()}
    assert found == expected


def test_the_molecule_tower_has_the_published_tensors(published):
    found = {name: tuple(value.shape) for name, value in published.state_dict().items()}
    weights = {name: shape for name, shape in found.items() if name.startswith("transformer.")}
    linear = {f"transformer.layers.{k}.0.weight": (1024, 1024) for k in range(4)}
    linear["transformer.layers.4.0.weight"] = (512, 1024)
    assert {name: shape for name, shape in weights.items() if len(shape) == 2} == linear
    assert found["logit_inv_tau"] == ()
    assert found["transformer.layers.3.1.running_mean"] == (1024,)
    assert {name.split(".")[0] for name in found} == {"visual", "transformer", "logit_inv_tau"}


def with_weights_of(source, target):
    target.load_state_dict(source.state_dict(), strict=True)
    return target.eval()


def test_strided_convolutions_make_torchvisions_resnet50():
    from featurizers.vision import import_torchvision

    import_torchvision()
    from torchvision.models import resnet50

    common = resnet50(num_classes=16).eval()
    ours = with_weights_of(
        common, ResNet(TowerSettings(downsample="convolution", pooling="global", dim=16), 3)
    )
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), common(images), rtol=1e-4, atol=1e-4)
        released = with_weights_of(common, ResNet(TowerSettings(dim=16), 3))
        assert not torch.allclose(released(images), common(images), rtol=0.1)


def test_a_block_of_the_released_tower_averages_after_convolving():
    config = replace(SMALL, downsample="average")
    block = ResNet(config, 2).layer2[0].eval()
    x = torch.randn(1, 16, 6, 8, generator=torch.Generator().manual_seed(0))

    def norm(layer, values):
        return layer(values)

    with torch.inference_mode():
        inner = norm(block.bn1, torch.nn.functional.conv2d(x, block.conv1.weight)).relu()
        inner = norm(block.bn2, torch.nn.functional.conv2d(inner, block.conv2.weight, padding=1)).relu()
        inner = inner.unflatten(3, (4, 2)).unflatten(2, (3, 2)).mean(dim=(3, 5))
        inner = norm(block.bn3, torch.nn.functional.conv2d(inner, block.conv3.weight))
        pooled = x.unflatten(3, (4, 2)).unflatten(2, (3, 2)).mean(dim=(3, 5))
        shortcut = norm(block.downsample[1], torch.nn.functional.conv2d(pooled, block.downsample[0].weight))
        torch.testing.assert_close(block(x), (inner + shortcut).relu(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "equal"), [((56, 56), True), ((24, 40), True), ((72, 96), False)])
def test_windows_equal_the_global_mean_up_to_seven_by_seven(shape, equal):
    """Two stages divide by 8: 56 px give a map of 7 x 7; beyond it the border weighs less than the middle."""
    towers = [ResNet(replace(SMALL, pooling=pooling), 2) for pooling in ("windows", "global")]
    with_weights_of(towers[0], towers[1])
    towers[0].eval()
    images = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, mean = (tower.features(images).numpy() for tower in towers)
        last = towers[0]
        x = torch.relu(last.bn1(last.conv1(images)))
        x = last.layer2(last.layer1(torch.nn.functional.max_pool2d(x, 3, 2, 1))).numpy()
    assert np.allclose(found, mean, rtol=1e-5) == equal
    height, width = x.shape[2:]
    windows = [
        x[:, :, top : top + 7, left : left + 7].mean(axis=(2, 3))
        for top in range(max(height - 6, 1))
        for left in range(max(width - 6, 1))
    ]
    np.testing.assert_allclose(found, np.mean(windows, axis=0), rtol=1e-4, atol=1e-6)


def test_embeddings_have_unit_length_and_any_number_of_channels():
    for channels in (1, 2, 7):
        towers = Towers(SMALL, channels, 0).eval()
        images, molecules = towers(torch.randn(3, channels, 64, 64), torch.ones(3, 32))
        for rows in (images, molecules):
            assert rows.shape == (3, 6)
            torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_the_seed_decides_the_weights_and_moves_nothing_else():
    before = torch.get_rng_state()
    first, again, other = (Towers(SMALL, 2, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.conv1.weight"], other["visual.conv1.weight"])


def test_the_inverse_temperature_stays_between_1_and_100():
    towers = Towers(SMALL, 2, 0)
    assert towers.logit_inv_tau.exp().item() == pytest.approx(14.3, rel=1e-6)
    for wild, kept in ((-3.0, 1.0), (9.0, 100.0)):
        towers.logit_inv_tau.data.fill_(wild)
        towers.clamp()
        assert towers.logit_inv_tau.exp().item() == pytest.approx(kept, rel=1e-6)


def test_biases_and_the_image_towers_norms_have_no_weight_decay(published):
    decayed, spared = parameter_groups(published)
    named = {id(p): name for name, p in published.named_parameters()}
    names = {named[id(p)] for p in spared}
    assert "visual.bn1.weight" in names
    assert "visual.layer1.0.bn3.bias" in names
    assert "transformer.layers.0.0.bias" in names
    kept = {named[id(p)] for p in decayed}
    assert {"visual.conv1.weight", "visual.layer1.0.downsample.1.weight", "logit_inv_tau"} <= kept
    assert "transformer.layers.0.1.weight" in kept
    assert len(names) + len(kept) == len(named)


def test_the_rate_rises_on_a_line_and_falls_along_cosines_with_restarts():
    config = replace(SMALL, steps=110, warmup_share=10 / 110, lr=1.0)
    assert [rate(k, config) for k in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert rate(60, config) == pytest.approx(0.5)
    assert rate(109, config) < 0.001
    twice = replace(config, cycles=2)
    assert rate(35, twice) == pytest.approx(0.5)
    assert rate(59, twice) < 0.01
    assert rate(60, twice) == 1.0


def test_the_paper_preset_is_the_released_commands():
    paper = PRESETS["paper"]
    assert (paper.lr, paper.weight_decay, paper.batch, paper.beta, paper.inverse_tau) == (
        5e-4,
        0.2,
        64,
        14.3,
        14.3,
    )
    assert round(paper.warmup_share * paper.steps) == 10_000
    assert (paper.blocks, paper.dim, paper.hidden_layers, paper.hidden, paper.bits, paper.radius) == (
        (3, 4, 6, 3),
        512,
        4,
        1024,
        1024,
        3,
    )
    assert (paper.learn_inverse_tau, paper.objective, paper.batches) == ("no", "cloob", "images")
    assert paper == CloomeConfig(precision="bfloat16")
