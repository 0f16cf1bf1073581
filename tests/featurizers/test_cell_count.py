from dataclasses import replace

import numpy as np
import pytest

from featurizers.base import FeaturizerError
from featurizers.cell_count import CellCount
from featurizers.synthetic import synthetic_fields


def test_objects_their_logarithm_and_their_area_are_counted():
    fields = synthetic_fields(cells=(4, 0, 6))
    values = CellCount().embed(fields).values
    assert values[:, 0].tolist() == [4, 0, 6]
    assert values[:, 1] == pytest.approx(np.log([5, 1, 7]), rel=1e-6)
    area = [sum(m > 0 for m in field.masks["cells"].ravel()) / (96 * 128) for field in fields]
    assert values[:, 2] == pytest.approx(area, rel=1e-6)


def test_a_pixel_in_two_masks_counts_once():
    field = synthetic_fields(cells=(3,))[0]
    cells_only = replace(field, masks={"cells": field.masks["cells"]})
    assert np.array_equal(CellCount().embed([field]).values, CellCount().embed([cells_only]).values)


def test_pixels_are_not_read():
    field = synthetic_fields(cells=(3,))[0]
    blank = replace(field, pixels=None)
    assert np.array_equal(CellCount().embed([field]).values, CellCount().embed([blank]).values)


def test_a_field_without_masks_is_not_a_field_without_cells():
    with pytest.raises(FeaturizerError, match="well A01 site 1: featurizer 'cell-count' needs object masks"):
        CellCount().embed([replace(synthetic_fields()[0], masks={})])
