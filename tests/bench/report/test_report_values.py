"""What the report computes from stored predictions: skill within doses, against the task's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from bench.report.facts import _entrant, _inputs, audit
from bench.report.values import _auc, _skill, first_repeat
from tasks.base import FoldId, FoldResult, TaskData
from tasks.regression import Regression


def test_skill_within_a_dose_is_that_of_the_task():
    rng = np.random.default_rng(0)
    n, T = 24, 5
    groups = np.repeat([f"p{i}" for i in range(8)], 3)
    units = pd.DataFrame({"Metadata_Concentration": np.tile([1.0, 3.0, 9.0], 8)})
    Y = rng.normal(size=(n, T)).astype(np.float32)
    Y[3, 2] = np.nan
    wells = pd.DataFrame({"Metadata_Plate": "p", "Metadata_Well": [f"A{i:02d}" for i in range(n)]})
    nobody = np.zeros(n, bool)
    data = TaskData(
        wells, units, sparse.eye(n, format="csr"), Y, tuple("abcde"), groups.astype(np.str_), nobody, nobody,
        score_by=("Metadata_Concentration",),
    )  # fmt: skip
    fold = np.repeat(np.arange(8) % 2, 3)
    results = [
        FoldResult(FoldId(0, k), np.flatnonzero(fold == k), rng.normal(size=(12, T)).astype(np.float32),
                   np.full((12, T), Y[fold != k].mean() if k else 0.1, np.float32))
        for k in (0, 1)
    ]  # fmt: skip
    results = [FoldResult(r.id, r.rows, r.prediction, np.nan_to_num(r.floor, nan=0.1)) for r in results]
    folds = pd.DataFrame({"repeat": 0, "fold": fold, "unit": np.arange(n), "perturbation": groups})
    scores = Regression().score(data, folds, results).scores
    code = np.unique(groups, return_inverse=True)[1]
    parts = [(r.rows, r.prediction, r.floor) for r in results]
    for dose in (1.0, 3.0, 9.0):
        theirs = scores.loc[scores["stratum"] == f"Metadata_Concentration={dose}", "r2"].mean()
        mine = _skill(parts, Y, code, units["Metadata_Concentration"].to_numpy() == dose)
        assert mine == pytest.approx(theirs, rel=1e-5)


def test_the_first_repeat_holds_every_unit_once():
    assert first_repeat([[0, 0], [0, 1], [1, 0], [1, 1]]) == [(0, 0), (0, 1)]


def test_the_command_that_runs_a_board_again_names_entrants_inputs_and_layer():
    def record(name, label, inputs):
        return {
            "name": name,
            "label": label,
            "inputs": inputs,
            "preset": "tiny" if name == "mae" else "default",
        }

    both = record("mae", "mae[tiny, 1 %] + transcripts", "image+omics")
    records = [record("mae", "mae[tiny, 1 %]", "image"), both, record("omics", "transcripts", "omics")]
    assert [_entrant(r) for r in records[:2]] == ["mae:tiny", "mae:tiny"]
    assert _inputs(records) == [
        "--inputs", "image", "--inputs", "image+omics", "--inputs", "omics", "--omics", "transcripts",
    ]  # fmt: skip
    assert _inputs(records[:1]) == []


def test_findings_of_several_runs_stand_once():
    finding = {"severity": "warning", "about": "", "code": "x", "message": "m", "figure": 0.5}
    found = audit(
        [{"audit": [finding]}, {"audit": [finding, {**finding, "about": "mae", "figure": float("nan")}]}]
    )
    assert found["about"].tolist() == ["the dataset", "mae"]
    assert found["figure"].tolist() == ["0.5", ""]


def test_auc_within_a_dose_is_the_mean_over_folds_and_readouts_of_scikit_learns():
    rng = np.random.default_rng(0)
    Y = rng.integers(0, 2, (40, 3)).astype(np.float32)
    Y[:, 2] = 1.0  # one class: no AUC anywhere
    Y[0, 0] = np.nan
    p = rng.random((40, 3)).astype(np.float32)
    keep = np.arange(40) % 2 == 0
    parts = [(rows, p[rows]) for rows in (np.arange(20), np.arange(20, 40))]
    expected = []
    for readout in (0, 1):
        scores = []
        for rows, own in parts:
            inside = keep[rows] & np.isfinite(Y[rows, readout])
            scores.append(roc_auc_score(Y[rows[inside], readout], own[inside, readout]))
        expected.append(np.mean(scores))
    assert _auc(parts, Y, keep) == pytest.approx(np.mean(expected))
    assert np.isnan(_auc(parts, np.ones_like(Y), keep))
