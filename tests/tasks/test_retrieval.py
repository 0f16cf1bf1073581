"""Retrieval against copairs and loops, at known chance, and what cannot be asked."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tasks import embedding
from tasks.base import FoldId, TaskData, TaskError
from tasks.protocol import load
from tasks.retrieval import Retrieval, RetrievalConfig

RULES = load("retrieval")
QUICK = Retrieval(RetrievalConfig(draws=500))


def wells(compounds=12, doses=2, plates=3, controls=8, moas=4, D=15, signal=1.5, seed=0, batches=1):
    """Wells as units, features with a mechanism's and a compound's part, and columns of labels."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(moas, D))
    own = rng.normal(size=(compounds, D))
    rows, X = [], []
    for plate in range(plates):
        for w in range(controls):
            rows.append((f"P{plate}", f"A{w + 1:02d}", "DMSO", np.nan, "", f"b{plate % batches}"))
            X.append(rng.normal(size=D))
        for c in range(compounds):
            for d in range(doses):
                rows.append(
                    (
                        f"P{plate}",
                        f"{chr(66 + c)}{d + 1:02d}",
                        f"c{c:02d}",
                        10.0**d,
                        f"m{c % moas}",
                        f"b{plate % batches}",
                    )
                )
                X.append(signal * (1 + d) / doses * (centre[c % moas] + 0.5 * own[c]) + rng.normal(size=D))
    names = ["Plate", "Well", "Compound", "Concentration", "MOA", "Batch"]
    frame = pd.DataFrame(rows, columns=["Metadata_" + n for n in names])
    control = (frame["Metadata_Compound"] == "DMSO").to_numpy()
    data = TaskData(
        wells=frame,
        units=frame.copy(),
        members=sparse.csr_matrix(sparse.eye(len(frame))),
        Y=np.zeros((len(frame), 0), np.float32),
        readouts=(),
        groups=frame["Metadata_Compound"].to_numpy(np.str_),
        control=control,
        well_control=control.copy(),
        layer="wells",
    )
    return data, np.array(X, np.float32)


def posed(data, task=QUICK):
    return {own.layer: own for own in task.from_wells(data)}


def scored(data, X, rules=RULES, task=QUICK):
    table = task.split(data, rules)
    result = embedding.embed_fold(data, lambda _: X, rules, table, FoldId(0, 0))
    return task.score(data, table, [result]), result


def copairs_ap(meta, rows, **by):
    logging.getLogger("copairs").setLevel(logging.ERROR)
    from copairs.map import average_precision

    return average_precision(meta, rows, **by, progress_bar=False)


def test_activity_is_copairs():
    data, X = wells()
    own = posed(data)["wells:activity"]
    out, result = scored(own, X)
    meta = own.units.rename(columns={"treatment": "what"}).assign(kind=np.where(own.control, "neg", "trt"))
    theirs = copairs_ap(
        meta,
        result.prediction,
        pos_sameby=["what"],
        pos_diffby=[],
        neg_sameby=["Metadata_Plate"],
        neg_diffby=["kind"],
    )
    theirs = theirs[theirs["kind"] == "trt"]
    expected = theirs.groupby("what")["average_precision"].mean()
    whole = out.scores[out.scores["stratum"] == "all"]
    mine = whole.set_index("readout")["score"]
    np.testing.assert_allclose(mine, expected.loc[mine.index], rtol=1e-6)
    assert len(mine) == 24
    assert (whole["n_units"] == 3).all()
    assert out.fold_values.shape == (1, 1, 24)
    assert whole["score"].mean() == pytest.approx(out.fold_values.mean(), rel=1e-6)


def test_p_values_of_activity_are_copairs():
    from copairs.map import mean_average_precision

    data, X = wells(signal=0.35, seed=4)
    own = posed(data)["wells:activity"]
    out, result = scored(own, X, task=Retrieval(RetrievalConfig(draws=4000)))
    meta = own.units.rename(columns={"treatment": "what"}).assign(kind=np.where(own.control, "neg", "trt"))
    by = {"pos_sameby": ["what"], "pos_diffby": [], "neg_sameby": ["Metadata_Plate"], "neg_diffby": ["kind"]}
    theirs = copairs_ap(meta, result.prediction, **by)
    theirs = mean_average_precision(
        theirs[theirs["kind"] == "trt"], ["what"], null_size=4000, threshold=0.05, seed=1, progress_bar=False
    ).set_index("what")
    mine = out.scores[out.scores["stratum"] == "all"].set_index("readout")
    gap = np.abs(mine["p"] - theirs.loc[mine.index, "p_value"])
    assert gap.max() < 0.04
    assert mine["p"].between(0, 1).all()
    assert mine["p"].min() < 0.05 < mine["p"].max()
    assert (mine["q"] >= mine["p"] - 1e-12).all()


def test_consistency_is_copairs():
    data, X = wells()
    own = posed(data)["Metadata_MOA:consistency"]
    out, result = scored(own, X)
    meta = own.units.assign(compound=own.groups)
    theirs = copairs_ap(
        meta,
        result.prediction,
        pos_sameby=["Metadata_MOA"],
        pos_diffby=["compound"],
        neg_sameby=[],
        neg_diffby=["Metadata_MOA"],
    )
    expected = theirs.groupby("Metadata_MOA")["average_precision"].mean()
    mine = out.scores.set_index("readout")["score"]
    np.testing.assert_allclose(mine, expected.loc[mine.index], rtol=1e-6)
    assert (out.scores["n_perturbations"] == 3).all()


def test_nearest_neighbours_are_of_other_compounds_and_those_of_a_loop():
    data, X = wells(signal=0.8)
    own = posed(data)["Metadata_MOA:1-nn"]
    out, result = scored(own, X)
    rows = result.prediction / np.linalg.norm(result.prediction, axis=1, keepdims=True)
    moa = own.units["Metadata_MOA"].to_numpy()
    for i in range(len(rows)):
        others = np.flatnonzero(own.groups != own.groups[i])
        best = others[np.argmax(rows[others] @ rows[i])]
        assert out.scores["score"][i] == float(moa[best] == moa[i])
        np.testing.assert_allclose(out.scores["chance"][i], (moa[others] == moa[i]).mean())
    assert 0 < out.scores["score"].mean() < 1
    assert QUICK.called(own) == "1-NN accuracy"


def test_treatments_average_their_wells_and_keep_doses_apart():
    data, _ = wells(doses=2, plates=3)
    own = posed(data)["Metadata_MOA:1-nn"]
    assert len(own.groups) == 24
    np.testing.assert_allclose(np.asarray(own.members.sum(axis=1)).ravel(), 1.0)
    rows = np.flatnonzero((data.groups == "c03") & (data.units["Metadata_Concentration"] == 10.0))
    at = int(np.flatnonzero(own.units["treatment"] == "c03 @ 10")[0])
    assert sorted(own.members[at].indices) == sorted(rows)
    np.testing.assert_allclose(own.members[at].data, 1 / 3)


def in_batches(by):
    """Each compound in one of two batches, ``by`` its number."""
    data, X = wells(plates=4, batches=2, signal=0.8)
    half = np.array([by(int(g[1:])) % 2 if g != "DMSO" else -1 for g in data.groups])
    batch = data.units["Metadata_Batch"].to_numpy()
    keep = (half < 0) | (batch == np.char.add("b", half.astype(str)))
    rows = np.flatnonzero(keep)
    own = replace(
        data,
        units=data.units.iloc[rows].reset_index(drop=True),
        members=data.members[rows],
        Y=data.Y[rows],
        groups=data.groups[rows],
        control=data.control[rows],
    )
    return own, X


def test_neighbours_of_another_batch_share_no_batch_with_the_query():
    data, X = in_batches(lambda c: c // 4)  # of a mechanism's three compounds one is alone in its batch
    own = posed(data)["Metadata_MOA:1-nn-other-batch"]
    out, result = scored(own, X)
    rows = result.prediction / np.linalg.norm(result.prediction, axis=1, keepdims=True)
    batch = np.array([int(g[1:]) // 4 % 2 for g in own.groups])
    moa = own.units["Metadata_MOA"].to_numpy()
    for i in range(len(rows)):
        others = np.flatnonzero(batch != batch[i])
        best = others[np.argmax(rows[others] @ rows[i])]
        assert out.scores["score"][i] == float(moa[best] == moa[i])
    plain = scored(posed(data)["Metadata_MOA:1-nn"], X)[0]
    assert (out.scores["n_pos"] + out.scores["n_neg"] < plain.scores["n_pos"] + plain.scores["n_neg"]).all()


def test_another_batch_is_not_asked_for_where_nothing_could_be_right():
    data, _ = in_batches(lambda c: c)  # whoever shares a mechanism shares the batch
    assert "Metadata_MOA:1-nn-other-batch" not in posed(data)
    assert "Metadata_MOA:1-nn-other-batch" not in posed(wells()[0])
    moved = data.units["Metadata_MOA"].mask(data.groups == "c01", "m0")
    own = posed(replace(data, units=data.units.assign(Metadata_MOA=moved)))
    assert (
        "have no treatment of another perturbation and batch"
        in own["Metadata_MOA:1-nn-other-batch"].notes[-1]
    )


def test_features_without_information_score_chance_and_a_perfect_embedding_scores_one():
    data, X = wells()
    for own in posed(data).values():
        blank, _ = scored(own, np.zeros((len(X), 1), np.float32))
        frame = blank.scores.dropna(subset="score")
        np.testing.assert_allclose(frame["score"], frame["chance"], rtol=1e-9)
        if "activity" not in own.layer:
            moa = data.units["Metadata_MOA"]
            perfect = pd.get_dummies(moa).to_numpy(np.float32)
            noise = np.random.default_rng(0).normal(scale=1e-3, size=perfect.shape)
            noise[~data.control] = 0.0
            best, _ = scored(own, (perfect + noise).astype(np.float32))
            np.testing.assert_allclose(best.scores["score"], 1.0)


def test_a_well_without_features_is_no_neighbour_and_its_treatment_has_no_score_of_it():
    data, X = wells()
    X[data.groups == "c05"] = np.nan
    for layer, own in posed(data).items():
        out, result = scored(own, X)
        frame = out.scores
        if "consistency" in layer:
            assert frame["score"].notna().all()
        else:
            assert frame.loc[frame["perturbation"] == "c05", "score"].isna().all()
            assert frame.loc[frame["perturbation"] != "c05", "score"].notna().all()
        assert np.isnan(result.prediction).all(axis=1).any()


def test_the_order_of_rows_does_not_matter():
    data, X = wells(seed=5)
    order = np.random.default_rng(0).permutation(len(X))
    moved = replace(
        data,
        wells=data.wells.iloc[order].reset_index(drop=True),
        units=data.units.iloc[order].reset_index(drop=True),
        groups=data.groups[order],
        control=data.control[order],
        well_control=data.well_control[order],
    )
    for layer, own in posed(data).items():
        keys = ["readout", "stratum"]
        one = scored(own, X)[0].scores.set_index(keys)
        other = scored(posed(moved)[layer], X[order])[0].scores.set_index(keys).loc[one.index]
        np.testing.assert_allclose(one["score"], other["score"], rtol=1e-9)


def test_without_replicates_of_a_dose_any_dose_is_a_replicate_and_that_is_said():
    data, X = wells(plates=1, doses=3)
    own = posed(data)["wells:activity-any-dose"]
    assert "any dose" in " ".join(own.notes)
    out, _ = scored(own, X)
    assert len(out.readouts) == 12


def test_activity_grows_with_the_dose_that_does_more_and_every_dose_is_shown():
    data, X = wells(doses=3, compounds=20)
    out, _ = scored(posed(data)["wells:activity"], X)
    by_dose = out.scores.groupby("stratum")["score"].mean()
    names = [f"Metadata_Concentration={d}" for d in (1, 10, 100)]
    assert list(by_dose.index) == [*names, "all"]
    assert by_dose[names].is_monotonic_increasing
    assert by_dose["all"] == pytest.approx(by_dose[names].mean())
    assert len(out.readouts) == 60


def test_several_labels_of_one_well_are_several_labels():
    data, X = wells()
    both = data.units["Metadata_MOA"].where(data.groups != "c00", "m0|m1")
    data = replace(data, units=data.units.assign(Metadata_MOA=both))
    near, consistent = (posed(data)[f"Metadata_MOA:{q}"] for q in ("1-nn", "consistency"))
    assert near.readouts == ("m0", "m1", "m2", "m3")
    assert near.Y[near.groups == "c00"].sum(axis=1).tolist() == [2.0, 2.0]
    out, _ = scored(consistent, X)
    assert out.scores.set_index("readout")["n_perturbations"].tolist() == [3, 4, 3, 3]
    first = scored(near, X)[0].scores.set_index("readout").loc["c00 @ 1"]
    assert first["n_pos"] == 2 * (2 + 3)


def test_a_layer_of_targets_is_asked_too_and_targets_of_one_perturbation_are_named():
    data, X = wells()
    Y = np.stack([data.units["Metadata_MOA"] == "m0", data.groups == "c01"], axis=1).astype(np.float32)
    own = replace(data, Y=Y, readouts=("kinase", "lonely"), layer="targets")
    near, consistent = QUICK.problems(own)
    assert (near.layer, consistent.layer) == ("targets:1-nn", "targets:consistency")
    assert "lonely" in " ".join(near.notes)
    out, _ = scored(consistent, X)
    assert out.scores.set_index("readout")["score"].isna().to_dict() == {"kinase": False, "lonely": True}


def test_what_cannot_be_asked_is_said_in_a_sentence():
    data, _ = wells()
    with pytest.raises(TaskError, match=r"no column 'Metadata_Target'.*Metadata_MOA"):
        QUICK.from_wells(data, ("Metadata_Target",))
    empty = replace(data, units=data.units.assign(Metadata_MOA=""))
    with pytest.raises(TaskError, match="is empty for every treated well"):
        QUICK.from_wells(empty, ("Metadata_MOA",))
    alone = replace(data, units=data.units.assign(Metadata_MOA=data.groups))
    with pytest.raises(TaskError, match="none of 12 labels is shared by two perturbations"):
        QUICK.from_wells(alone)
    mixed = replace(data, units=data.units.assign(Metadata_MOA=data.units["Metadata_Plate"]))
    with pytest.raises(TaskError, match=r"'c00 @ 1' is 'P0' in one well and 'P1' in another"):
        QUICK.from_wells(mixed)
    bare = replace(
        data,
        wells=data.wells.drop(columns="Metadata_MOA"),
        units=data.units.drop(columns="Metadata_MOA"),
        control=np.zeros(len(data.groups), bool),
    )
    with pytest.raises(TaskError, match="nothing to retrieve: there are no negative controls"):
        QUICK.from_wells(bare)


def test_a_protocol_that_leaves_a_choice_is_refused_and_the_default_gives_way():
    assert QUICK.rules(load("nested-cv")) == RULES
    with pytest.raises(TaskError, match=r"lists 3 normalisations to choose from"):
        QUICK.rules(load("random-wells"))
    fold = RULES.with_settings(normalisation=["fold"])
    assert QUICK.rules(fold) is fold


def test_plates_without_controls_are_refused_with_what_would_work():
    data, X = wells(controls=2)
    own = posed(data)["Metadata_MOA:1-nn"]
    with pytest.raises(TaskError, match=r'has 2 negative controls.*normalisation = \["fold"\]'):
        scored(own, X)
    out, _ = scored(own, X, RULES.with_settings(normalisation=["fold"]))
    assert out.scores["score"].notna().all()


def test_constant_and_duplicated_features_change_no_order_and_break_nothing():
    data, X = wells()
    for own in posed(data).values():
        plain, _ = scored(own, X)
        wide, result = scored(own, np.hstack([X, X, np.full((len(X), 2), 7.0, np.float32)]))
        assert np.isfinite(result.prediction).all()
        np.testing.assert_allclose(wide.scores["score"], plain.scores["score"], atol=1e-6)


def test_wells_that_are_all_controls_or_name_no_perturbation_are_refused():
    data, _ = wells()
    with pytest.raises(TaskError, match="96 wells are all negative controls"):
        QUICK.from_wells(replace(data, control=np.ones(96, bool)))
    groups = data.groups.copy()
    groups[[10, 20]] = "nan"
    with pytest.raises(TaskError, match=r"well row 10 has no perturbation \(2 such wells\)"):
        QUICK.from_wells(replace(data, groups=groups))


def test_infinite_features_and_a_wrong_number_of_rows_are_refused():
    data, X = wells()
    own = posed(data)["Metadata_MOA:1-nn"]
    with pytest.raises(TaskError, match="96 rows, one per well"):
        scored(own, X[:-1])
    X[3, 2] = np.inf
    with pytest.raises(TaskError, match="feature 2 of well row 3 is infinite"):
        scored(own, X)
