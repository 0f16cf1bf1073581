"""Spatial: sections or patients are the unit of inference, and the board's name says which."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tasks import evaluate, folds
from tasks.base import TaskData, TaskError
from tasks.heads.ridge import Ridge
from tasks.protocol import load
from tasks.spatial import Spatial

PROTOCOL = load("section-out")


def tissue(sections=3, spots=40, patients=None, T=4, seed=0, **columns):
    """Spots on sections; expression and features follow a smooth field, plus an offset per section."""
    rng = np.random.default_rng(seed)
    section = np.repeat([f"s{i}" for i in range(sections)], spots)
    state = rng.normal(size=(len(section), 2))
    offset = np.repeat(rng.normal(size=(sections, 1)), spots, axis=0)
    Y = np.exp(
        (state @ rng.normal(size=(2, T)) + 0.3 * offset + 0.3 * rng.normal(size=(len(section), T))) / 3
    )
    X = (state @ rng.normal(size=(2, 12)) + 0.3 * rng.normal(size=(len(section), 12))).astype(np.float32)
    wells = pd.DataFrame(
        {
            "Metadata_Plate": section,
            "Metadata_Well": [f"{i}x{i}" for i in range(len(section))],
            "Metadata_Section": section,
        }
    )
    if patients is not None:
        wells["Metadata_Patient"] = np.repeat(patients, spots)
    wells = wells.assign(**columns)
    none = np.zeros(len(section), bool)
    data = TaskData(
        wells=wells, units=wells.copy(), members=sparse.csr_matrix(sparse.eye(len(section))),
        Y=Y.astype(np.float32), readouts=tuple(f"gene{t}" for t in range(T)),
        groups=np.array([f"spot{i}" for i in range(len(section))]), control=none, well_control=none,
        layer="expression", scale="counts",
    )  # fmt: skip
    return data, X


def scored(data, X, protocol=PROTOCOL):
    (posed,) = Spatial().problems(data)
    table = folds.make(posed, protocol)
    results = evaluate.run(posed, lambda _: X, protocol, table, Ridge)
    return posed, table, Spatial().score(posed, table, results)


def test_sections_of_one_patient_are_within_patient_and_say_so():
    data, X = tissue(patients=["C", "C", "C"])
    posed, table, out = scored(data, X)
    assert posed.layer == "expression:within-patient"
    assert "nothing about another patient" in " ".join(posed.notes)
    assert out.perturbations == ("s0", "s1", "s2")
    assert sorted(out.folds[0]) == [0, 1, 2]
    assert (out.scores["n_perturbations"] == 3).all()
    assert out.scores["r2"].mean() > 0.1
    for own in folds.ids(table):
        test, train = folds.split(table, *own)
        assert set(posed.groups[test]).isdisjoint(posed.groups[train])


def test_several_patients_are_the_groups_and_no_section_of_a_tested_patient_is_trained_on():
    data, X = tissue(sections=6, spots=15, patients=["A", "A", "B", "B", "C", "C"])
    posed, table, out = scored(data, X)
    assert posed.layer == "expression:between-patients"
    assert out.perturbations == ("A", "B", "C")
    patient = posed.units["Metadata_Patient"].to_numpy()
    assert len(folds.ids(table)) >= 6
    for own in folds.ids(table):
        test, train = folds.split(table, *own)
        assert len(set(posed.units["Metadata_Section"].iloc[test])) == 1
        assert set(patient[test]).isdisjoint(patient[train])


@pytest.mark.parametrize("patients", [None, ["", "", ""]])
def test_unknown_patients_are_said_to_be_unknown(patients):
    data, X = tissue(patients=patients)
    (posed,) = Spatial().problems(data)
    assert posed.layer == "expression:between-sections"
    assert "if they share patients" in posed.notes[-1]
    del X


def test_spots_without_a_section_or_patient_are_named():
    data, _ = tissue(patients=["A", "B", ""])
    with pytest.raises(TaskError, match=r"Metadata_Patient, which is empty for unit row 80 .*40 such units"):
        Spatial().problems(data)
    data, _ = tissue()
    data.units.drop(columns="Metadata_Section", inplace=True)
    data.wells.drop(columns="Metadata_Section", inplace=True)
    with pytest.raises(TaskError, match="needs the column Metadata_Section"):
        Spatial().problems(data)
    data, _ = tissue(Metadata_Patient=["A", "B"] * 60)
    with pytest.raises(TaskError, match="spots of several patients"):
        Spatial().problems(data)


def test_two_sections_are_refused_with_a_reason():
    data, X = tissue(sections=2)
    with pytest.raises(TaskError, match="leaving out one Metadata_Section and its perturbations leaves 1"):
        scored(data, X)


def test_features_that_know_nothing_have_no_skill():
    data, X = tissue(sections=4)
    noise = np.random.default_rng(9).normal(size=X.shape).astype(np.float32)
    _, _, out = scored(data, noise)
    assert out.scores["r2"].mean() < 0.02
