"""One-shot transfer and target genes: loops, chance, and what cannot be asked."""

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks import embedding, evaluate
from tasks.base import TaskData, TaskError
from tasks.one_shot import OneShot, OneShotConfig
from tasks.protocol import load
from tasks.target_gene import TargetGene, TargetGeneConfig, hit_at

RULES = load("retrieval")
DRAWS = 12


def wells(rows, columns, X):
    frame = pd.DataFrame(rows, columns=["Metadata_" + c for c in columns])
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


def replicates(compounds=15, wells_each=4, D=8, signal=1.0, seed=0):
    rng = np.random.default_rng(seed)
    centre = signal * rng.normal(size=(compounds, D))
    rows = [("P1", f"A{i + 1:02d}", "DMSO") for i in range(8)]
    X = [rng.normal(size=D) for _ in rows]
    for w in range(wells_each):
        for c in range(compounds):
            rows.append(("P1", f"{chr(66 + w)}{c + 1:02d}", f"c{c:02d}"))
            X.append(centre[c] + rng.normal(size=D))
    return wells(rows, ("Plate", "Well", "Compound"), X)


def scored(task, data, X):
    table = task.split(data, RULES)
    results = [
        embedding.embed_fold(data, lambda _: X, RULES, table, fold) for fold in evaluate.all_ids(table)
    ]
    return task.score(data, table, results), results


def test_one_shot_is_what_a_loop_over_draws_and_queries_gives():
    data, X = replicates()
    task = OneShot(OneShotConfig(draws=DRAWS))
    (own,) = task.from_wells(data)
    out, results = scored(task, own, X)
    assert len(results) == 5
    assert out.fold_values.shape == (1, 5, 15)
    assert (np.isfinite(out.fold_values).sum(axis=1) == 1).all()
    frame = out.scores.set_index("readout")
    for result in results:
        rows = result.prediction / np.linalg.norm(result.prediction, axis=1, keepdims=True)
        groups = own.groups[result.rows]
        names = np.unique(groups)
        hits = {name: [] for name in names}
        for draw in range(DRAWS):
            rng = np.random.default_rng([0, draw])
            support = [np.flatnonzero(groups == n)[rng.integers(4)] for n in names]
            for q in np.setdiff1d(np.arange(len(rows)), support):
                order = np.argsort(-(rows[support] @ rows[q]))
                hits[groups[q]].append(names[order[0]] == groups[q])
        for name in names:
            assert frame.loc[name, "top1"] == pytest.approx(np.mean(hits[name]))
            assert frame.loc[name, "chance"] == pytest.approx(1 / len(names))
    assert out.scores["top1"].mean() == pytest.approx(out.fold_values[np.isfinite(out.fold_values)].mean())
    assert (frame["top5"] == 1).all()  # no more than five candidates here
    assert frame["top1"].mean() > 1.5 * frame["chance"].mean()


def test_one_shot_without_information_is_chance_and_with_all_of_it_one():
    data, X = replicates(compounds=40)
    task = OneShot(OneShotConfig(draws=3))
    (own,) = task.from_wells(data)
    blank, _ = scored(task, own, np.zeros((len(X), 1), np.float32))
    np.testing.assert_allclose(blank.scores["top1"], 1 / 8)
    np.testing.assert_allclose(blank.scores["top5"], 5 / 8)
    np.testing.assert_allclose(blank.scores["chance5"], 5 / 8)
    perfect = np.array(pd.get_dummies(data.groups), np.float32)
    perfect[data.control] = np.random.default_rng(0).normal(size=(8, perfect.shape[1]))
    assert (scored(task, own, perfect)[0].scores["top1"] == 1).all()


def test_one_shot_leaves_out_what_it_cannot_ask_and_says_so():
    data, X = replicates(wells_each=2, compounds=12)
    lone = data.groups != "c03"
    lone[np.flatnonzero(data.groups == "c03")[0]] = True
    rows = np.flatnonzero(lone)
    own = replace(
        data,
        units=data.units.iloc[rows].reset_index(drop=True),
        members=data.members[rows],
        Y=data.Y[rows],
        groups=data.groups[rows],
        control=data.control[rows],
    )
    (asked,) = OneShot().from_wells(own)
    assert asked.notes == ("1 of 12 perturbations have a single well and take no part.",)
    X[np.flatnonzero(data.groups == "c05")[0]] = np.nan
    out, _ = scored(OneShot(OneShotConfig(draws=2)), asked, X)
    assert out.scores.set_index("readout")["top1"].isna().sum() == 1
    single, _ = replicates(wells_each=1)
    with pytest.raises(TaskError, match="0 of 15 perturbations have two wells"):
        OneShot().from_wells(single)


def knock_outs(genes=12, compounds=8, wells_each=3, D=10, signal=2.0, seed=1):
    """Compounds that look like the loss of gene i, or of two genes."""
    rng = np.random.default_rng(seed)
    centre = signal * rng.normal(size=(genes, D))
    rows = [("P1", f"A{i + 1:02d}", "DMSO", "", "") for i in range(8)]
    X = [rng.normal(size=D) for _ in rows]
    for w in range(wells_each):
        for g in range(genes):
            rows.append(("P1", f"{chr(66 + w)}{g + 1:02d}", f"sg{g}-{w}", f"G{g:02d}", ""))
            X.append(centre[g] + rng.normal(size=D))
        for c in range(compounds):
            rows.append(
                ("P1", f"{chr(76 + w)}{c + 1:02d}", f"c{c}", "", f"G{c:02d}" + ("|G11|X9" if c == 0 else ""))
            )
            X.append(centre[c] + rng.normal(size=D))
    return wells(rows, ("Plate", "Well", "Compound", "Gene", "Target"), X)


def test_target_genes_are_ranked_as_scikit_learn_scores_them():
    data, X = knock_outs()
    task = TargetGene(TargetGeneConfig(draws=400))
    (own,) = task.from_wells(data)
    assert own.Y.shape == (20, 12)
    assert own.Y[own.groups == "c0"].sum() == 2  # X9 was not perturbed
    out, results = scored(task, own, X)
    rows = results[0].prediction.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    genes = rows[[int(np.flatnonzero(own.groups == f"G{g:02d}")[0]) for g in range(12)]]
    for name, line in out.scores.set_index("readout").iterrows():
        at = int(np.flatnonzero(own.groups == name)[0])
        scores = genes @ rows[at]
        assert line["ap"] == pytest.approx(average_precision_score(own.Y[at], scores))
        assert line["roc_auc"] == pytest.approx(roc_auc_score(own.Y[at], scores))
        for k in (1, 5, 10):
            assert line[f"hit{k}"] == float(own.Y[at][np.argsort(-scores)[:k]].any())
    assert out.scores["ap"].mean() > 2 * out.scores["chance"].mean()
    assert len(out.readouts) == 8
    blank, _ = scored(task, own, np.zeros((len(X), 1), np.float32))
    np.testing.assert_allclose(blank.scores["ap"], blank.scores["chance"])
    np.testing.assert_allclose(blank.scores["roc_auc"], 0.5)
    one_target = blank.scores["n_targets"] == 1
    np.testing.assert_allclose(blank.scores.loc[one_target, "hit5"], 5 / 12)


def test_permuted_targets_stay_among_compounds():
    data, _ = knock_outs()
    (own,) = TargetGene().from_wells(data)
    moved = evaluate.permuted(own, 3)
    gene = (own.units["kind"] == "gene").to_numpy()
    assert np.isnan(moved.Y[gene]).all()
    assert not np.isnan(moved.Y[~gene]).any()
    assert sorted(map(tuple, moved.Y[~gene])) == sorted(map(tuple, own.Y[~gene]))
    assert not np.array_equal(moved.Y[~gene], own.Y[~gene])


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_hits_are_the_mean_over_every_order_of_ties(k):
    rng = np.random.default_rng(k)
    similarity = rng.integers(0, 2, (20, 5)).astype(float)
    positive, allowed = rng.random((20, 5)) < 0.3, rng.random((20, 5)) < 0.9
    found = hit_at(k, similarity, positive, allowed)
    for i in range(20):
        own = np.flatnonzero(allowed[i])
        orders = [
            o for o in permutations(own) if all(similarity[i, a] >= similarity[i, b] for a, b in pairwise(o))
        ]
        expected = np.mean([positive[i, list(o[:k])].any() for o in orders])
        assert found[i] == pytest.approx(expected)


def test_target_genes_that_cannot_be_asked_are_said_in_a_sentence():
    data, _ = knock_outs()
    units = data.units

    def posed(**columns):
        return TargetGene().from_wells(replace(data, units=units.assign(**columns)))

    with pytest.raises(TaskError, match="no column 'Metadata_Gene'"):
        TargetGene().from_wells(replace(data, units=units.drop(columns="Metadata_Gene")))
    with pytest.raises(TaskError, match="no column of target genes"):
        TargetGene().from_wells(replace(data, units=units.drop(columns="Metadata_Target")))
    with pytest.raises(TaskError, match="no gene was perturbed"):
        posed(Metadata_Gene="")
    with pytest.raises(TaskError, match=r"among the 12 perturbed genes \(such as 'G00'\)"):
        posed(Metadata_Target="ENSG0001")
    (own,) = posed(Metadata_Target=units["Metadata_Target"].replace("G01", "other"))
    assert own.notes == ("1 of 8 compounds have no target among the 12 perturbed genes and are not asked.",)
