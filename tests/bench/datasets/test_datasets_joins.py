"""Joins against a double loop, and what they refuse."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.datasets import Dataset, Layer, join, join_report, join_with_report
from bench.datasets.identity import identities
from bench.datasets.tables import natural
from bench.errors import DatasetError

KEYS = [
    ("Metadata_Compound",),
    ("Metadata_Compound", "Metadata_Concentration"),
    ("Metadata_Plate", "Metadata_Well"),
    ("Metadata_Compound", "Metadata_Line"),
]


def screen(tmp_path, wells, readouts, **layer):
    """A dataset in memory whose one layer lies in a Parquet file."""
    table = tmp_path / "layer.parquet"
    pd.DataFrame(readouts).to_parquet(table)
    layer = Layer(**{"name": "rna", "table": str(table), "kind": "abundance", "scale": "z"} | layer)
    wells = pd.DataFrame(wells)
    if "Metadata_pert_type" not in wells:
        wells["Metadata_pert_type"] = "trt"
    data = Dataset("d", "1", tmp_path, (), 16, None, None, wells, "Metadata_Compound", (layer,))
    return data, layer


def plate(compounds, doses=None, **more):
    n = len(compounds)
    wells = {
        "Metadata_Plate": ["P1"] * n,
        "Metadata_Well": [f"A{i + 1:02d}" for i in range(n)],
        "Metadata_Compound": compounds,
    }
    if doses is not None:
        wells["Metadata_Concentration"] = doses
    return wells | more


def slow_join(wells, frame, layer):
    """Every row against every well, one condition at a time: {unit: (well indices, values)}."""
    units = {}
    for r in range(len(frame)):
        hits = []
        for w in range(len(wells)):
            agrees = True
            for c in layer.key:
                a, b = frame[c].iloc[r], wells[c].iloc[w]
                if c == "Metadata_Concentration":
                    agrees &= (math.isnan(a) and math.isnan(b)) or a == b
                else:
                    agrees &= a == b
            if agrees and wells["Metadata_Compound"].iloc[w] != "":
                hits.append(w)
        if not hits:
            continue
        name = tuple(
            natural(f"{v:.6g}" if isinstance(v, float) else v) for v in frame[list(layer.key)].iloc[r]
        )
        lacks_dose = "Metadata_Concentration" not in layer.key
        dose = wells["Metadata_Concentration"]
        if lacks_dose and layer.dose_rule == "top":
            known = [dose.iloc[w] for w in hits if not math.isnan(dose.iloc[w])]
            hits = [w for w in hits if not known or dose.iloc[w] == max(known)]
        parts = {(): hits}
        if lacks_dose and layer.dose_rule == "each":
            parts = {}
            for w in hits:
                d = dose.iloc[w]
                parts.setdefault((-1.0 if math.isnan(d) else d,), []).append(w)
        for at, group in parts.items():
            if layer.join == "broadcast":
                for w in group:
                    place = (
                        natural(wells["Metadata_Plate"].iloc[w]),
                        natural(wells["Metadata_Well"].iloc[w]),
                    )
                    units[(name, at, place)] = ([w], frame["g"].iloc[r])
            else:
                units[(name, at, ())] = (group, frame["g"].iloc[r])
    return [units[k] for k in sorted(units)]


@st.composite
def screens(draw):
    n = draw(st.integers(4, 12))
    wells = pd.DataFrame(
        {
            "Metadata_Plate": [f"P{1 + i % 2}" for i in range(n)],
            "Metadata_Well": [f"A{1 + i // 2:02d}" for i in range(n)],
            "Metadata_Compound": draw(
                st.lists(st.sampled_from(["c1", "c2", "c10", ""]), min_size=n, max_size=n)
            ),
            "Metadata_Line": draw(st.lists(st.sampled_from(["u2", "a5"]), min_size=n, max_size=n)),
            "Metadata_Concentration": draw(
                st.lists(st.sampled_from([0.1, 1.0, 10.0, math.nan]), min_size=n, max_size=n)
            ),
        }
    )
    key = draw(st.sampled_from(KEYS))
    options = {
        "Metadata_Compound": ["c1", "c2", "c10", "c99"],
        "Metadata_Line": ["u2", "a5"],
        "Metadata_Plate": ["P1", "P2", "P3"],
        "Metadata_Well": ["A01", "A02", "A03"],
        "Metadata_Concentration": [0.1, 1.0, 10.0, math.nan],
    }
    frame = pd.MultiIndex.from_product([options[c] for c in key], names=key).to_frame(index=False)
    frame["g"] = np.arange(len(frame), dtype=np.float32)
    order = draw(st.permutations(range(len(frame))))
    frame = frame.iloc[list(order[: draw(st.integers(1, len(frame)))])].reset_index(drop=True)
    join_rule = draw(st.sampled_from(["aggregate", "broadcast"]))
    dose_rule = draw(
        st.sampled_from(["each", "mean", "top"] if join_rule == "aggregate" else ["each", "top"])
    )
    return wells, frame, key, join_rule, dose_rule


@settings(max_examples=120)
@given(screens())
def test_a_join_equals_a_double_loop_over_rows_and_wells(tmp_path_factory, case):
    wells, frame, key, join_rule, dose_rule = case
    data, layer = screen(
        tmp_path_factory.mktemp("join"), wells, frame, key=key, join=join_rule, dose_rule=dose_rule
    )
    expected = slow_join(wells, frame, layer)
    if not expected:
        with pytest.raises(DatasetError, match="no row of layer"):
            join(data, layer, wells)
        return
    task = join(data, layer, wells)
    assert len(task.units) == len(expected)
    dense = task.members.toarray()
    for u, (hits, value) in enumerate(expected):
        weights = np.zeros(len(wells))
        weights[hits] = 1 / len(hits)
        np.testing.assert_allclose(dense[u], weights)
        assert task.Y[u, 0] == value
        assert task.groups[u] == wells["Metadata_Compound"].iloc[hits[0]]


def test_every_unit_averages_its_wells(tmp_path):
    data, layer = screen(
        tmp_path,
        plate(["x", "x", "y"], [1.0, 2.0, 1.0]),
        {"Metadata_Compound": ["y", "x"], "g": [5.0, 7.0]},
        key=("Metadata_Compound",),
        dose_rule="mean",
    )
    task = join(data, layer, data.wells)
    np.testing.assert_allclose(task.members @ np.array([[1.0], [3.0], [10.0]]), [[2.0], [10.0]])
    assert task.Y[:, 0].tolist() == [7.0, 5.0]
    assert "Metadata_Concentration" not in task.units  # it differs within x


@pytest.mark.parametrize(
    ("rule", "doses", "wells_used"), [("each", [1.0, 10.0], 3), ("mean", None, 3), ("top", [10.0], 1)]
)
def test_the_dose_rule_says_which_wells_stand_for_a_compound(tmp_path, rule, doses, wells_used):
    data, layer = screen(
        tmp_path,
        plate(["x", "x", "x"], [1.0, 1.0, 10.0]),
        {"Metadata_Compound": ["x"], "g": [7.0]},
        key=("Metadata_Compound",),
        dose_rule=rule,
    )
    task, report = join_with_report(data, layer, data.wells)
    assert task.members.nnz == wells_used
    assert report.wells_left_out == 3 - wells_used
    if doses:
        assert task.units["Metadata_Concentration"].tolist() == doses
        assert task.Y[:, 0].tolist() == [7.0] * len(doses)
        assert set(task.groups) == {"x"}


def test_a_dose_written_with_more_digits_still_matches(tmp_path):
    data, layer = screen(
        tmp_path,
        plate(["x"], [0.1 + 0.2]),
        {"Metadata_Compound": ["x"], "Metadata_Concentration": [0.3], "g": [1.0]},
        key=("Metadata_Compound", "Metadata_Concentration"),
    )
    assert join_report(data, layer, data.wells).units == 1


def test_what_does_not_meet_is_counted_and_named(tmp_path):
    wells = plate(
        ["x", "lonely", "", "DMSO", ""],
        Metadata_pert_type=["trt", "trt", "trt", "negcon", "negcon"],
    )
    data, layer = screen(
        tmp_path, wells, {"Metadata_Compound": ["x", "ghost"], "g": [1.0, 2.0]}, key=("Metadata_Compound",)
    )
    stranger = pd.DataFrame({"Metadata_Plate": ["P9"], "Metadata_Well": ["H12"]})
    task, report = join_with_report(data, layer, pd.concat([data.wells, stranger], ignore_index=True))
    assert report.rows_without_wells == ("ghost",)
    assert report.wells_without_readouts == ("P1/A02",)
    assert report.wells_unnamed == ("P1/A03",)
    assert report.wells_unknown == ("P9/H12",)
    assert report.controls_without_readouts == 2
    assert task.well_control.tolist() == [False, False, False, True, True, False]
    assert len(task.wells) == 6
    text = " ".join(report.sentences())
    assert "ghost" in text
    assert "P9/H12" in text
    assert task.notes == (
        "Left out: 1 treated well names no perturbation (P1/A03).",
        "Left out: 1 treated well has no readouts (P1/A02).",
        "Left out: 1 row of readouts meets no well (ghost).",
    )


def test_many_wells_without_readouts_are_one_sentence_of_a_board(tmp_path):
    names = [f"c{i:02d}" for i in range(20)]
    wells = plate(names, Metadata_pert_type=["trt"] * 20)
    data, layer = screen(
        tmp_path, wells, {"Metadata_Compound": names[:8], "g": np.arange(8.0)}, key=("Metadata_Compound",)
    )
    (said,) = join(data, layer, data.wells).notes
    assert said.startswith("Left out: 12 treated wells have no readouts (P1/A09, P1/A10, ")
    assert said.endswith(" and 7 more).")


def test_controls_are_units_of_their_own_where_the_layer_measured_them(tmp_path):
    wells = plate(["x", "DMSO", "y", "DMSO"], Metadata_pert_type=["trt", "negcon", "poscon", "negcon"])
    readouts = {
        "Metadata_Plate": ["P1"] * 4,
        "Metadata_Well": ["A01", "A02", "A03", "A04"],
        "g": [1.0, 2.0, 3.0, 4.0],
    }
    data, layer = screen(tmp_path, wells, readouts, key=("Metadata_Plate", "Metadata_Well"))
    task, report = join_with_report(data, layer, data.wells)
    assert task.control.tolist() == [False, True, False, True]
    assert task.well_control.tolist() == [False, True, False, True]
    assert report.perturbations == 2


def test_a_well_without_a_perturbation_takes_no_part_even_if_measured(tmp_path):
    readouts = {"Metadata_Plate": ["P1", "P1"], "Metadata_Well": ["A01", "A02"], "g": [1.0, 2.0]}
    data, layer = screen(tmp_path, plate(["", "x"]), readouts, key=("Metadata_Plate", "Metadata_Well"))
    task, report = join_with_report(data, layer, data.wells)
    assert task.groups.tolist() == ["x"]
    assert report.wells_unnamed == ("P1/A01",)
    assert task.notes == (
        "Left out: 1 treated well names no perturbation (P1/A01).",
        "Left out: 1 row of readouts meets no well (P1/A01).",
    )
    assert report.rows_without_wells == ("P1/A01",)


def test_names_of_one_structure_are_one_perturbation(tmp_path):
    wells = plate(
        ["aspirin", "acetylsalicylic acid", "other"],
        Metadata_InChIKey=["BSYNRYMUTXBXSQ-UHFFFAOYSA-N", "BSYNRYMUTXBXSQ-UHFFFAOYSA-M", ""],
    )
    data, layer = screen(
        tmp_path,
        wells,
        {"Metadata_Compound": ["aspirin", "acetylsalicylic acid", "other"], "g": [1.0, 2.0, 3.0]},
        key=("Metadata_Compound",),
    )
    task = join(data, layer, data.wells)
    assert sorted(task.groups) == ["BSYNRYMUTXBXSQ", "BSYNRYMUTXBXSQ", "other"]


@pytest.mark.parametrize(
    ("name", "inchikey", "pert_type", "expected"),
    [
        ("aspirin", "BSYNRYMUTXBXSQ-UHFFFAOYSA-N", "trt", "BSYNRYMUTXBXSQ"),
        ("aspirin", "BSYNRYMUTXBXSQ", "trt", "BSYNRYMUTXBXSQ"),
        ("BSYNRYMUTXBXSQ-UHFFFAOYSA-N", "", "trt", "BSYNRYMUTXBXSQ"),
        ("PHOSPHORYLATED", "", "trt", "PHOSPHORYLATED"),
        ("aspirin", "", "trt", "aspirin"),
        ("", "", "negcon", "negcon"),
        ("", "", "trt", ""),
    ],
)
def test_the_perturbation_is_the_structure_where_known_else_the_name(name, inchikey, pert_type, expected):
    wells = pd.DataFrame(
        {"Metadata_Compound": [name], "Metadata_InChIKey": [inchikey], "Metadata_pert_type": [pert_type]}
    )
    assert identities(wells, "Metadata_Compound") == [expected]


def test_a_corrected_platemap_wins_over_what_the_features_remember(tmp_path):
    data, layer = screen(
        tmp_path,
        plate(["x", "y"]),
        {"Metadata_Compound": ["x", "y"], "g": [1.0, 2.0]},
        key=("Metadata_Compound",),
    )
    stale = data.wells.assign(Metadata_Compound=["y", "x"], Count_Cells=[3, 4])
    task = join(data, layer, stale)
    assert task.wells["Metadata_Compound"].tolist() == ["x", "y"]
    assert task.wells["Count_Cells"].tolist() == [3, 4]


def test_a_stimulus_that_only_the_readouts_have_multiplies_the_units(tmp_path):
    readouts = {"Metadata_Compound": ["x", "x"], "Metadata_Stimulus": ["TNF", "none"], "g": [1.0, 2.0]}
    key = ("Metadata_Compound", "Metadata_Stimulus")
    data, layer = screen(tmp_path, plate(["x", "x"]), readouts, key=key, fit_by=("Metadata_Stimulus",))
    task = join(data, layer, data.wells)
    assert task.units["Metadata_Stimulus"].tolist() == ["TNF", "none"]
    assert task.fit_by == ("Metadata_Stimulus",)
    data, layer = screen(tmp_path, plate(["x", "x"]), readouts, key=key)
    with pytest.raises(DatasetError, match="lacks its key column Metadata_Stimulus"):
        join(data, layer, data.wells)


@pytest.mark.parametrize(
    ("wells", "readouts", "layer", "message"),
    [
        (
            plate(["x", "y"], Metadata_Batch=["1", "1"]),
            {"Metadata_Batch": ["1"], "g": [1.0]},
            {"key": ("Metadata_Batch",)},
            "mixes perturbations",
        ),
        (
            plate(["x", "x"], Metadata_pert_type=["trt", "negcon"]),
            {"Metadata_Compound": ["x"], "g": [1.0]},
            {"key": ("Metadata_Compound",)},
            "mixes negative controls and treated",
        ),
        (
            plate(["x", "x"], [1.0, 1000.0], Metadata_Concentration_unit=["uM", "nM"]),
            {"Metadata_Compound": ["x"], "g": [1.0]},
            {"key": ("Metadata_Compound",), "dose_rule": "top"},
            "several units",
        ),
        (
            plate(["x"]),
            {"Metadata_Compound": ["x", "x"], "g": [1.0, 2.0]},
            {"key": ("Metadata_Compound",)},
            "row 2: key x occurs twice",
        ),
        (
            plate(["x"]),
            {"Metadata_Compound": ["x"], "g": [math.inf]},
            {"key": ("Metadata_Compound",)},
            "row 1: readout 'g' is infinite",
        ),
        (
            plate(["x", "x"], Metadata_Line=["a", "b"]),
            {"Metadata_Compound": ["x"], "g": [1.0]},
            {"key": ("Metadata_Compound",), "score_by": ("Metadata_Line",)},
            "score_by column Metadata_Line",
        ),
    ],
)
def test_an_ambiguous_unit_is_refused_with_the_reason(tmp_path, wells, readouts, layer, message):
    data, layer = screen(tmp_path, wells, readouts, **layer)
    with pytest.raises(DatasetError, match=message):
        join(data, layer, data.wells)


def test_a_well_twice_is_refused(tmp_path):
    wells = plate(["x", "x"]) | {"Metadata_Well": ["A01", "A01"]}
    data, layer = screen(
        tmp_path, wells, {"Metadata_Compound": ["x"], "g": [1.0]}, key=("Metadata_Compound",)
    )
    with pytest.raises(DatasetError, match="row 2: well P1/A01 occurs twice"):
        join(data, layer, data.wells)
