import numpy as np
import pytest
from skimage.morphology import disk, reconstruction

from featurizers.cellprofiler.maxtree import max_tree, reconstruct


@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_the_tree_reconstructs_what_dilation_reconstructs(levels):
    rng = np.random.default_rng(levels)
    image = rng.integers(0, levels, (23, 31)).astype(float)
    order = np.argsort(-image, axis=None)
    parent = max_tree(order, *image.shape)
    level = image.ravel()[order[: np.count_nonzero(image)]]
    for _ in range(3):  # several images under the same tree
        seed = np.minimum(image, rng.integers(0, levels, image.shape))
        out = np.zeros(image.size)
        reconstruct(seed.ravel(), level, order, parent, np.empty(level.size), out)
        expected = reconstruction(seed, image, footprint=disk(1))
        assert np.array_equal(out.reshape(image.shape), expected)


def test_parents_are_lower_or_equal_neighbouring_components():
    image = np.array([[3.0, 1.0, 2.0]])
    order = np.argsort(-image, axis=None)
    assert order.tolist() == [0, 2, 1]
    assert max_tree(order, 1, 3).tolist() == [2, 2, 2]
