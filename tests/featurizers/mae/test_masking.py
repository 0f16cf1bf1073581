from __future__ import annotations

import pytest
import torch

from featurizers.mae.masking import random_masking, select


@pytest.mark.parametrize(
    ("tokens", "ratio", "kept"), [(784, 0.9, 78), (256, 0.75, 64), (64, 0.9, 6), (16, 0.5, 8), (7, 0.9, 0)]
)
def test_the_integer_part_of_the_visible_share_is_kept(tokens, ratio, kept):
    masking = random_masking(torch.rand(3, tokens), ratio)
    assert kept == int(tokens * (1 - ratio))
    assert masking.keep.shape == (3, kept)
    assert (masking.mask.sum(1) == tokens - kept).all()


def test_the_tokens_of_lowest_noise_are_kept():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.0, 0.2, 0.1, 0.4]])
    masking = random_masking(noise, 0.5)
    assert masking.keep.tolist() == [[1, 3], [0, 2]]
    assert masking.mask.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]


def test_restore_undoes_the_shuffle():
    tokens = torch.rand(4, 30, 5)
    noise = torch.rand(4, 30)
    masking = random_masking(noise, 0.6)
    hidden = torch.argsort(noise, dim=1)[:, masking.keep.shape[1] :]
    shuffled = torch.cat([select(tokens, masking.keep), select(tokens, hidden)], dim=1)
    assert torch.equal(select(shuffled, masking.restore), tokens)


def test_the_same_noise_gives_the_same_mask():
    noise = torch.rand(2, 50)
    assert torch.equal(random_masking(noise, 0.9).mask, random_masking(noise.clone(), 0.9).mask)


def test_select_equals_a_loop():
    tokens, index = torch.rand(3, 7, 2, 4), torch.randint(7, (3, 5))
    slow = torch.stack([torch.stack([tokens[n, k] for k in index[n]]) for n in range(3)])
    assert torch.equal(select(tokens, index), slow)
