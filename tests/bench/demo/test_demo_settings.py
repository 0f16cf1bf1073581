"""Settings refuse what cannot be made, and give every stream its own numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bench.demo import Settings
from bench.errors import UsageError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plates": 0}, "plates is 0"),
        ({"compounds": 1}, "compounds is 1"),
        ({"doses": 0}, "doses is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"compounds": 200, "doses": 3}, "take at most 117 compounds"),
    ],
)
def test_impossible_sizes_are_refused_with_the_remedy(changes, words):
    with pytest.raises(UsageError, match=words):
        Settings(**changes)


def test_the_largest_screen_that_the_error_names_fits():
    assert Settings(compounds=117, doses=3).compounds == 117


def test_concentrations_ascend_in_threefold_steps_to_nine():
    assert Settings(doses=3).concentrations == (1.0, 3.0, 9.0)


def test_streams_differ_by_name_index_and_seed_and_repeat_otherwise():
    def first(settings, *stream):
        return settings.rng(*stream).integers(2**62)

    settings = Settings()
    draws = [
        first(settings, "a"),
        first(settings, "b"),
        first(settings, "a", 1),
        first(Settings(seed=1), "a"),
    ]
    assert len(set(draws)) == 4
    assert draws[0] == first(Settings(), "a")


def test_versions_tell_settings_apart():
    versions = {Settings(seed=s, compounds=c).version for s in (0, 1) for c in (6, 7)}
    assert len(versions) == 4
    assert np.char.startswith(sorted(versions), "2-").all()


def test_the_oracle_reads_the_states_that_the_demo_writes():
    from bench.demo.settings import DIMENSIONS
    from featurizers.oracle import DEMO

    assert tuple(DEMO) == tuple(f"Latent_{name}" for name in DIMENSIONS)
