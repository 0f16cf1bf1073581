"""Objective, centre, head and views of self-distillation against slow definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.dino import DinoConfig
from featurizers.dino.loss import distillation_loss, moved_centre, temperature
from featurizers.dino.model import Prototypes, SelfDistillation
from featurizers.dino.views import Draws, cut_window, view
from featurizers.training.schedules import cosine, stream

CONFIG = DinoConfig(
    crop=16,
    patch=4,
    local_size=8,
    dim=16,
    depth=1,
    heads=2,
    head_hidden=8,
    head_bottleneck=4,
    prototypes=6,
    local_crops=2,
    steps=6,
    batch=4,
    standardise="crop-inside-mask",
)


def slow_loss(student, teacher, centre, ts, tt):
    """Every pair of different views, every row, every prototype."""
    total, pairs = 0.0, 0
    for i in range(len(teacher)):
        for j in range(len(student)):
            if i == j:
                continue
            rows = 0.0
            for n in range(student.shape[1]):
                t = [math.exp(float(x - c) / tt) for x, c in zip(teacher[i, n], centre, strict=True)]
                s = [float(x) / ts for x in student[j, n]]
                norm = math.log(sum(math.exp(x) for x in s))
                rows -= sum(q / sum(t) * (x - norm) for q, x in zip(t, s, strict=True))
            total += rows / student.shape[1]
            pairs += 1
    return total / pairs


@pytest.mark.parametrize(("views", "count", "prototypes"), [(2, 1, 3), (4, 3, 5), (5, 2, 7)])
def test_the_loss_equals_the_loop(views, count, prototypes):
    generator = torch.Generator().manual_seed(views)
    student = torch.randn(views, count, prototypes, generator=generator, dtype=torch.float64)
    teacher = torch.randn(2, count, prototypes, generator=generator, dtype=torch.float64)
    centre = torch.randn(prototypes, generator=generator, dtype=torch.float64)
    found = distillation_loss(student, teacher, centre, student_temperature=0.1, teacher_temperature=0.04)
    assert float(found) == pytest.approx(slow_loss(student, teacher, centre, 0.1, 0.04))


def test_no_gradient_reaches_teacher_or_centre_and_a_view_does_not_learn_from_itself():
    student = torch.randn(2, 3, 5, requires_grad=True)
    teacher = torch.randn(2, 3, 5, requires_grad=True)
    centre = torch.zeros(5, requires_grad=True)
    loss = distillation_loss(student, teacher, centre, student_temperature=0.1, teacher_temperature=0.04)
    loss.backward()
    assert teacher.grad is None
    assert centre.grad is None
    # of two views, the first is compared with the teacher's second only
    changed = teacher.detach().clone()
    changed[0] += torch.randn(3, 5)
    again = student.detach().clone().requires_grad_()
    distillation_loss(again, changed, centre, student_temperature=0.1, teacher_temperature=0.04).backward()
    torch.testing.assert_close(again.grad[0], student.grad[0])
    assert not torch.allclose(again.grad[1], student.grad[1])


def test_centring_takes_a_constant_away_from_the_teacher():
    student, teacher = torch.randn(3, 4, 5), torch.randn(2, 4, 5)
    options = {"student_temperature": 0.1, "teacher_temperature": 0.04}
    plain = distillation_loss(student, teacher, torch.zeros(5), **options)
    shifted = distillation_loss(student, teacher + 3.0, torch.full((5,), 3.0), **options)
    torch.testing.assert_close(plain, shifted, rtol=1e-4, atol=1e-4)
    centre = torch.tensor([1.0, 0.0])
    assert moved_centre(centre, torch.tensor([0.0, 2.0]), 0.9).tolist() == pytest.approx([0.9, 0.2])


def test_the_teachers_temperature_rises_on_a_line_and_stays():
    values = [temperature(t, 100, 0.01, 0.04, 0.3) for t in range(100)]
    assert values[:31:10] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert set(values[30:]) == {0.04}
    assert temperature(0, 10, 0.01, 0.04, 0.0) == 0.04


def test_prototypes_give_cosines_whatever_their_lengths():
    layer = Prototypes(4, 6)
    rows = torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    before = layer(rows)
    assert (before.abs() <= 1 + 1e-6).all()
    with torch.no_grad():
        layer.weight *= torch.rand(6, 1) + 0.5
    torch.testing.assert_close(layer(rows), before)


def test_the_teacher_starts_as_the_student_and_follows_its_average():
    network = SelfDistillation(CONFIG, 2, 0)
    for a, b in zip(network.student.parameters(), network.teacher.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not b.requires_grad
    start = network.teacher.head.last.weight.clone()
    with torch.no_grad():
        network.student.head.last.weight += 1.0
    network.move_teacher(0.75)
    torch.testing.assert_close(network.teacher.head.last.weight, start + 0.25)
    with_decay, without = network.groups()
    assert len(with_decay) + len(without) == len(list(network.student.parameters()))
    assert {p.ndim for p in without} == {1}
    assert all(p.ndim > 1 for p in with_decay)


def test_another_seed_gives_another_start_and_the_global_state_stays():
    torch.manual_seed(5)
    first = SelfDistillation(CONFIG, 2, 0).student.head.last.weight
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(first, SelfDistillation(CONFIG, 2, 0).student.head.last.weight)
    assert not torch.equal(first, SelfDistillation(CONFIG, 2, 1).student.head.last.weight)


def test_the_momentum_goes_from_its_start_to_one():
    values = [cosine(t, 50, 0.996, 1.0) for t in range(50)]
    assert values[0] == pytest.approx(0.996)
    assert 0.99999 < values[-1] <= 1.0


def test_the_whole_window_is_the_image_and_a_quarter_is_its_corner():
    images = torch.rand(2, 3, 8, 8)
    whole = torch.tensor([[1.0, 0.0, 0.3, 0.7]]).expand(2, 4)
    torch.testing.assert_close(cut_window(images, whole, 8), images)
    corner = torch.tensor([[0.25, 0.0, 0.0, 1.0]]).expand(2, 4)  # top right
    torch.testing.assert_close(cut_window(images, corner, 4), images[:, :, :4, 4:])


def test_views_show_the_configured_share_of_the_crop_and_never_blank_every_channel():
    config = replace(CONFIG, channel_drop=0.95)
    for small, (low, high) in ((False, (0.4, 1.0)), (True, (0.05, 0.4))):
        drawn = Draws.of(config, 500, 3, stream(0, "views", 0), small=small)
        area = drawn.window[:, 0]
        assert low <= float(area.min()) < low + 0.05
        assert high - 0.05 < float(area.max()) <= high
        assert (drawn.brightness >= 0.5).all()
        assert drawn.kept.any(dim=1).all()
        assert drawn.kept.float().mean() < 0.45


def test_a_view_keeps_the_background_black_and_blanks_what_it_should():
    pixels = torch.rand(4, 2, 16, 16) * 100 + 10
    inside = torch.zeros(4, 16, 16, dtype=torch.bool)
    inside[:, 4:12, 4:12] = True
    drawn = Draws.of(CONFIG, 4, 2, stream(0, "views", 0), small=False)
    whole = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(4, 4)
    plain = Draws(whole, torch.zeros(4, dtype=torch.int64), drawn.brightness, drawn.contrast, drawn.kept)
    made = view(pixels, inside, plain, CONFIG, None, edge=16)
    assert made.permute(0, 2, 3, 1)[~inside].abs().max() < 1e-4, "but for rounding of the resampling"
    own = made[:, :, 4:12, 4:12]
    for n in range(4):
        for c in range(2):
            values = own[n, c].numpy()
            if drawn.kept[n, c]:  # standardised by the crop itself, so brightness is gone
                assert (values.mean(), values.std()) == pytest.approx((0.0, 1.0), abs=1e-4)
            else:
                assert (values == 0).all()


def test_brightness_and_contrast_act_before_standardisation():
    from featurizers.training.pixels import Statistics

    pixels, inside = torch.rand(3, 1, 16, 16) * 50 + 20, torch.ones(3, 16, 16, dtype=torch.bool)
    whole = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(3, 4)
    b, f = torch.tensor([[1.5], [0.5], [1.0]]), torch.tensor([[0.7], [1.2], [1.0]])
    drawn = Draws(whole, torch.zeros(3, dtype=torch.int64), b, f, torch.ones(3, 1, dtype=torch.bool))
    statistics = Statistics(np.array([40.0], np.float32), np.array([10.0], np.float32))
    made = view(pixels, inside, drawn, replace(CONFIG, standardise="dataset"), statistics, edge=16)
    for n in range(3):
        x = pixels[n, 0] * b[n]
        expected = (x.mean() + (x - x.mean()) * f[n] - 40) / 10
        torch.testing.assert_close(made[n, 0], expected, rtol=1e-3, atol=1e-3)
