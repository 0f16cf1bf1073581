"""The variants: foreground-weighted term, channel-agnostic tokens, parallel blocks, deep decoder, presets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.base import FitContext
from featurizers.conformance import check_featurizer, failures
from featurizers.mae import Mae
from featurizers.mae.config import PRESETS
from featurizers.mae.loss import objective, to_channel_patches, to_patches
from featurizers.mae.model import MaskedAutoencoder
from featurizers.mae.train import train
from featurizers.training.schedules import stream
from tests.featurizers.training.fields import CHANNELS


def model(config, channels=2):
    return MaskedAutoencoder(config, channels, stream(0, "weights", 0))


def slow_foreground(predicted, target, mask, foreground):
    total = weight = 0.0
    for n in range(mask.shape[0]):
        for token in range(mask.shape[1]):
            own = float(mask[n, token] * foreground[n, token])
            total += own * float(((predicted[n, token] - target[n, token]) ** 2).mean())
            weight += own
    return total / weight


def test_the_foreground_term_equals_the_loop_and_is_mixed_by_its_weight():
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.rand(2, 3, 5, 2, 4, 4, generator=generator)
    mask = (torch.rand(3, 5, generator=generator) < 0.6).float()
    foreground = torch.rand(3, 5, generator=generator)
    plain = objective(predicted, target, mask, weight=0.01)
    mixed = objective(predicted, target, mask, weight=0.01, foreground=foreground, foreground_weight=0.3)
    expected = slow_foreground(predicted, target, mask, foreground)
    assert float(mixed.foreground) == pytest.approx(expected, rel=1e-5)
    assert float(mixed.loss) == pytest.approx(0.7 * float(plain.loss) + 0.3 * expected, rel=1e-5)
    off = objective(predicted, target, mask, weight=0.01, foreground=foreground)
    assert torch.equal(off.loss, plain.loss)


def test_with_the_foreground_term_alone_background_and_visible_tokens_have_no_gradient():
    predicted = torch.rand(1, 4, 1, 2, 2, requires_grad=True)
    mask, foreground = torch.tensor([[1.0, 1.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.0, 1.0, 1.0]])
    options = {"weight": 0.0, "foreground": foreground, "foreground_weight": 1.0}
    objective(predicted, torch.zeros(1, 4, 1, 2, 2), mask, **options).loss.backward()
    moved = predicted.grad.abs().sum(dim=(0, 2, 3, 4)) > 0
    assert moved.tolist() == [True, False, False, True]


def test_a_batch_without_foreground_costs_nothing_and_stays_finite():
    patches = torch.rand(1, 2, 1, 2, 2)
    nothing = torch.zeros(1, 2)
    found = objective(patches, patches + 1, torch.ones(1, 2), foreground=nothing, foreground_weight=0.5)
    assert float(found.foreground) == 0.0
    assert torch.isfinite(found.loss)


def test_the_foreground_weight_changes_what_is_learnt(source, config, tmp_path):
    ends = []
    for weight in (0.0, 0.9):
        (tmp_path / str(weight)).mkdir()
        own = replace(config, foreground_weight=weight)
        ends.append(train(source, own, FitContext(tmp_path / str(weight))).network.encoder.embed.weight)
    assert not torch.equal(*ends)


def test_channel_tokens_come_channel_by_channel():
    images = torch.rand(2, 3, 8, 8)
    found = to_channel_patches(to_patches(images, 4))
    assert found.shape == (2, 12, 1, 4, 4)
    for channel in range(3):
        alone = to_patches(images[:, channel : channel + 1], 4)
        assert torch.equal(found[:, 4 * channel : 4 * channel + 4], alone)


def test_channel_agnostic_rows_do_not_depend_on_the_order_of_channels(config):
    encoder = model(replace(config, channel_tokens="agnostic"), 3).encoder.eval()
    images = torch.rand(2, 3, 24, 24)
    with torch.inference_mode():
        rows, other = (
            encoder(to_channel_patches(to_patches(x, 6)))[:, 1:].mean(1)
            for x in (images, images[:, [2, 0, 1]])
        )
        fewer = encoder(to_channel_patches(to_patches(images[:, :1], 6)))
    torch.testing.assert_close(rows, other, rtol=1e-4, atol=1e-5)
    assert fewer.shape == (2, 1 + 16, 16), "the encoder takes any number of channels"


def test_the_channel_decoder_tells_channels_apart_and_cannot_see_hidden_tokens(config):
    config = replace(config, channel_tokens="agnostic")
    network = model(config, 2).eval()
    patches = to_channel_patches(to_patches(torch.rand(1, 2, 24, 24), 6))
    noise = torch.rand(1, 32, generator=stream(0, "mask", 0))
    with torch.inference_mode():
        first, masking = network(patches, noise)
        changed = torch.where(masking.mask[:, :, None, None, None] > 0, 9.0, patches)
        again, _ = network(changed, noise)
    assert first.shape == patches.shape
    assert int((1 - masking.mask).sum()) == int(32 * 0.25)
    assert torch.equal(first, again)
    # without any visible difference, two hidden patches of one place differ by their channel only
    both = [k for k in range(16) if masking.mask[0, k] and masking.mask[0, 16 + k]]
    assert not torch.allclose(first[0, both[0]], first[0, 16 + both[0]])


def test_a_channel_agnostic_training_is_saved_and_read_again(source, config, tmp_path):
    config = replace(config, channel_tokens="agnostic", micro_batch=4)
    for name in ("work", "saved"):
        (tmp_path / name).mkdir()
    featurizer = Mae(config)
    featurizer.fit(source, None, FitContext(tmp_path / "work"))
    featurizer.save(tmp_path / "saved")
    reader = Mae(config)
    reader.load(tmp_path / "saved")
    found = reader.embed(source.fields).values
    np.testing.assert_array_equal(found, featurizer.embed(source.fields).values)
    assert found.shape == (24, len(featurizer.columns(CHANNELS)))


@pytest.mark.slow
def test_the_channel_agnostic_variant_keeps_the_contract(config):
    assert failures(check_featurizer(lambda: Mae(replace(config, channel_tokens="agnostic")))) == []


def test_options_of_the_microscopy_models_are_in_the_network(config):
    kraus = replace(config, blocks="parallel-scaling", layer_scale=1e-4, decoder_depth=8, qk_norm=True)
    network = model(kraus)
    assert len(network.decoder.blocks) == 8
    names = [name for name, _ in network.encoder.blocks[0].named_parameters()]
    assert any("q_norm" in name for name in names)
    assert not any("qkv" in name and name.endswith("bias") for name in names), "no bias of queries and keys"
    gammas = [p for name, p in network.encoder.named_parameters() if name.endswith("gamma")]
    assert gammas
    assert all((p == 1e-4).all() for p in gammas)
    plain = [name for name, _ in model(replace(config, qk_norm=False)).encoder.named_parameters()]
    assert not any("q_norm" in name for name in plain)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["small", "poster"])
@pytest.mark.parametrize("channel_tokens", ["joint", "agnostic"])
def test_a_preset_has_a_finite_gradient_everywhere(preset, channel_tokens):
    if (preset, channel_tokens) == ("poster", "agnostic"):
        pytest.skip("3,920 tokens at full width need a GPU")
    config = replace(PRESETS[preset], channel_tokens=channel_tokens)
    network = model(config, 5)
    patches = to_patches(torch.rand(1, 5, config.crop, config.crop), config.patch)
    if channel_tokens == "agnostic":
        patches = to_channel_patches(patches)
    noise = torch.rand(1, patches.shape[1])
    predicted, masking = network(patches, noise)
    if preset == "poster":
        assert patches.shape[1] == 784
        assert masking.keep.shape[1] == 78
    objective(predicted, patches, masking.mask).loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
