from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.mae.loss import objective, to_images, to_patches
from featurizers.mae.masking import random_masking
from featurizers.mae.model import MaskedAutoencoder, position_embedding
from featurizers.training.schedules import stream


def build(config, channels=2, seed=0):
    return MaskedAutoencoder(config, channels, stream(seed, "weights", 0))


def test_position_embedding_equals_its_definition():
    edge, dim = 3, 8
    found = position_embedding(edge, dim).numpy()
    for row in range(edge):
        for column in range(edge):
            wave = [10_000 ** (-4 * k / dim) for k in range(dim // 4)]
            expected = [f(v * w) for v in (row, column) for f in (np.sin, np.cos) for w in wave]
            np.testing.assert_allclose(found[row * edge + column], expected, atol=1e-6)


def test_the_encoder_sees_only_visible_patches(config):
    model, images = build(config), torch.randn(3, 2, 24, 24)
    patches = to_patches(images, config.patch)
    masking = random_masking(torch.rand(3, config.tokens), config.mask_ratio)
    before = model.encoder(patches, masking.keep)
    spoiled = patches.clone()
    spoiled[masking.mask == 1] = torch.nan
    assert before.shape == (3, 1 + config.visible, config.dim)
    assert torch.equal(model.encoder(spoiled, masking.keep), before)
    shown = patches.clone()
    shown[0, masking.keep[0, 0]] += 1
    assert not torch.allclose(model.encoder(shown, masking.keep)[0], before[0])


def test_the_prediction_depends_on_the_place_of_the_visible_patches(config):
    """The decoder puts tokens back where they came from: moving what is seen moves what is predicted."""
    model = build(config)
    patches = to_patches(torch.randn(1, 2, 24, 24), config.patch)
    noise = torch.rand(1, config.tokens)
    predicted, masking = model(patches, noise)
    order = torch.argsort(noise, dim=1)
    assert predicted.shape == patches.shape
    assert torch.equal(masking.keep, order[:, : config.visible])
    swapped = noise[:, torch.arange(config.tokens).flip(0)]
    assert not torch.allclose(model(patches, swapped)[0], predicted)


def test_all_patches_in_any_order_give_the_same_tokens(config):
    model = build(config)
    patches = to_patches(torch.randn(2, 2, 24, 24), config.patch)
    order = torch.stack([torch.randperm(config.tokens) for _ in range(2)])
    tokens = model.encoder(patches)
    shuffled = model.encoder(patches, order)
    expected = torch.stack([tokens[n, 1:][order[n]] for n in range(2)])
    torch.testing.assert_close(shuffled[:, 1:], expected, rtol=1e-4, atol=1e-5)


def test_the_last_block_is_the_default_and_earlier_ones_differ(config):
    model = build(config)
    patches = to_patches(torch.randn(1, 2, 24, 24), config.patch)
    last = model.encoder(patches)
    assert torch.equal(model.encoder(patches, block=1), last)
    assert torch.equal(model.encoder(patches, block=-2), model.encoder(patches, block=0))
    assert not torch.allclose(model.encoder(patches, block=0), last)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("blocks", ["pre-norm", "parallel-scaling"])
def test_any_number_of_channels_and_either_block(config, channels, blocks):
    config = replace(config, blocks=blocks, layer_scale=1e-4, decoder_depth=2)
    model = build(config, channels)
    patches = to_patches(torch.randn(2, channels, 24, 24), config.patch)
    predicted, _ = model(patches, torch.rand(2, config.tokens))
    assert to_images(predicted).shape == (2, channels, 24, 24)


def test_weights_come_from_the_generator_alone_and_the_global_state_is_untouched(config):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = build(config).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = build(config).state_dict(), build(config, seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.embed.weight"], other["encoder.embed.weight"])


def test_it_learns_to_fill_in_a_planted_pattern(config):
    """Each image is one of two stripe patterns: hidden patches follow from the visible ones."""
    columns = torch.arange(24) * (2 * torch.pi / 6)
    stripes = torch.sin(columns).expand(24, 24)
    images = torch.stack([stripes if n % 2 else -stripes for n in range(16)])[:, None].repeat(1, 2, 1, 1)
    model = build(config)
    patches = to_patches(images, config.patch)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(150):
        noise = torch.rand(16, config.tokens, generator=stream(0, "mask", step))
        predicted, masking = model(patches, noise)
        found = objective(predicted, patches, masking.mask)
        optimiser.zero_grad()
        found.loss.backward()
        optimiser.step()
        losses.append(found.squared.item())
    assert losses[0] > 0.4
    assert losses[-1] < 0.02
