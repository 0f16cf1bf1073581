"""One sweep over everything that is registered: each featurizer keeps the contract."""

import pytest

from bench.registry import Registry, configure
from featurizers.conformance import check_featurizer, failures

SMALL = {
    "mae": ("tiny", {"steps": "4"}),
    "resnet18-triplet": ("tiny", {"steps": "2", "classes": "2", "wells": "2", "tiles": "2"}),
}
"""Preset and settings under which a trainable featurizer is trained in seconds."""

NAMES = [entry.name for entry in Registry().listings("featurizers")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SMALL)) for n in NAMES])
def test_a_registered_featurizer_keeps_the_contract(name):
    cls = Registry().get("featurizers", name)
    config = configure(cls, *SMALL.get(name, (None, {})))
    assert failures(check_featurizer(lambda: cls(config))) == []


def test_every_trainable_featurizer_has_small_settings_here():
    assert {n for n in NAMES if Registry().get("featurizers", n).trainable} == set(SMALL)
