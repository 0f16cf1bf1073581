"""From a training table to pairs: who meets which transcriptome, what is refused, what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from featurizers.base import FeaturizerError
from featurizers.tide.pairs import embedded, of_table

from .screen import CONFIG, SMILES, screen

GENES = [f"gene-{g}" for g in range(5)]


@pytest.fixture
def table():
    return screen()[1]


def test_a_codebook_has_the_treated_drugs_of_the_table_and_nobody_else(table):
    pairs = of_table(table, CONFIG)
    assert pairs.drugs == tuple(sorted(SMILES))
    assert pairs.smiles == tuple(SMILES[d] for d in pairs.drugs)
    held_out = table[table["perturbation"] != "aspirin"]
    assert of_table(held_out, CONFIG).drugs == ("benzene", "ethanol")


def test_an_image_meets_every_profile_of_its_drug_with_the_profiles_own_dose(table):
    pairs = of_table(table, CONFIG)
    assert [len(rows) for rows in pairs.candidates] == [2] * 6
    for k, rows in enumerate(pairs.candidates):
        assert {pairs.drug[j] for j in rows} == {pairs.drug[k]}, "profiles stand in the order of the wells"
    # log10 of 1, 10, 1, 10, ... has mean 0.5 and deviation 0.5
    np.testing.assert_allclose(pairs.profile_dose, [[-1, 1], [1, 1]] * 3, atol=1e-6)
    np.testing.assert_allclose(pairs.dose, pairs.profile_dose)
    own = of_table(table, replace(CONFIG, pairing="well"))
    assert [rows.tolist() for rows in own.candidates] == [[k] for k in range(6)]


def test_a_well_without_readouts_meets_the_profiles_of_its_drug(table):
    table.loc[0, GENES] = np.nan
    pairs = of_table(table, CONFIG)
    assert len(pairs.wells) == 6
    assert len(pairs.profiles) == 5
    assert [len(rows) for rows in pairs.candidates] == [1, 1, 2, 2, 2, 2]
    assert ("P1", "A00") not in of_table(table, replace(CONFIG, pairing="well")).wells


def test_a_drug_without_readouts_stays_in_the_codebook_and_has_no_pair(table):
    table.loc[table["perturbation"] == "benzene", GENES] = np.nan
    pairs = of_table(table, CONFIG)
    assert "benzene" in pairs.drugs
    assert len(pairs.wells) == 4


def test_a_well_that_names_no_drug_is_in_no_pair_and_gives_the_codebook_no_row(table):
    unnamed = table["perturbation"] == "benzene"
    expected = of_table(table[~unnamed], CONFIG)
    table.loc[unnamed, GENES] = np.nan
    table.loc[unnamed, "perturbation"] = None
    pairs = of_table(table, CONFIG)
    assert pairs.drugs == ("aspirin", "ethanol")
    assert pairs.digest() == expected.digest()


def test_contexts_keep_profiles_apart(table):
    table.insert(2, "Metadata_Line", ["A549", "U2OS"] * 4)
    pairs = of_table(table, replace(CONFIG, context="Metadata_Line"))
    assert [rows.tolist() for rows in pairs.candidates] == [[k] for k in range(6)]
    assert pairs.context.tolist() == [0, 1] * 3
    assert len(pairs.basal) == 2
    with pytest.raises(FeaturizerError, match="no column 'Metadata_Cell', which context names"):
        of_table(table, replace(CONFIG, context="Metadata_Cell"))


def test_profiles_are_standardised_over_treated_wells_and_gaps_are_the_mean(table):
    table.loc[2, "gene-1"] = np.nan
    table["gene-4"] = 3.0
    pairs = of_table(table, CONFIG)
    own = table[GENES].to_numpy()[:6]
    mean, std = np.nanmean(own, axis=0), np.nanstd(own, axis=0)
    expected = (own - mean) / np.where(std > 0, std, 1)
    expected[2, 1] = 0
    np.testing.assert_allclose(pairs.profiles, expected, rtol=1e-4, atol=1e-5)
    assert (pairs.profiles[:, 4] == 0).all()
    controls = (table[GENES].to_numpy()[6:] - mean) / np.where(std > 0, std, 1)
    np.testing.assert_allclose(pairs.basal[0, :4], controls.mean(0)[:4], rtol=1e-4, atol=1e-5)


def test_without_doses_or_controls_both_are_said_to_be_unknown(table):
    pairs = of_table(table[~table["control"]].drop(columns="Metadata_Concentration"), CONFIG)
    assert (pairs.dose == 0).all()
    assert (pairs.basal == 0).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop(columns=GENES), "the training table has no readouts"),
        (lambda t: t.assign(**dict.fromkeys(GENES, np.nan)), "no training well has a readout"),
        (lambda t: t[t["control"]], "no training well has a readout"),
        (lambda _: None, "the training table names no perturbation"),
    ],
)
def test_zero_pairs_are_said(table, change, reason):
    with pytest.warns(UserWarning, match=f"{reason}, so there are zero pairs .* self-supervised term alone"):
        assert of_table(change(table), CONFIG) is None


def test_without_structures_the_remedy_is_named_and_works(table):
    for wrong in (table.drop(columns="Metadata_SMILES"), table.assign(Metadata_SMILES="")):
        with pytest.raises(FeaturizerError, match=r"Metadata_SMILES.*; or .*codebook_start=random"):
            of_table(wrong, CONFIG)
        pairs = of_table(wrong, replace(CONFIG, codebook_start="random"))
        assert pairs.drugs == tuple(sorted(SMILES))


def test_a_drug_without_structure_is_left_out_and_named(table):
    table.loc[table["perturbation"] == "benzene", "Metadata_SMILES"] = ""
    with pytest.warns(UserWarning, match=r"1 of 3 training perturbations have no structure \(benzene\)"):
        pairs = of_table(table, CONFIG)
    assert pairs.drugs == ("aspirin", "ethanol")
    assert len(pairs.wells) == 4


def test_one_drug_only_and_infinite_readouts_are_refused(table):
    with pytest.raises(FeaturizerError, match="'ethanol' is the only training intervention"):
        of_table(table[table["perturbation"].isin(["ethanol", "DMSO"])], CONFIG)
    table.loc[1, "gene-2"] = np.inf
    with pytest.raises(FeaturizerError, match="value 2 of well P1/A01 is infinite"):
        of_table(table, CONFIG)


def test_a_file_of_embeddings_stands_in_for_the_readouts(table, tmp_path):
    path = tmp_path / "model.csv"
    rows = {"perturbation": ["ethanol", "benzene", "aspirin", "held out"], "Metadata_Concentration": 1}
    pd.DataFrame({**rows, "e0": [1.0, 2.0, 4.0, 1e6], "e1": [0.0, 1.0, 0.0, -1e6]}).to_csv(path, index=False)
    pairs = of_table(table, CONFIG, path)
    assert pairs.profiles.shape == (3, 2), "one dose of each drug; the held out one is not met"
    assert np.abs(pairs.profiles).max() < 2
    assert len(pairs.wells) == 6
    parquet = tmp_path / "model.parquet"
    pd.read_csv(path).to_parquet(parquet)
    assert of_table(table, CONFIG, parquet).digest() == pairs.digest()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"e0": [1.0]}, "it needs key columns"),
        ({"perturbation": ["ethanol"]}, "it needs key columns .* and columns of numbers"),
        ({"Metadata_Dose": [1.0], "e0": [1.0]}, "key column 'Metadata_Dose' is not in the training table"),
        ({"perturbation": ["ethanol"], "e0": ["high"]}, "column 'e0' holds no numbers"),
        ({"perturbation": ["ethanol"] * 2, "e0": [1.0, 2.0]}, "ethanol stands there twice"),
        ({"perturbation": ["Ethanol"], "e0": [1.0]}, "no row meets the training table on perturbation"),
    ],
)
def test_a_wrong_file_is_refused(table, tmp_path, frame, reason):
    path = tmp_path / "model.csv"
    pd.DataFrame(frame).to_csv(path, index=False)
    with pytest.raises(FeaturizerError, match=reason):
        embedded(table, path)


def test_a_file_that_is_no_table_is_refused(table, tmp_path):
    path = tmp_path / "model.parquet"
    path.write_bytes(b"no")
    with pytest.raises(FeaturizerError, match="cannot be read as Parquet"):
        embedded(table, path)


def test_the_digest_notices_every_part_of_the_table(table):
    before = of_table(table, CONFIG).digest()
    assert of_table(table.copy(), CONFIG).digest() == before
    for column, value in (("gene-0", 1.0), ("Metadata_Concentration", 5.0), ("perturbation", "benzene")):
        changed = table.copy()
        changed.loc[0, column] = value
        if column == "perturbation":
            changed.loc[0, "Metadata_SMILES"] = SMILES["benzene"]
        assert of_table(changed, CONFIG).digest() != before
