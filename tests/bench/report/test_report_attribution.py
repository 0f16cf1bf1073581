"""From a fitted head to the direction that attribution maps are of, and the reasons where there are none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bench.report.attribution import _slope, attribution
from leaderboard.figures import Absent
from tasks import final
from tasks.base import TaskData
from tasks.heads.ridge import Ridge
from tasks.protocol import load


@pytest.fixture
def problem():
    """Two plates of 20 wells, 4 controls each; one unit per well."""
    from scipy import sparse

    wells = pd.DataFrame(
        {
            "Metadata_Plate": ["p1"] * 20 + ["p2"] * 20,
            "Metadata_Well": [f"A{i:02d}" for i in range(20)] * 2,
            "Metadata_pert_type": (["negcon"] * 4 + ["trt"] * 16) * 2,
        }
    )
    control = (wells["Metadata_pert_type"] == "negcon").to_numpy()
    rng = np.random.default_rng(0)
    data = TaskData(
        wells=wells,
        units=wells,
        members=sparse.csr_matrix(np.eye(40)),
        Y=rng.normal(size=(40, 1)).astype(np.float32),
        readouts=("g",),
        groups=np.array([f"c{i}" for i in range(40)]),
        control=control,
        well_control=control,
    )
    return SimpleNamespace(data=data)


@pytest.mark.parametrize("protocol", ["nested-cv", "image2omics"])
def test_the_slope_of_a_ridge_head_predicts_what_a_well_gains_by_other_features(problem, protocol):
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(40, 6)) * [1, 10, 1e3, 1, 0.1, 5] + 50).astype(np.float32)
    data = problem.data
    data.Y[:, 0] += (X - X.mean(axis=0)) @ np.array([1.0, 0.1, 1e-3, 0, 2.0, 0.1])
    model = final.fit(data, X, tuple("abcdef"), load(protocol), Ridge)
    slope = _slope(model, problem, X, 25)
    move = rng.normal(size=6) * X.std(axis=0)
    changed = X.copy()
    changed[25] += move
    before, after = (model.predict(data.wells, data.well_control, own)[0][25, 0] for own in (X, changed))
    assert after - before == pytest.approx(float(slope @ move), rel=1e-3, abs=1e-4)
    assert abs(after - before) > 0.01


def test_a_board_without_linear_heads_or_networks_says_why():
    rows = pd.DataFrame(
        {
            "role": ["entrant", "control"],
            "run": ["r", "c"],
            "label": ["mine", "position"],
            "skill": [0.1, 0.0],
        }
    )
    board = SimpleNamespace(metric="skill", rows=rows, readouts=pd.DataFrame())
    found = attribution(None, board, {"r": {"head": "knn", "label": "mine"}}, None, print)
    assert isinstance(found, Absent)
    assert found.reason == "the head knn of mine is not linear"
    classes = attribution(None, SimpleNamespace(metric="ROC AUC"), {}, None, print)
    assert "no squared errors" in classes.reason
