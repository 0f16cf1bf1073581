import numpy as np
from scipy.ndimage import distance_transform_edt

from featurizers.cellprofiler.distance import squared_distances
from featurizers.cellprofiler.objects import find_objects


def brute_force(mask, label):
    """Squared distance of each own pixel to the nearest pixel of the image that is not its own."""
    own, other = np.argwhere(mask == label), np.argwhere(mask != label)
    return ((own[:, None] - other[None]) ** 2).sum(2).min(1)


def test_distances_within_the_image_equal_brute_force(tiny_objects):
    objects = find_objects(tiny_objects)
    _, open_ended = squared_distances(objects)
    expected = np.concatenate([brute_force(tiny_objects, label) for label in objects.ids])
    assert np.array_equal(open_ended, expected)


def test_both_border_rules_equal_scipy_on_a_field(field):
    objects = find_objects(field.cells)
    bounded, open_ended = squared_distances(objects)
    for k, label in enumerate(objects.ids):
        own = slice(objects.start[k], objects.start[k + 1])
        inside = field.cells == label
        padded = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1][inside]
        assert np.array_equal(np.sqrt(bounded[own]), padded)
        assert np.array_equal(np.sqrt(open_ended[own]), distance_transform_edt(inside)[inside])


def test_the_border_rules_differ_only_for_objects_at_the_border(tiny_objects):
    objects = find_objects(tiny_objects)
    bounded, open_ended = squared_distances(objects)
    differing = {
        int(objects.ids[k])
        for k in range(len(objects))
        if not np.array_equal(*(d[objects.start[k] : objects.start[k + 1]] for d in (bounded, open_ended)))
    }
    assert differing == {31}


def test_an_object_that_fills_the_image_is_equally_far_from_the_outside_everywhere():
    objects = find_objects(np.ones((6, 9), np.int32))
    bounded, open_ended = squared_distances(objects)
    assert np.array_equal(
        np.sqrt(bounded.reshape(6, 9)), distance_transform_edt(np.pad(np.ones((6, 9)), 1))[1:-1, 1:-1]
    )
    assert len(set(open_ended.tolist())) == 1
