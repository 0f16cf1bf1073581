"""Miner and loss against a slow loop, and on a layout made by hand."""

from __future__ import annotations

import pytest
import torch

from featurizers.resnet18_triplet.loss import mine, squared_distances, triplet_loss

LINE = torch.tensor([0.0, 1.0, 1.3, 1.02, 4.0, 0.9])
"""Six wells on a line of one dimension; classes A A B B C C."""
CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])


def slow(points, classes, margin, fallback):
    """Every pair and every negative by loops over the definition."""
    n = len(points)

    def d(i, j):
        return sum((float(a) - float(b)) ** 2 for a, b in zip(points[i], points[j], strict=True))

    chosen, losses = [], []
    for a in range(n):
        for p in range(n):
            if a == p or classes[a] != classes[p]:
                continue
            negatives = [k for k in range(n) if classes[k] != classes[a]]
            band = [k for k in negatives if d(a, p) < d(a, k) < d(a, p) + margin]
            if band:
                k = min(band, key=lambda k: d(a, k))
            elif fallback == "farthest":
                k = max(negatives, key=lambda k: d(a, k))
            else:
                continue
            chosen.append((a, p, k))
            losses.append(max(0.0, d(a, p) - d(a, k) + margin))
    return chosen, sum(losses) / len(losses) if losses else 0.0


def fast(points, classes, margin, fallback):
    distances = squared_distances(points)
    triplets = mine(distances, classes, margin=margin, fallback=fallback)
    chosen = list(zip(*(t.tolist() for t in triplets), strict=True))
    return chosen, float(triplet_loss(distances, triplets, margin))


def test_the_layout_made_by_hand_gives_exactly_these_triplets():
    # anchor 0, positive 1: d = 1; of the others, 3 at 1.0404 is the nearest within (1, 1.2)
    # anchor 1, positive 0: d = 1; nothing lies within (1, 1.2), the farthest is 4 at 9
    # anchor 2, positive 3: d = .0784; 1 at .09 is nearer than 5 at .16
    # anchor 3, positive 2: d = .0784; 1 is nearer than the positive, 5 at .0144 too: the farthest is 4
    # anchors 4 and 5: d = 9.61; 5's farthest is 0 at .81, 4's is 0 at 16
    points = LINE[:, None]
    semi_hard = [(0, 1, 3), (2, 3, 1)]
    assert fast(points, CLASSES, 0.2, "skip")[0] == semi_hard
    assert fast(points, CLASSES, 0.2, "farthest")[0] == [
        (0, 1, 3),
        (1, 0, 4),
        (2, 3, 1),
        (3, 2, 4),
        (4, 5, 0),
        (5, 4, 0),
    ]
    expected = ((1 - 1.0404 + 0.2) + (0.0784 - 0.09 + 0.2)) / 2
    assert fast(points, CLASSES, 0.2, "skip")[1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fallback", ["farthest", "skip"])
@pytest.mark.parametrize("seed", range(6))
def test_miner_and_loss_equal_the_loop(seed, fallback):
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(4, 15, (1,), generator=generator))
    points = torch.randn(n, 3, generator=generator, dtype=torch.float64) * 0.5
    classes = torch.arange(n) % 3
    margin = [0.2, 1.0, 5.0][seed % 3]
    found, expected = (f(points, classes, margin, fallback) for f in (fast, slow))
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1])


def test_wells_outside_every_triplet_have_no_gradient():
    points = LINE[:, None].clone().requires_grad_()
    distances = squared_distances(points)
    triplets = mine(distances.detach(), CLASSES, margin=0.2, fallback="skip")
    triplet_loss(distances, triplets, 0.2).backward()
    assert (points.grad[:4, 0] != 0).all()
    assert points.grad[4:, 0].tolist() == [0.0, 0.0]


def test_separated_classes_cost_nothing_and_one_class_has_no_triplet():
    far = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    assert fast(far, torch.tensor([0, 0, 1, 1]), 0.2, "farthest")[1] == 0.0
    assert fast(far, torch.zeros(4, dtype=torch.int64), 0.2, "farthest") == ([], 0.0)
