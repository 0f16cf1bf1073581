from __future__ import annotations

import numpy as np
import pytest

from featurizers.base import Channel, FeaturizerError, Field
from featurizers.mae.config import PRESETS
from featurizers.untrained import Untrained, UntrainedConfig


def make(seed: int, cells: int = 3, channels: int = 2) -> Field:
    rng = np.random.default_rng(seed)
    labels = np.zeros((60, 90), np.int32)
    centres = np.array([(30, 15 + 30 * k) for k in range(cells)], np.float32).reshape(-1, 2)
    for k, (row, column) in enumerate(centres.astype(int)):
        labels[row - 8 : row + 8, column - 8 : column + 8] = k + 1
    pixels = rng.integers(0, 4000, (channels, 60, 90)).astype(np.uint16)
    names = tuple(Channel(f"c{k}") for k in range(channels))
    return Field(
        {"Metadata_Well": f"A{seed:02d}"}, names, pixels, {"cells": labels}, centres, np.arange(1, cells + 1)
    )


def test_it_needs_no_fit_and_gives_one_row_per_cell():
    featurizer, fields = Untrained(), [make(0), make(1, cells=0), make(2)]
    found = featurizer.embed(fields)
    assert found.values.shape == (6, len(featurizer.columns(fields[0].channels)))
    assert found.field.tolist() == [0, 0, 0, 2, 2, 2]
    assert np.isfinite(found.values).all()
    assert len(np.unique(found.values, axis=0)) == 6


def test_its_weights_depend_on_the_seed_only():
    fields = [make(0)]
    rows = [Untrained(UntrainedConfig(seed=seed)).embed(fields).values for seed in (0, 0, 1)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])


def test_it_uses_the_crops_and_the_architecture_of_the_tiny_preset():
    mine, tiny = UntrainedConfig().mae, PRESETS["tiny"]
    for name in ("crop", "patch", "dim", "depth", "heads", "mask", "background", "pooling", "block"):
        assert getattr(mine, name) == getattr(tiny, name)
    assert mine.standardise == "field", "statistics of the data set would need a fit"


def test_it_takes_any_number_of_channels_but_one_at_a_time():
    featurizer = Untrained()
    assert featurizer.embed([make(0, channels=1)]).values.shape == (3, 128)
    assert featurizer.embed([make(0, channels=5)]).values.shape == (3, 128)
    with pytest.raises(FeaturizerError, match=r"\[1, 5\] channels"):
        featurizer.embed([make(0, channels=1), make(1, channels=5)])
    assert featurizer.embed([]).values.shape == (0, 128)


def test_rows_do_not_depend_on_the_company():
    featurizer, fields = Untrained(), [make(seed) for seed in range(12)]
    together = featurizer.embed(fields).values
    alone = np.concatenate([featurizer.embed([field]).values for field in fields])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)


def test_it_is_a_control_that_has_seen_nothing():
    assert (Untrained.card.role, Untrained.card.fit_scope, Untrained.trainable) == (
        "control",
        "pretrained",
        False,
    )
    with pytest.raises(FeaturizerError, match="no preset 'huge'"):
        UntrainedConfig(encoder="huge")
