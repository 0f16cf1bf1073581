from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch

from featurizers.mae.loss import (
    fourier_error,
    fourier_error_of_images,
    objective,
    squared_error,
    to_images,
    to_patches,
)

GEOMETRIES = [(patch, channels) for patch in (8, 16) for channels in (1, 5)]


def dft(block: np.ndarray) -> np.ndarray:
    """The two-dimensional discrete Fourier transform, from its definition."""
    size = len(block)
    wave = np.array([[cmath.exp(-2j * math.pi * u * x / size) for x in range(size)] for u in range(size)])
    return wave @ block @ wave.T


def block_of(images: np.ndarray, n: int, token: int, channel: int, patch: int) -> np.ndarray:
    """Cut one patch of one channel straight out of an image."""
    row, column = divmod(token, images.shape[3] // patch)
    return images[n, channel, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]


@pytest.mark.parametrize(("patch", "channels"), GEOMETRIES)
def test_patches_are_blocks_of_the_image_and_go_back(patch, channels):
    images = torch.rand(2, channels, 3 * patch, 3 * patch)
    patches = to_patches(images, patch)
    assert patches.shape == (2, 9, channels, patch, patch)
    for token in range(9):
        for channel in range(channels):
            expected = block_of(images.numpy(), 1, token, channel, patch)
            np.testing.assert_array_equal(patches[1, token, channel].numpy(), expected)
    assert torch.equal(to_images(patches), images)


@pytest.mark.parametrize(("patch", "channels"), GEOMETRIES)
def test_fourier_error_equals_the_transform_of_single_patches(patch, channels):
    generator = torch.Generator().manual_seed(patch + channels)
    target = torch.randn(2, channels, 2 * patch, 2 * patch, generator=generator, dtype=torch.float64)
    predicted = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    found = fourier_error(to_patches(predicted, patch), to_patches(target, patch))
    assert torch.equal(found, fourier_error_of_images(predicted, target, patch))
    for n in range(2):
        for token in range(4):
            by_hand = [
                np.abs(
                    np.abs(dft(block_of(target.numpy(), n, token, c, patch)))
                    - np.abs(dft(block_of(predicted.numpy(), n, token, c, patch)))
                ).mean()
                for c in range(channels)
            ]
            assert found[n, token].item() == pytest.approx(np.mean(by_hand), rel=1e-10)


def test_fourier_error_is_zero_for_identical_patches_and_has_a_gradient_there():
    patches = torch.randn(2, 4, 3, 8, 8)
    predicted = patches.clone().requires_grad_()
    error = fourier_error(predicted, patches)
    assert torch.equal(error, torch.zeros(2, 4))
    error.sum().backward()
    assert torch.isfinite(predicted.grad).all()


def test_fourier_error_ignores_a_circular_shift_inside_a_patch():
    patches = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    shifted = patches.roll((3, 5), dims=(3, 4))
    assert fourier_error(shifted, patches).abs().max() < 1e-12
    assert squared_error(shifted, patches).min() > 0.1
    # a shift across patches is seen
    assert fourier_error(patches.roll(1, dims=1), patches).min() > 0.1


def test_the_unscaled_transform_is_the_default():
    target, predicted = torch.randn(1, 1, 1, 8, 8), torch.randn(1, 1, 1, 8, 8)
    scaled = fourier_error(predicted, target, "ortho")
    torch.testing.assert_close(fourier_error(predicted, target), 8 * scaled)


@pytest.mark.parametrize("loss_on", ["masked-tokens", "all-tokens"])
def test_objective_equals_a_loop_over_tokens(loss_on):
    target, predicted = torch.randn(3, 9, 2, 4, 4), torch.randn(3, 9, 2, 4, 4)
    mask = (torch.rand(3, 9) < 0.6).float()
    squared, fourier, count = 0.0, 0.0, 0
    for n in range(3):
        for token in range(9):
            if loss_on == "all-tokens" or mask[n, token] == 1:
                y, p = target[n, token].numpy(), predicted[n, token].numpy()
                squared += ((p - y) ** 2).mean()
                fourier += np.abs(np.abs(np.fft.fft2(y)) - np.abs(np.fft.fft2(p))).mean()
                count += 1
    found = objective(predicted, target, mask, weight=0.3, loss_on=loss_on)
    assert found.squared.item() == pytest.approx(squared / count, rel=1e-5)
    assert found.fourier.item() == pytest.approx(fourier / count, rel=1e-5)
    assert found.loss.item() == pytest.approx(0.7 * squared / count + 0.3 * fourier / count, rel=1e-5)


def test_a_weight_of_zero_leaves_the_squared_error():
    target, predicted, mask = torch.randn(2, 4, 1, 4, 4), torch.randn(2, 4, 1, 4, 4), torch.ones(2, 4)
    found = objective(predicted, target, mask, weight=0)
    assert found.loss == found.squared == squared_error(predicted, target).mean()


def test_visible_tokens_have_no_gradient():
    target, mask = torch.randn(2, 9, 2, 4, 4), (torch.rand(2, 9) < 0.5).float()
    mask[:, 0], mask[:, 1] = 0, 1
    predicted = torch.randn(target.shape, requires_grad=True)
    objective(predicted, target, mask).loss.backward()
    moved = predicted.grad.abs().amax(dim=(2, 3, 4)) > 0
    assert torch.equal(moved, mask == 1)
