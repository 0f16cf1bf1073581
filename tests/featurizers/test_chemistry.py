"""Fingerprints against RDKit's older call and by hand; tables that cannot be learnt from are said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from featurizers.base import FeaturizerError
from featurizers.chemistry import fingerprints, structures

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
SMILES = [ASPIRIN, "CN1CCC[C@H]1c1cccnc1", "c1ccccc1", "CCO", "[Na+].[O-]C(=O)c1ccccc1"]


@pytest.mark.parametrize("kind", ["ecfp", "fcfp"])
@pytest.mark.parametrize(("radius", "bits", "chiral"), [(3, 1024, True), (2, 256, False)])
def test_fingerprints_are_those_of_rdkits_older_call(kind, radius, bits, chiral):
    from rdkit import Chem, rdBase
    from rdkit.Chem import AllChem

    with rdBase.BlockLogs():
        expected = [
            list(
                AllChem.GetMorganFingerprintAsBitVect(
                    Chem.MolFromSmiles(text), radius, bits, useChirality=chiral, useFeatures=kind == "fcfp"
                )
            )
            for text in SMILES
        ]
    found = fingerprints(SMILES, radius, bits, chiral, kind=kind)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.array(expected, np.float32))


def test_a_molecule_of_one_atom_has_one_bit_and_a_spelling_does_not_matter():
    assert fingerprints(["C"]).sum() == 1
    assert np.array_equal(fingerprints(["OCC"]), fingerprints(["CCO"]))


def test_mirror_images_differ_only_where_chirality_counts():
    hands = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"]
    left, right = fingerprints(hands)
    assert (left != right).any()
    left, right = fingerprints(hands, chiral=False)
    assert np.array_equal(left, right)


@pytest.mark.parametrize("wrong", ["c1ccccc", "not a molecule", "", float("nan")])
def test_what_is_no_smiles_is_named_with_compound_and_row(wrong):
    with pytest.raises(FeaturizerError, match=r"row 1 \(cpd-2\): .* is no SMILES"):
        fingerprints(["CCO", wrong], names=["cpd-1", "cpd-2"])


@pytest.mark.parametrize("change", [{"radius": -1}, {"bits": 0}, {"kind": "maccs"}])
def test_a_setting_that_does_not_exist_is_refused(change):
    with pytest.raises(FeaturizerError, match="fingerprints: radius="):
        fingerprints(["CCO"], **change)


def test_no_compound_gives_no_row():
    assert fingerprints([]).shape == (0, 1024)


def table(rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["perturbation", "Metadata_SMILES"])


def test_structures_are_by_perturbation_and_those_without_are_listed():
    rows = [("b", "CCO"), ("a", "CC "), ("b", "CCO"), ("c", ""), ("d", None), ("a", np.nan)]
    assert structures(table(rows), "cloome") == ({"a": "CC", "b": "CCO"}, ("c", "d"))


def test_a_table_without_structures_is_one_sentence():
    with pytest.raises(FeaturizerError, match=r"cloome .* has no Metadata_SMILES \(it has perturbation\)"):
        structures(table([("a", "CC")]).drop(columns="Metadata_SMILES"), "cloome")
    with pytest.raises(FeaturizerError, match="no perturbation and no Metadata_SMILES \\(it has no table\\)"):
        structures(None, "cloome")
    with pytest.raises(FeaturizerError, match="empty for all 2 perturbations"):
        structures(table([("a", ""), ("b", None)]), "cloome")


def test_a_perturbation_with_two_structures_is_named():
    with pytest.raises(FeaturizerError, match=r"'a' has 2 SMILES \(CC, CCO\)"):
        structures(table([("a", "CC"), ("a", "CCO")]), "cloome")
