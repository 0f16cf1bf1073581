"""Coverage counts what was asked for: units and readouts."""

import numpy as np
import pytest

from bench.runs import coverage
from tasks.base import FoldId, FoldResult


def result(prediction, floor):
    rows = np.arange(len(prediction))
    return FoldResult(FoldId(0, 0), rows, np.array(prediction, np.float32), np.array(floor, np.float32))


NAN = np.nan


def test_a_head_that_predicts_a_panel_only_is_partly_run():
    assert coverage([result([[1, NAN, NAN, 1]] * 3, [[0, 0, 0, 0]] * 3)]) == pytest.approx(0.5)


def test_a_unit_without_features_lowers_thecoverage():
    assert coverage([result([[1, 1], [NAN, NAN]], [[0, 0], [0, 0]])]) == pytest.approx(0.5)


def test_a_readout_that_the_floor_cannot_predict_is_not_asked_for():
    assert coverage([result([[1, NAN]], [[0, NAN]])]) == 1.0


def test_without_a_head_units_count():
    assert coverage([result([[1, 2, 3], [NAN] * 3], [[0], [0]])]) == pytest.approx(0.5)
    assert coverage([]) == 0.0
