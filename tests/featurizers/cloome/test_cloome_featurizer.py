"""CLOOME as a featurizer: pairs, its contract, a planted signal, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from featurizers.base import FeaturizerError, FitContext, silent
from featurizers.cloome import Cloome
from featurizers.cloome.config import PRESETS
from featurizers.cloome.pairs import Images, Molecules, Pairs
from featurizers.cloome.train import gradient, train
from featurizers.conformance import check_featurizer, failures
from tests.featurizers.training.fields import Source, make_field

SMALL = replace(
    PRESETS["tiny"],
    window_height=32,
    window_width=32,
    planes=4,
    blocks=(1, 1),
    dim=8,
    hidden_layers=1,
    hidden=16,
    bits=64,
    steps=4,
    batch=4,
    lr=1e-3,
)
SMILES = {"ethanol": "CCO", "benzene": "c1ccccc1", "aspirin": "CC(=O)Oc1ccccc1C(=O)O", "amine": "CCN"}


def screen(compounds=("ethanol", "benzene", "aspirin"), wells=2):
    """Wells A00, A01, ...: ``wells`` of each compound, told apart by the period of their stripes."""
    names = [name for name in compounds for _ in range(wells)]
    fields = [
        make_field(k, cells=4, period=4.0 + 4 * list(SMILES).index(name)) for k, name in enumerate(names)
    ]
    table = pd.DataFrame([f.metadata for f in fields]).drop(columns="Metadata_Site")
    table["perturbation"] = names
    table["Metadata_SMILES"] = [SMILES[name] for name in names]
    return Source(fields), table


def pairs_of(folder, config=SMALL, **sizes):
    fields, table = screen(**sizes)
    molecules = Molecules.of(table, config)
    images = Images.collect(fields, molecules, config, folder, silent)
    return Pairs(images, molecules, config, 0, torch.device("cpu"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    fields, table = screen()
    featurizer = Cloome(SMALL)
    featurizer.fit(fields, table, FitContext(tmp_path_factory.mktemp("fit")))
    return featurizer, fields


@pytest.mark.slow
def test_it_keeps_the_contract():
    results = check_featurizer(lambda: Cloome(SMALL))
    assert failures(results) == []
    assert {"resume", "fit-deterministic", "blind"} <= {r.name for r in results if r.status == "passed"}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["cloob", "clip"])
def test_it_overfits_a_planted_signal_that_random_weights_do_not_see(tmp_path, objective):
    """Of 8 compounds whose images differ in the period of their stripes, images come nearest to their own."""
    periods = (4.0, 5.0, 6.5, 8.0, 10.0, 13.0, 17.0, 24.0)
    rings = ("CCO", "CCN", "c1ccccc1", "c1ccncc1", "C1CCCCC1", "CC(C)=O", "CS(C)=O", "CC(=O)Oc1ccccc1C(=O)O")
    fields = Source([make_field(k, period=periods[k // 3]) for k in range(24)])
    table = pd.DataFrame([f.metadata for f in fields.fields]).drop(columns="Metadata_Site")
    table["perturbation"] = [f"cpd-{k // 3}" for k in range(24)]
    table["Metadata_SMILES"] = [rings[k // 3] for k in range(24)]
    # InfoLOOB begins on a plateau where all rows are alike; a slow start leads off it
    config = replace(
        SMALL, planes=8, dim=32, hidden=64, rescale=1.0, window_height=64, window_width=64, batch=8,
        steps=600, lr=1e-3, warmup_share=0.4, weight_decay=0.01, objective=objective,
    )  # fmt: skip

    def share_of_own(config, name):
        featurizer, work = Cloome(config), tmp_path / name
        work.mkdir()
        featurizer.fit(fields, table, FitContext(work))
        rows = featurizer.embed(fields.fields).values
        towers, molecules = featurizer._trained.network, Molecules.of(table, config)
        with torch.inference_mode():
            bits = torch.from_numpy(molecules.bits)
            stored = torch.nn.functional.normalize(towers.transformer(bits), dim=1).numpy()
        own = [molecules.of_well["P1", f"A{k:02d}"] for k in range(24)]
        return ((rows @ stored.T).argmax(axis=1) == own).mean()

    assert share_of_own(config, "trained") >= 0.9
    assert share_of_own(replace(config, steps=1, lr=1e-9), "random") < 0.5, "by chance 1/8"


def test_rows_are_one_per_field_of_unit_length_and_read_as_configured(fitted):
    featurizer, fields = fitted
    rows = featurizer.embed(fields.fields)
    assert rows.object is None
    assert rows.field.tolist() == list(range(6))
    np.testing.assert_allclose(np.linalg.norm(rows.values, axis=1), 1.0, rtol=1e-5)
    others = {}
    for readout in ("projection", "pooled"):
        other = Cloome(replace(SMALL, readout=readout))
        other._trained, other._origin = featurizer._trained, featurizer._origin
        others[readout] = other.embed(fields.fields).values
        assert len(other.columns(fields.channels)) == others[readout].shape[1]
    assert others["pooled"].shape == (6, 32)
    head = featurizer._trained.network.visual.fc
    with torch.inference_mode():
        by_hand = head(torch.from_numpy(others["pooled"])).numpy()
    np.testing.assert_allclose(others["projection"], by_hand, rtol=1e-4, atol=1e-5)
    lengths = np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(rows.values, by_hand / lengths, rtol=1e-4, atol=1e-5)


def test_saved_weights_give_the_same_rows_and_other_settings_are_refused(fitted, tmp_path):
    featurizer, fields = fitted
    featurizer.save(tmp_path)
    reader = Cloome(SMALL)
    reader.load(tmp_path)
    np.testing.assert_array_equal(reader.embed(fields.fields).values, featurizer.embed(fields.fields).values)
    Cloome(replace(SMALL, readout="pooled")).load(tmp_path)
    with pytest.raises(FeaturizerError, match=r"was trained with beta=14\.3, not 8\.0"):
        Cloome(replace(SMALL, beta=8.0)).load(tmp_path)


def test_a_training_without_statistics_scales_each_window_alone(tmp_path):
    fields, table = screen()
    trained = train(fields, table, replace(SMALL, scaling="field", steps=1), FitContext(tmp_path))
    assert trained.statistics is None


def test_statistics_are_those_of_all_training_pixels(tmp_path):
    pairs = pairs_of(tmp_path)
    found = pairs.images.statistics(silent)
    every = np.asarray(pairs.images.pixels, np.float64)
    np.testing.assert_allclose(found.mean, every.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.std, every.std(axis=(0, 2, 3)), rtol=1e-6)


def test_a_batch_of_molecules_has_each_once_and_one_of_images_passes_once_over_all(tmp_path):
    pairs = pairs_of(tmp_path, wells=3)
    seen = set()
    for step in range(20):
        chosen = pairs.of_step(step)
        assert sorted(pairs.images.molecule[chosen]) == [0, 1, 2]
        seen |= set(chosen.tolist())
    assert seen == set(range(9)), "every image is drawn some time"
    assert pairs.of_step(3).tolist() == pairs.of_step(3).tolist()
    epochs = replace(pairs, config=replace(SMALL, batches="images", batch=3))
    order = np.concatenate([epochs.of_step(step) for step in range(3)])
    assert sorted(order) == list(range(9))


def test_windows_are_pieces_of_their_fields(tmp_path):
    config = replace(SMALL, augment="none", rescale=1.0, window_height=40, window_width=50)
    pairs = pairs_of(tmp_path, config)
    chosen = pairs.of_step(0)
    windows = pairs.windows(chosen, 0).numpy()
    assert windows.shape == (3, 2, 40, 50)
    for window, image in zip(windows, chosen, strict=True):
        field = np.asarray(pairs.images.pixels[image], np.float32)
        places = [
            (top, left)
            for top in range(72 - 40 + 1)
            for left in range(72 - 50 + 1)
            if np.array_equal(field[:, top : top + 40, left : left + 50], window)
        ]
        assert len(places) == 1
    assert not np.array_equal(pairs.windows(chosen, 1).numpy(), windows)
    middle = replace(pairs, config=replace(config, view="centre")).windows(chosen, 0).numpy()
    field = np.asarray(pairs.images.pixels[chosen[0]], np.float32)
    np.testing.assert_array_equal(middle[0], field[:, 16:56, 11:61])


def test_only_an_inverse_temperature_that_is_learnt_gets_a_gradient(tmp_path):
    from featurizers.cloome.model import Towers

    pairs = pairs_of(tmp_path)
    statistics = pairs.images.statistics(silent)
    for learn, got in (("no", False), ("yes", True)):
        towers = Towers(SMALL, 2, 0)
        towers.logit_inv_tau.requires_grad_(learn == "yes")
        found = gradient(towers, SMALL, pairs, statistics, 0)
        assert (towers.logit_inv_tau.grad is not None) == got
        assert towers.visual.conv1.weight.grad.abs().max() > 0
        assert towers.transformer.layers[0][0].weight.grad.abs().max() > 0
        assert 0 <= found["matched"] <= 1


def test_bits_that_no_molecule_has_leave_their_weights_without_gradient(tmp_path):
    from featurizers.cloome.model import Towers

    pairs = pairs_of(tmp_path)
    towers = Towers(SMALL, 2, 0)
    gradient(towers, SMALL, pairs, pairs.images.statistics(silent), 0)
    unused = pairs.molecules.bits.sum(axis=0) == 0
    assert unused.any()
    grad = towers.transformer.layers[0][0].weight.grad
    assert grad[:, unused].abs().max() == 0
    assert grad[:, ~unused].abs().max() > 0


def test_compounds_without_a_structure_are_left_out_and_counted(tmp_path):
    fields, table = screen()
    table.loc[table["perturbation"] == "aspirin", "Metadata_SMILES"] = ""
    with pytest.warns(UserWarning, match=r"1 of 3 perturbations have no SMILES .* \(aspirin\)"):
        molecules = Molecules.of(table, SMALL)
    images = Images.collect(fields, molecules, SMALL, tmp_path, silent)
    assert len(images.pixels) == 4


def test_fields_of_wells_outside_the_table_are_not_learnt_from(tmp_path):
    fields, table = screen()
    molecules = Molecules.of(table.iloc[:4], SMALL)
    images = Images.collect(fields, molecules, SMALL, tmp_path, silent)
    assert images.molecule.tolist() == [molecules.of_well["P1", f"A{k:02d}"] for k in range(4)]
    assert len(molecules.bits) == 2


def test_names_of_one_molecule_are_one_molecule():
    _, table = screen()
    table.loc[table["perturbation"] == "aspirin", "Metadata_SMILES"] = "OCC"
    molecules = Molecules.of(table, SMALL)
    assert len(molecules.bits) == 2
    assert molecules.of_well["P1", "A00"] == molecules.of_well["P1", "A04"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: None, "cloome learns from the structures .* has no perturbation and no Metadata_SMILES"),
        (lambda t: t.drop(columns="Metadata_SMILES"), "has no Metadata_SMILES"),
        (lambda t: t.assign(Metadata_SMILES=""), "empty for all 3 perturbations"),
        (
            lambda t: t.iloc[:2],
            "1 perturbations with a SMILES have 1 different fingerprints; a contrast needs",
        ),
        (lambda t: t.assign(Metadata_SMILES="CCO"), "3 perturbations .* have 1 different fingerprints"),
        (
            lambda t: t.replace({"Metadata_SMILES": {"CCO": "C1CC"}}),
            r"cloome: row 2 \(ethanol\): 'C1CC' is no SMILES",
        ),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_one_sentence(tmp_path, change, reason):
    fields, table = screen()
    with pytest.raises(FeaturizerError, match=reason):
        Cloome(SMALL).fit(fields, change(table), FitContext(tmp_path))


def test_molecules_whose_fields_are_all_missing_are_said(tmp_path):
    fields, table = screen()
    one = Source(fields.fields[:2])
    with pytest.raises(FeaturizerError, match=r"2 of 2 fields show a compound .*, 1 different molecules"):
        Cloome(SMALL).fit(one, table, FitContext(tmp_path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"batch": 1}, "batch is 1; a contrast needs at least 2 pairs"),
        ({"window_height": 8, "window_width": 8, "blocks": (1, 1, 1, 1)}, "too small for 4 stages"),
        ({"window_width": 40}, "32 x 40 is not square"),
        ({"objective": "triplet"}, "choose one of cloob, clip"),
        ({"inverse_tau": 200.0}, "between 1 and 100"),
        ({"blocks": ()}, "blocks is"),
        ({"warmup_share": 1.0}, "warmup_share is 1.0"),
        ({"bits": 0}, "bits is 0; it must be positive"),
    ],
)
def test_a_wrong_setting_is_refused(change, reason):
    with pytest.raises(FeaturizerError, match=reason):
        replace(SMALL, **change)
