"""Entrants of one session have names that differ on the board."""

from types import SimpleNamespace

import pytest

from bench.entrants import resolve
from bench.errors import UsageError
from bench.settings import Settings


def entrants(*words, **overrides):
    dataset = SimpleNamespace(name="screen", features=(), latent=None, images=object())
    settings = Settings(featurizers=words, controls="none", overrides=overrides)
    return resolve(settings, dataset)[0]


def test_presets_that_settings_give_one_name_are_told_apart():
    first, second = entrants("stain:linear", "stain:two-stains", stain={"steps": "3"})
    assert first.card["config"] != second.card["config"]
    assert first.label != second.label


def test_different_configs_under_one_name_say_their_presets():
    labels = [
        own.label for own in entrants("image2omics:tiny", "image2omics:small", image2omics={"steps": "3"})
    ]
    assert len(set(labels)) == 2


def test_one_entrant_named_twice_is_refused():
    with pytest.raises(UsageError, match="intensity and intensity:default are the same"):
        entrants("intensity", "intensity:default")
