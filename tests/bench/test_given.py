"""Weights that are given: whose they are, and on which dataset they may be used."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.entrants import entrant
from bench.errors import BenchError, UsageError
from bench.given import fitting, with_weights
from bench.settings import Settings
from featurizers.base import FitContext
from featurizers.resnet18_triplet import ResNet18Triplet, TripletConfig
from tests.featurizers.training.fields import CHANNELS, Source, make_field

SMALL = {"crop": 32, "border": "pad", "classes": 2, "wells": 2, "tiles": 1, "steps": 1, "hidden": 8, "dim": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights that learnt from the labels of aspirin and caffeine on plate P1."""
    fields = [make_field(seed) for seed in range(4)]
    table = pd.DataFrame([f.metadata for f in fields])
    table["perturbation"] = ["aspirin", "aspirin", "caffeine", "caffeine"]
    featurizer = ResNet18Triplet(TripletConfig(**SMALL))
    featurizer.fit(Source(fields), table, FitContext(tmp_path_factory.mktemp("work")))
    saved = tmp_path_factory.mktemp("weights")
    featurizer.save(saved)
    return saved


def dataset(plate="P9", compounds=("ibuprofen", "DMSO"), channels=CHANNELS):
    wells = pd.DataFrame({"Metadata_Plate": plate, "Metadata_Compound": compounds})
    return SimpleNamespace(name="screen", wells=wells, perturbation="Metadata_Compound", channels=channels)


def named(folder, **changes):
    defaults = asdict(TripletConfig())
    settings = {k: v for k, v in SMALL.items() if v != defaults[k]} | changes
    names = Settings(featurizers=("resnet18-triplet:paper",), overrides={"resnet18-triplet": settings})
    given = with_weights(names, [str(folder)])
    return entrant("resnet18-triplet:paper", given, named=True)


def test_given_weights_are_fitted_to_no_dataset_and_named_by_content(folder):
    found = named(folder, precision="float32")
    assert (found.fit_scope, found.trainable) == ("pretrained", False)
    assert str(folder) not in found.label
    assert "weights " in found.label
    assert fitting(found, dataset()).fit_scope == "pretrained"
    assert fitting(found, dataset(plate="P1")).fit_scope == "transductive"


def test_weights_that_were_told_of_a_tested_perturbation_are_refused(folder):
    found = named(folder, precision="float32")
    with pytest.raises(BenchError, match=r"learnt from the labels of 1 perturbations .* \(caffeine\)"):
        fitting(found, dataset(compounds=("caffeine", "DMSO")))


def test_weights_of_other_channels_or_settings_are_refused_before_any_work(folder):
    with pytest.raises(BenchError, match="trained on the channels DNA, ER, and dataset 'screen' has ER, DNA"):
        fitting(named(folder, precision="float32"), dataset(channels=CHANNELS[::-1]))
    with pytest.raises(ValueError, match=r"was trained with margin=0\.2, not 0\.5"):
        named(folder, precision="float32", margin="0.5")


@pytest.mark.parametrize(
    ("featurizers", "word", "reason"),
    [
        (("cellprofiler",), "w.safetensors", "no entrant named with --featurizer takes weights"),
        (
            ("mae:small", "dino"),
            "w.safetensors",
            "mae and dino take weights; .* --weights mae=w",
        ),
        (("mae", "intensity"), "intensity=w.safetensors", "intensity takes no weights"),
        (("mae",), "dino=w.safetensors", "dino does not take part"),
    ],
)
def test_a_file_that_could_be_for_none_or_several_is_refused(featurizers, word, reason):
    with pytest.raises(UsageError, match=reason):
        with_weights(Settings(featurizers=featurizers), [word])


def test_a_file_goes_to_the_one_that_takes_weights_or_to_the_named_one():
    alone = with_weights(Settings(featurizers=("mae:small", "intensity")), ["a=b.safetensors"])
    assert alone.overrides == {"mae": {"weights": "a=b.safetensors"}}
    both = with_weights(
        Settings(featurizers=("mae", "dino"), overrides={"mae": {"steps": "3"}}), ["mae=x", "dino=y"]
    )
    assert both.overrides == {"mae": {"steps": "3", "weights": "x"}, "dino": {"weights": "y"}}
