"""Every split: no perturbation, scaffold or left-out value reaches a model that is tested on it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import folds
from tasks.audit import audit
from tasks.base import TaskError
from tasks.protocol import load, names
from tasks.scaffold import scaffold

RINGS = ("c1ccccc1", "C1CCNCC1", "c1ccncc1", "c1ccc2ccccc2c1", "C1CCCC1", "c1ccsc1", "c1cc[nH]c1", "C1CCOC1")
SPLITS = ("nested-cv", "poster", "image2omics", "scaffold", "plate-out", "batch-out", "section-out")


def smiles(groups):
    """Two compounds per ring system, so scaffolds hold several perturbations; controls have none."""
    at = {name: i for i, name in enumerate(sorted(set(groups) - {"DMSO"}))}
    chains = {name: "C" * (1 + i // len(RINGS)) for name, i in at.items()}
    return np.array(["" if g == "DMSO" else chains[g] + RINGS[at[g] % len(RINGS)] for g in groups])


def dressed(data, sections=4):
    """The data with the columns that every split needs; sections are nested in perturbations."""
    plate = data.units["Metadata_Plate"]
    number = {name: i for i, name in enumerate(sorted(set(data.groups)))}
    units = data.units.assign(
        Metadata_SMILES=smiles(data.groups),
        Metadata_Batch=np.where(plate == "P0", "b0", "b1"),
        Metadata_Section=[f"s{number[g] % sections}" for g in data.groups],
    )
    return replace(data, units=units)


def kept_apart(data, name):
    """What must not stand in training and test of one fold."""
    column = {"plate-out": "Metadata_Plate", "batch-out": "Metadata_Batch", "section-out": "Metadata_Section"}
    apart = [data.groups]
    if name in column:
        apart.append(data.units[column[name]].to_numpy())
    if name == "scaffold":
        apart.append(np.array([scaffold(s) if s else "" for s in data.units["Metadata_SMILES"]]))
    return apart


@pytest.mark.parametrize("name", SPLITS)
@settings(max_examples=4)
@given(perturbations=st.integers(20, 31), plates=st.integers(2, 3), seed=st.integers(0, 99))
def test_nothing_that_is_kept_apart_stands_in_training_and_test(screen, name, perturbations, plates, seed):
    data = dressed(screen(perturbations, 1, plates).data)
    protocol = load(name).with_settings(seed=seed, min_groups_per_inner_fold=1)
    table = folds.make(data, protocol)
    assert folds.ids(table)
    for own in folds.ids(table):
        test, train = folds.split(table, *own)
        assert test.size
        assert train.size
        assert not data.control[np.concatenate([test, train])].any()
        for value in kept_apart(data, name):
            assert set(value[test]).isdisjoint(value[train])
    assert not [f for f in audit(data, protocol, table) if f.severity == "banner"]
    if name != "image2omics":  # whose splits draw anew
        for _, own in table[table["fold"] >= 0].groupby("repeat"):
            np.testing.assert_array_equal(np.sort(own["unit"]), np.flatnonzero(~data.control))


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_depends_neither_on_the_order_of_rows_nor_on_when_it_is_made(screen, name):
    data = dressed(screen(perturbations=24).data)
    protocol = load(name).with_settings(min_groups_per_inner_fold=1)
    table = folds.make(data, protocol)
    order = np.random.default_rng(1).permutation(len(data.units))
    moved = replace(
        data, units=data.units.iloc[order].reset_index(drop=True), groups=data.groups[order],
        control=data.control[order], Y=data.Y[order], members=data.members[order],
    )  # fmt: skip
    again = folds.make(moved, protocol)
    again["unit"] = order[again["unit"]]
    assert folds.digest(again) == folds.digest(table) == folds.digest(folds.make(data, protocol))


def test_plates_that_share_perturbations_are_crossed_with_folds_of_perturbations(screen):
    data = screen(perturbations=20, plates=2).data
    table = folds.make(data, load("plate-out"))
    assert len(folds.ids(table)) == 10
    test, train = folds.split(table, *folds.ids(table)[0])
    assert len(test) == 4
    assert len(train) == 16  # of the other plate, less the four perturbations under test
    assert len(set(data.wells["Metadata_Plate"].iloc[train])) == 1


def test_values_that_share_no_perturbation_are_left_out_one_by_one(screen):
    data = dressed(screen(perturbations=24, plates=1).data, sections=3)
    table = folds.make(data, load("section-out"))
    assert len(folds.ids(table)) == 3
    for own in folds.ids(table):
        test, train = folds.split(table, *own)
        assert len(set(data.units["Metadata_Section"].iloc[test])) == 1
        assert len(test) + len(train) == 24


def test_more_values_than_folds_are_dealt_to_the_folds(screen):
    data = dressed(screen(perturbations=40, plates=1).data, sections=8)
    table = folds.make(data, load("section-out").with_settings(outer_folds=3))
    assert len(folds.ids(table)) == 3
    assert table.groupby(table["unit"].map(data.units["Metadata_Section"]))["block"].nunique().max() == 1


def test_image2omics_has_ten_splits_of_70_10_and_20_percent_that_differ(screen):
    data = screen(perturbations=40, plates=2).data
    protocol = load("image2omics")
    table = folds.make(data, protocol)
    assert folds.ids(table) == [(r, 0) for r in range(10)]
    shares = table.groupby(["repeat", "fold"])["perturbation"].nunique().unstack()
    assert (shares == [4, 28, 8]).all(axis=None)  # set aside, trained on, tested
    tested = {
        tuple(sorted(set(own["perturbation"]))) for _, own in table[table["fold"] == 0].groupby("repeat")
    }
    assert len(tested) == 10
    test, train = folds.split(table, 0, 0)
    assert (len(test), len(train)) == (16, 56)
    assert len(folds.split(folds.make(data, protocol.with_settings(validation="train")), 0, 0)[1]) == 64


def test_compounds_of_one_scaffold_share_a_fold_in_every_repeat(screen):
    data = dressed(screen(perturbations=32).data)
    table = folds.make(data, load("scaffold").with_settings(min_groups_per_inner_fold=1))
    own = table["unit"].map(dict(enumerate(folds.split_groups(data, load("scaffold")))))
    assert own.nunique() == 8
    assert (table.groupby([table["repeat"], own])["fold"].nunique() == 1).all()


def test_scaffolds_are_those_of_the_largest_fragment_and_acyclic_molecules_stand_alone():
    assert scaffold("CC(=O)Oc1ccccc1C(=O)O") == "c1ccccc1"
    assert scaffold("CN1CCN(CC1)c1ccccc1.Cl") == scaffold("C1CN(CCN1)c1ccccc1") == "c1ccc(N2CCNCC2)cc1"
    assert scaffold("CCO") == "CCO"
    assert scaffold("OCCC") == scaffold("CCCO") != scaffold("CCO")
    assert scaffold("not a molecule") is None
    assert scaffold("") is None


@pytest.mark.parametrize(
    ("name", "column"),
    [("scaffold", "Metadata_SMILES"), ("batch-out", "Metadata_Batch"), ("section-out", "Metadata_Section")],
)
def test_a_missing_or_empty_column_is_named_in_one_sentence(screen, name, column):
    data = screen(perturbations=24).data
    with pytest.raises(TaskError, match=f"needs the column {column}, which the wells table does not have"):
        folds.make(data, load(name))
    full = dressed(data)
    for hole in (np.nan, "", None):
        values = full.units[column].astype(object).copy()
        row = int(np.flatnonzero(~data.control)[2])
        values.iloc[row] = hole
        with pytest.raises(
            TaskError, match=f"{column}, which is empty for unit row {row} \\('cpd.*1 such units"
        ):
            folds.make(replace(full, units=full.units.assign(**{column: values})), load(name))


def test_a_smiles_that_cannot_be_read_and_a_perturbation_with_two_scaffolds_are_named(screen):
    data = dressed(screen(perturbations=24).data)
    values = data.units["Metadata_SMILES"].to_numpy().copy()
    row = int(np.flatnonzero(~data.control)[0])
    values[row] = "C1CC"
    with pytest.raises(TaskError, match=f"unit row {row} \\('cpd.*'C1CC', which is no SMILES"):
        folds.make(replace(data, units=data.units.assign(Metadata_SMILES=values)), load("scaffold"))
    values[row] = "C1CCNC1"
    with pytest.raises(TaskError, match="has 2 scaffolds"):
        folds.make(replace(data, units=data.units.assign(Metadata_SMILES=values)), load("scaffold"))


def test_a_single_value_leaves_nothing_to_train_on(screen):
    data = screen(perturbations=24, plates=1).data
    with pytest.raises(TaskError, match="every unit has Metadata_Plate = 'P0'"):
        folds.make(data, load("plate-out"))


def test_a_unit_that_averages_wells_of_two_plates_cannot_be_left_out_by_plate(screen):
    data = screen(perturbations=24, plates=2).data
    mixed = data.members.tolil()
    a, b = np.flatnonzero(data.groups == "cpd03")  # one on each plate
    mixed[a, [a, b]] = 0.5
    poor = replace(data, units=data.units.drop(columns="Metadata_Plate"), members=mixed.tocsr())
    with pytest.raises(TaskError, match=f"unit row {a} averages wells of 'P0', 'P1' .1 such units"):
        folds.make(poor, load("plate-out"))
    # Without the mixture the wells say which plate a unit is of.
    folds.make(replace(poor, members=data.members), load("plate-out"))


@pytest.mark.parametrize(
    ("name", "perturbations", "sections"), [("image2omics", 9, 3), ("section-out", 12, 2), ("scaffold", 6, 3)]
)
def test_a_split_whose_training_set_cannot_be_tuned_is_refused(screen, name, perturbations, sections):
    data = dressed(screen(perturbations=perturbations, plates=1).data, sections)
    if name == "section-out":  # where the section is the unit of inference
        section = data.units["Metadata_Section"].to_numpy(np.str_)
        data = replace(data, groups=np.where(data.control, data.groups, section))
    with pytest.raises(TaskError, match=f"too few for '{name}'"):
        folds.make(data, load(name))


def test_every_shipped_protocol_but_nested_cv_hides_intervals():
    measured = {name for name in names() if load(name).variance == "measured"}
    assert measured == {"nested-cv"}
