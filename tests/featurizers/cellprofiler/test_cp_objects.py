import subprocess
import sys

import numpy as np
import pytest

from featurizers.base import FeaturizerError
from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.objects import find_objects, gather


def oracle(mask):
    return {int(i): np.argwhere(mask == i) for i in np.unique(mask) if i}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_pixels_are_sorted_by_label_and_row_major_within_it(tiny_objects, dtype):
    mask = tiny_objects.astype(dtype)
    objects = find_objects(mask)
    expected = oracle(mask)
    assert objects.ids.tolist() == list(expected)
    for k, (label, pixels) in enumerate(expected.items()):
        own = slice(objects.start[k], objects.start[k + 1])
        assert np.array_equal(np.column_stack([objects.rows[own], objects.cols[own]]), pixels), label
        assert objects.box[k].tolist() == [*pixels.min(0), *(pixels.max(0) + 1)]
    assert np.array_equal(objects.area, [len(p) for p in expected.values()])


def test_labels_without_gaps_keep_the_order_of_the_ids(tiny_objects):
    objects = find_objects(tiny_objects)
    inside = tiny_objects > 0
    assert np.array_equal(objects.ids[objects.labels[inside] - 1], tiny_objects[inside])
    assert not objects.labels[~inside].any()


@pytest.mark.parametrize("background", [0, 5])
def test_labels_beyond_any_table_give_the_same_objects(background):
    mask = np.full((6, 7), background, np.int64)
    mask[2:4, 1:3] = 2_000_000_000
    mask[5, 5] = 1_999_999_999
    objects = find_objects(mask)
    assert objects.ids.tolist() == [i for i in (background, 1_999_999_999, 2_000_000_000) if i]
    assert objects.area.tolist() == [len(p) for p in oracle(mask).values()]
    assert np.array_equal(objects.labels > 0, mask > 0)


def test_a_field_without_objects_has_none():
    objects = find_objects(np.zeros((5, 5), np.int32))
    assert len(objects) == 0
    assert objects.rows.size == 0


def test_gathered_values_are_the_pixels_under_the_objects(tiny_objects):
    objects = find_objects(tiny_objects)
    pixels = np.random.default_rng(0).random((2, *tiny_objects.shape))
    assert np.array_equal(gather(pixels, objects), pixels[:, objects.rows, objects.cols])


@pytest.mark.parametrize("mask", [np.zeros((3, 3)), np.zeros((2, 3, 3), np.int32), np.full((3, 3), -1)])
def test_a_mask_that_is_no_label_image_is_refused(mask):
    with pytest.raises(FeaturizerError, match="a mask must"):
        find_objects(mask)


def test_a_kernel_compiles_where_nothing_can_be_cached():
    namespace = {}
    exec("def double(x):\n    return 2 * x", namespace)  # no source file, so Numba finds nowhere to cache
    assert kernel(namespace["double"])(21) == 42


def test_importing_the_featurizer_does_not_import_numba():
    code = "import sys, featurizers.cellprofiler; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
