import numpy as np
import pytest

from featurizers.cellprofiler.objects import find_objects, gather
from featurizers.cellprofiler.ranks import sort_by_intensity


@pytest.mark.parametrize(
    "quantise",
    [
        lambda x: np.rint(x * 65535) / 65535,
        lambda x: np.rint(x * 255) / 255,
        lambda x: np.rint(x * 4095) / 4095,
        lambda x: x - 0.5,
        lambda x: 0 * x,
    ],
    ids=["16 bits", "8 bits", "12 bits", "float with negatives", "black"],
)
def test_order_and_ranks_equal_numpy(tiny_objects, quantise):
    pixels = quantise(np.random.default_rng(4).random((2, *tiny_objects.shape)))
    objects = find_objects(tiny_objects)
    values = gather(pixels, objects)
    order, rank = sort_by_intensity(objects, values)
    for c in range(2):
        for k in range(len(objects)):
            own = slice(objects.start[k], objects.start[k + 1])
            assert np.array_equal(values[c][order[c, own]], np.sort(values[c, own]))
            assert sorted(order[c, own]) == list(range(own.start, own.stop))
            assert np.array_equal(rank[c, own], np.unique(values[c, own], return_inverse=True)[1])
