"""One sweep over everything that is registered: each featurizer keeps the contract."""

import pytest

from bench.registry import Registry, configure
from featurizers.conformance import check_featurizer, failures

TOWERS = {"window_height": "32", "window_width": "48", "planes": "4", "blocks": "1,1", "hidden": "16"}

SMALL = {
    "cloome": ("tiny", {**TOWERS, "window_width": "32", "steps": "3", "batch": "2"}),
    "dino": ("tiny", {"steps": "3", "batch": "4", "local_crops": "1", "depth": "2"}),
    "mae": ("tiny", {"steps": "4"}),
    "resnet18-triplet": ("tiny", {"steps": "2", "classes": "2", "wells": "2", "tiles": "2"}),
    "tide": (
        "tiny",
        {"steps": "3", "batch": "4", "local_crops": "1", "depth": "2", "pairs": "2", "cells": "2"},
    ),
    "unmixing": ("default", {"steps": "4"}),
}
"""Preset and settings under which a trainable featurizer is trained in seconds."""

NEEDS_WEIGHTS = {
    "cloome-pretrained": (5, TOWERS),
    "dino-pretrained": (3, {"crop": "32", "input_size": "32"}),
}
"""Input planes and settings with which a pretrained featurizer is tested, random weights in a file."""

NAMES = [entry.name for entry in Registry().listings("featurizers")]


@pytest.fixture
def weights(name, tmp_path):
    """Settings that name a file of random weights, for a featurizer that needs one."""
    if name not in NEEDS_WEIGHTS:
        return {}
    from safetensors.torch import save_file

    path, cls = tmp_path / "weights.safetensors", Registry().get("featurizers", name)
    planes, settings = NEEDS_WEIGHTS[name]
    save_file(cls(configure(cls, None, settings)).network(planes).state_dict(), path)
    return {"weights": str(path), **settings}


DEAR = {*SMALL, *NEEDS_WEIGHTS}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in NAMES])
def test_a_registered_featurizer_keeps_the_contract(name, weights):
    cls = Registry().get("featurizers", name)
    preset, settings = SMALL.get(name, (None, {}))
    config = configure(cls, preset, {**settings, **weights})
    assert failures(check_featurizer(lambda: cls(config))) == []


def test_every_trainable_featurizer_has_small_settings_here():
    assert {n for n in NAMES if Registry().get("featurizers", n).trainable} == set(SMALL)
