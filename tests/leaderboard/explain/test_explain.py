"""Plate correction, canonical correlation, activity and annotation against hand-worked cases and oracles."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard import BoardError
from leaderboard.explain.activity import activity, standardised
from leaderboard.explain.annotation import read_locations, read_pathways
from leaderboard.explain.canonical import canonical_correlations
from leaderboard.explain.coral import components, coral
from leaderboard.explain.forest import associations, least_squares


def test_coral_gives_every_plate_the_mean_and_covariance_of_all_wells():
    rng = np.random.default_rng(0)
    plate = np.repeat(["a", "b"], 400)
    X = rng.normal(size=(800, 3))
    X[plate == "b"] = X[plate == "b"] @ np.diag([3.0, 1.0, 0.5]) + 4.0
    out = coral(X, plate, ridge=1e-9)
    for name in ("a", "b"):
        own = out[plate == name]
        np.testing.assert_allclose(own.mean(axis=0), X.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(np.cov(own, rowvar=False), np.cov(X, rowvar=False), rtol=1e-6)


def test_a_plate_of_one_well_is_only_centred():
    X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0], [9.0, 9.0]])
    out = coral(X, np.array(["a", "a", "a", "b"]))
    np.testing.assert_allclose(out[3], X.mean(axis=0))


def test_components_do_not_hold_constant_features_and_keep_distances():
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=(30, 4)), np.full(30, 7.0)])
    Z = components(X)
    assert Z.shape == (30, 4)
    standard = (X[:, :4] - X[:, :4].mean(axis=0)) / X[:, :4].std(axis=0)
    scale = np.linalg.norm(Z[0] - Z[1]) / np.linalg.norm(standard[0] - standard[1])
    other = np.linalg.norm(Z[5] - Z[9]) / np.linalg.norm(standard[5] - standard[9])
    assert scale == pytest.approx(other)
    assert components(np.ones((5, 3))).shape == (5, 0)


def test_canonical_correlations_find_what_is_shared_and_nothing_else():
    rng = np.random.default_rng(2)
    groups = np.array([f"p{i // 4}" for i in range(400)])
    shared = rng.normal(size=(400, 2))
    X = np.column_stack([shared + 0.1 * rng.normal(size=(400, 2)), rng.normal(size=(400, 3))])
    Y = np.column_stack([shared @ [[1, 1], [1, -1]], rng.normal(size=(400, 3))])
    found = canonical_correlations(X, Y, groups)
    assert (found["correlation"].iloc[:2] > 0.95).all()
    assert (found["correlation"].iloc[2:].abs() < 0.25).all()
    assert (found["low"] <= found["correlation"]).all()


def test_two_feature_sets_of_noise_correlate_by_nothing_although_they_fit():
    rng = np.random.default_rng(3)
    groups = np.array([f"p{i}" for i in range(60)])
    found = canonical_correlations(rng.normal(size=(60, 40)), rng.normal(size=(60, 40)), groups)
    assert abs(found["correlation"].iloc[0]) < 0.5


def test_canonical_correlations_of_too_few_perturbations_are_refused():
    with pytest.raises(BoardError, match="10 perturbations"):
        canonical_correlations(np.eye(4), np.eye(4), np.array(list("abcd")))


def naive_activity(X, groups, control):
    found = {}
    for name in sorted(set(groups[~control])):
        wells = [i for i in range(len(X)) if groups[i] == name and not control[i]]
        if len(wells) < 2:
            continue
        precisions = []
        for query in wells:
            others = [i for i in wells if i != query] + [i for i in range(len(X)) if control[i]]
            cosine = [X[i] @ X[query] / np.linalg.norm(X[i]) / np.linalg.norm(X[query]) for i in others]
            ranked = sorted(range(len(others)), key=lambda k: (-cosine[k], k))
            hits, values = 0, []
            for rank, k in enumerate(ranked, start=1):
                if k < len(wells) - 1:
                    hits += 1
                    values.append(hits / rank)
            precisions.append(sum(values) / len(values))
        found[name] = sum(precisions) / len(precisions)
    return found


@given(seed=st.integers(0, 10_000), wells=st.integers(6, 24))
@settings(max_examples=25)
def test_activity_equals_the_slow_oracle(seed, wells):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(wells, 3))
    groups = rng.choice(["a", "b", "c"], wells).astype(np.str_)
    control = rng.random(wells) < 0.4
    if control.sum() < 2:
        assert activity(X, groups, control).empty
        return
    assert activity(X, groups, control).to_dict() == pytest.approx(naive_activity(X, groups, control))


def test_a_perturbation_far_from_controls_has_activity_one():
    X = np.array([[5.0, 0.1], [5.0, 0.0], [0.1, 1.0], [-0.1, 1.0], [0.0, 1.0]])
    groups = np.array(["x", "x", "n", "n", "n"])
    control = groups == "n"
    assert activity(X, groups, control).to_dict() == {"x": 1.0}


def test_features_are_standardised_by_the_controls_of_their_plate():
    X = np.array([[1.0], [3.0], [10.0], [101.0], [103.0], [110.0]])
    plate = np.array(["a"] * 3 + ["b"] * 3)
    control = np.array([True, True, False] * 2)
    np.testing.assert_allclose(standardised(X, plate, control).ravel(), [-1, 1, 8, -1, 1, 8])


def test_least_squares_agrees_with_statsmodels():
    statsmodels = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(4)
    X = rng.normal(size=(40, 3))
    y = X @ [1.0, 0.0, -2.0] + rng.normal(size=40)
    theirs = statsmodels.OLS(y, statsmodels.add_constant(X)).fit()
    ours = least_squares(X, y)
    np.testing.assert_allclose(ours["coefficient"], theirs.params[1:])
    np.testing.assert_allclose(ours["standard_error"], theirs.bse[1:])
    np.testing.assert_allclose(ours[["low", "high"]], theirs.conf_int()[1:])


def test_a_location_that_lifts_the_score_gets_its_lift_as_coefficient():
    scores = pd.Series(np.r_[np.full(10, 0.5), np.full(10, 0.1)], index=[f"g{i}" for i in range(20)])
    scores += 1e-3 * np.sin(np.arange(20))
    pairs = [(f"g{i}", "nucleus") for i in range(10)] + [(f"g{i}", "cytosol") for i in range(5, 20)]
    table, remarks = associations(scores, pd.DataFrame(pairs, columns=["readout", "location"]))
    assert table.set_index("property")["coefficient"]["nucleus"] == pytest.approx(0.4, abs=2e-3)
    assert remarks == []


def test_readouts_missing_from_the_annotation_are_counted_and_stand_outside():
    scores = pd.Series(np.linspace(0, 1, 30), index=[f"g{i}" for i in range(30)])
    pairs = [(f"g{i}", "nucleus" if i % 2 else "cytosol") for i in range(29)]
    _, remarks = associations(scores, pd.DataFrame(pairs, columns=["readout", "location"]))
    assert "1 of 30 readouts has no location" in remarks[0]


def test_properties_that_repeat_others_are_left_out_and_said():
    scores = pd.Series(np.linspace(0, 1, 30) ** 2, index=[f"g{i}" for i in range(30)])
    same = frozenset(f"g{i}" for i in range(12))
    table, remarks = associations(scores, pathways={"one": same, "two": same, "tiny": frozenset(["g1"])})
    assert table["property"].tolist() == ["one"]
    assert any("two" in remark for remark in remarks)
    assert any("fewer than 11 members" in remark for remark in remarks)


def test_nothing_to_relate_is_said():
    with pytest.raises(BoardError, match="no property"):
        associations(pd.Series([0.1, 0.2], index=["a", "b"]), pathways={})


def test_locations_of_both_forms_of_the_atlas_and_a_plain_table_are_read(tmp_path):
    old = tmp_path / "old.tsv"
    old.write_text(
        "Gene\tGene name\tReliability\tValidated\tSupported\tApproved\tUncertain\n"
        "E1\tAAA\tApproved\t\t\tCytosol;Nucleus\t\nE2\tBBB\tUncertain\t\t\t\tVesicles\n"
    )
    new = tmp_path / "new.tsv"
    new.write_text(
        "Gene\tGene name\tReliability\tMain location\nE1\tAAA\tEnhanced\tCytosol\nE2\tBBB\tUncertain\tX\n"
    )
    plain = tmp_path / "plain.csv"
    plain.write_text("readout,location\nAAA,Cytosol;Nucleus\n")
    assert set(read_locations(old).itertuples(index=False, name=None)) == {
        ("AAA", "Cytosol"),
        ("AAA", "Nucleus"),
        ("E1", "Cytosol"),
        ("E1", "Nucleus"),
    }
    assert set(read_locations(new)["readout"]) == {"AAA", "E1"}
    assert read_locations(plain)["location"].tolist() == ["Cytosol", "Nucleus"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\tdescription\n", "line 1: the pathway 'A' has no gene"),
        ("A\td\tg1\nA\td\tg2\n", "line 2: the pathway 'A' stands twice"),
        ("\n", "has no pathway"),
    ],
)
def test_a_wrong_gmt_gets_one_sentence_with_its_line(tmp_path, text, message):
    path = tmp_path / "p.gmt"
    path.write_text(text)
    with pytest.raises(BoardError, match=message):
        read_pathways(path)


def test_gene_sets_are_read_without_their_descriptions(tmp_path):
    path = tmp_path / "p.gmt"
    path.write_text("A\thttp://x\tg1\tg2\t\nB\t\tg3\n")
    assert read_pathways(path) == {"A": frozenset({"g1", "g2"}), "B": frozenset({"g3"})}


def test_a_table_of_locations_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(BoardError, match="readout and location"):
        read_locations(path)
    with pytest.raises(BoardError, match="cannot be read"):
        read_locations(tmp_path / "none.csv")


@pytest.mark.realdata
def test_the_atlas_of_2017_is_read_whole():
    root = os.environ.get("WELLBENCH_REALDATA")
    path = Path(root or "") / "target_annotation" / "hpa" / "subcellular_location_2017.tsv"
    if not root or not path.exists():
        pytest.skip("WELLBENCH_REALDATA names no folder with target_annotation/hpa")
    found = read_locations(path)
    raw = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    kept = raw[(raw[["Validated", "Supported", "Approved"]] != "").any(axis=1)]
    assert set(kept["Gene name"]) | set(kept["Gene"]) == set(found["readout"])
    assert "Nucleoplasm" in set(found["location"])
    assert not found["location"].str.contains(";").any()
    assert "TSPAN6" in set(found.loc[found["location"] == "Cytosol", "readout"])
