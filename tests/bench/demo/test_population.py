"""Compounds: dose response, shared mechanisms, programmes that mechanisms know nothing of."""

from __future__ import annotations

import numpy as np
import pytest

from bench.demo import Settings
from bench.demo.population import draw, hill


def test_hill_is_half_at_the_ec50_and_rises_with_dose():
    response = hill(np.array([1.0, 3.0, 9.0]), np.array([3.0, 1.0]), np.array([2.0, 1.0]))
    np.testing.assert_allclose(response, [[0.1, 0.5, 0.9], [0.5, 0.75, 0.9]])


def test_a_higher_dose_is_a_longer_step_in_the_same_direction():
    state = draw(Settings(compounds=20)).state
    length = np.linalg.norm(state, axis=2)
    assert (np.diff(length, axis=1) > 0).all()
    cosine = np.einsum("pdl,pl->pd", state, state[:, -1]) / (length * length[:, -1:])
    np.testing.assert_allclose(cosine, 1.0)


def test_compounds_of_a_mechanism_look_alike_and_their_programmes_do_not():
    settings = Settings(compounds=110)
    population = draw(settings)
    same = population.mechanism[:, None] == population.mechanism[None, :]
    same &= ~np.eye(settings.compounds, dtype=bool)
    shape, hidden = (np.corrcoef(x[:, -1]) for x in (population.state, population.programmes))
    assert shape[same].mean() > 0.3
    assert abs(shape[~same].mean()) < 0.1
    assert abs(hidden[same].mean()) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_no_latent_dimension_is_left_unmoved(seed):
    spread = draw(Settings(seed=seed)).state.std(axis=(0, 1))
    assert spread.min() > 0.4 * spread.max()
