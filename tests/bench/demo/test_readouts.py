"""The truth table is true: an oracle reaches each ceiling, and nothing predicts the nulls."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

from bench.demo import Settings, readouts
from bench.demo.layout import plate
from bench.demo.population import draw
from bench.demo.settings import DIMENSIONS, KIND_DIMENSIONS

SETTINGS = Settings(compounds=110, doses=3, plates=3)


@pytest.fixture(scope="module")
def screen():
    population = draw(SETTINGS)
    return population, [plate(SETTINGS, population, i) for i in range(SETTINGS.plates)]


def out_of_fold_r2(X, Y, groups):
    error, floor = np.zeros(Y.shape[1]), np.zeros(Y.shape[1])
    for train, test in GroupKFold(5, shuffle=True, random_state=0).split(X, Y, groups):
        prediction = RidgeCV(np.logspace(-2, 4, 7)).fit(X[train], Y[train]).predict(X[test])
        error += ((prediction - Y[test]) ** 2).sum(axis=0)
        floor += ((Y[train].mean(axis=0) - Y[test]) ** 2).sum(axis=0)
    return 1.0 - error / floor


def units(screen, layer):
    """Return latent state, readouts, compounds and truth of the treated units of a layer."""
    population, plates = screen
    if layer == "transcripts":
        table, truth = readouts.transcripts(SETTINGS, plates)
        state = np.concatenate([p.state for p in plates])
        compound = np.concatenate([p.compound for p in plates])
        keep = compound >= 0
        return state[keep], table[truth["readout"]].to_numpy()[keep], compound[keep], truth
    table, truth = readouts.proteins(SETTINGS, population, plates)
    pools = [
        np.mean([p.state[(p.compound == c) & (p.dose == d)][0] for p in plates], axis=0)
        for c in range(SETTINGS.compounds)
        for d in range(SETTINGS.doses)
    ]
    keep = (table["Metadata_Compound"] != "DMSO").to_numpy()
    groups = table["Metadata_Compound"].to_numpy()[keep]
    return np.array(pools), table[truth["readout"]].to_numpy()[keep], groups, truth


@pytest.mark.parametrize("layer", ["transcripts", "proteins"])
def test_ridge_on_the_true_state_reaches_the_ceilings_and_never_the_nulls(screen, layer):
    X, Y, groups, truth = units(screen, layer)
    shortfall = out_of_fold_r2(X, Y, groups) - truth["ceiling"].to_numpy()
    linked = ~truth["null"].to_numpy()
    # A fit to few compounds costs a little skill; it gains none.
    assert -0.06 < shortfall[linked].mean() < 0.01
    assert np.abs(shortfall[linked]).max() < 0.2
    assert -0.1 < shortfall[~linked].mean() < 0.0
    assert shortfall[~linked].max() < 0.05


def test_plate_and_position_predict_no_readout(screen):
    _, plates = screen
    _, Y, groups, _ = units(screen, "transcripts")
    where = np.concatenate(
        [np.stack([p.row, p.column, np.full(len(p.row), p.index), p.crowding], axis=1) for p in plates]
    )[np.concatenate([p.compound >= 0 for p in plates])]
    r2 = out_of_fold_r2(where.astype(float), Y, groups)
    assert r2.mean() < 0.005
    assert r2.max() < 0.03


def test_each_kind_follows_its_own_dimensions_only():
    p = readouts.panel(Settings(), "transcripts", "gene", readouts.TRANSCRIPTS)
    for kind, rows in KIND_DIMENSIONS.items():
        others = [i for i, d in enumerate(DIMENSIONS) if d not in rows]
        chosen = (p.truth["kind"] == kind).to_numpy()
        assert chosen.sum() == readouts.TRANSCRIPTS[kind]
        assert (p.state[others][:, chosen] == 0).all()
        assert (p.state[:, chosen] != 0).any(axis=0).all()
    assert (p.state[:, p.truth["null"].to_numpy()] == 0).all()


def test_there_are_400_readouts_and_200_nulls():
    kinds = [readouts.TRANSCRIPTS, readouts.PROTEINS]
    assert sum(sum(k.values()) for k in kinds) >= 400
    assert sum(k["null"] for k in kinds) >= 200
    assert sum(readouts.TRANSCRIPTS.values()) >= 300
    assert sum(readouts.PROTEINS.values()) >= 120


def test_regulation_calls_follow_the_readout_of_the_same_name(screen):
    population, plates = screen
    calls, truth = readouts.regulation(SETTINGS, population)
    values, _ = readouts.transcripts(SETTINGS, plates)
    names = truth["readout"].tolist()
    seen = calls[names].to_numpy()
    assert set(np.unique(seen[~np.isnan(seen)])) == {-1.0, 0.0, 1.0}
    assert abs(np.isnan(seen).mean() - readouts.MISSING_CALLS) < 0.01
    compound = np.concatenate([p.compound for p in plates])
    dose = np.concatenate([p.dose for p in plates])
    top = np.array([values[names].to_numpy()[(compound == c) & (dose == 2)].mean(axis=0) for c in range(110)])
    agreement = [
        np.corrcoef(top[m, t], seen[m, t])[0, 1] for t in range(len(names)) for m in [~np.isnan(seen[:, t])]
    ]
    assert np.mean(agreement) > 0.4


def test_targets_follow_a_mechanism_or_nothing(screen):
    population, _ = screen
    hits, truth = readouts.targets(SETTINGS, population)
    values = hits[truth["readout"]].to_numpy()
    assert set(np.unique(values)) == {0.0, 1.0}
    mechanisms = [population.mechanism == m for m in np.unique(population.mechanism)]
    rates = np.sort([values[m].mean(axis=0) for m in mechanisms], axis=0)
    linked = ~truth["null"].to_numpy()
    assert abs(rates[-3:, linked].mean() - 0.85) < 0.1
    assert rates[:-3, linked].mean() < 0.05
    assert rates[-3:, ~linked].mean() < 0.5
