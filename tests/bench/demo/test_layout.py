"""Plates: every treatment once, controls, positions that differ, nuisances on the image only."""

from __future__ import annotations

import numpy as np

from bench.demo import Settings
from bench.demo.layout import latent_table, plate, wells_table
from bench.demo.population import draw

SETTINGS = Settings()
POPULATION = draw(SETTINGS)
PLATES = [plate(SETTINGS, POPULATION, i) for i in range(2)]


def test_each_compound_and_dose_has_one_well_on_each_plate_beside_32_controls():
    table = wells_table(SETTINGS, POPULATION, PLATES)
    treated = table[table["Metadata_pert_type"] == "trt"]
    counts = treated.groupby(["Metadata_Plate", "Metadata_Compound", "Metadata_Concentration"]).size()
    assert len(counts) == 2 * 80 * 3
    assert (counts == 1).all()
    controls = table[table["Metadata_pert_type"] == "negcon"]
    assert (controls.groupby("Metadata_Plate").size() == 32).all()
    assert set(controls["Metadata_Compound"]) == {"DMSO"}
    assert not table.duplicated(["Metadata_Plate", "Metadata_Well"]).any()


def test_wells_are_named_as_a_384_well_plate_names_them():
    names = PLATES[0].wells
    assert names == sorted(names)
    assert {n[0] for n in names} <= set("ABCDEFGHIJKLMNOP")
    assert {int(n[1:]) for n in names} <= set(range(1, 25))


def test_positions_are_drawn_anew_for_each_plate():
    where = [dict(zip(zip(p.compound, p.dose, strict=True), p.wells, strict=True)) for p in PLATES]
    moved = [where[0][k] != where[1][k] for k in where[0] if k[0] >= 0]
    assert np.mean(moved) > 0.95


def test_a_well_is_its_treatment_plus_well_noise():
    noise = []
    for p in PLATES:
        treated = p.compound >= 0
        expected = np.where(treated[:, None], POPULATION.state[p.compound, p.dose], 0.0)
        noise.append(p.state - expected)
    noise = np.concatenate(noise)
    assert abs(noise.std() - 0.3) < 0.02
    assert abs(noise.mean()) < 0.02


def test_edge_wells_hold_fewer_cells_and_treatment_is_not_tied_to_position():
    p = PLATES[0]
    edge = (p.row == 0) | (p.row == 15) | (p.column == 0) | (p.column == 23)
    assert p.crowding[edge].mean() < 0.95 * p.crowding[~edge].mean()
    assert np.abs([np.corrcoef(p.crowding, z)[0, 1] for z in p.state.T]).max() < 0.25


def test_the_oracles_table_is_the_state_of_the_wells():
    table = latent_table(PLATES)
    np.testing.assert_array_equal(
        table.filter(like="Latent_").to_numpy(), np.concatenate([p.state for p in PLATES])
    )
