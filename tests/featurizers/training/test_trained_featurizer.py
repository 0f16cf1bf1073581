"""Weights of an earlier training in the place of a training: what is checked, said and recorded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from featurizers.base import FeaturizerError, FitContext
from featurizers.mae import Mae
from featurizers.resnet18_triplet import ResNet18Triplet, TripletConfig

TRIPLET = TripletConfig(
    crop=32, border="pad", classes=2, wells=2, tiles=1, steps=1, hidden=8, dim=4, inference_tiles=0
)


@pytest.fixture
def written(source, config, tmp_path):
    """A folder of weights, and who wrote it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "weights").mkdir()
    featurizer = Mae(replace(config, steps=1))
    table = pd.DataFrame([f.metadata for f in source.fields])
    featurizer.fit(source, table, FitContext(tmp_path / "work"))
    featurizer.save(tmp_path / "weights")
    return featurizer, tmp_path / "weights"


def test_given_weights_give_the_rows_of_the_training_without_one(written, source, tmp_path):
    featurizer, folder = written
    for named in (folder, folder / "weights.safetensors"):
        reader = Mae(replace(featurizer.config, weights=str(named)))
        assert (reader.trainable, reader.card.fit_scope) == (False, "pretrained")
        assert (Mae.trainable, Mae.card.fit_scope) == (True, "transductive")
        np.testing.assert_array_equal(
            reader.embed(source.fields).values, featurizer.embed(source.fields).values
        )
        assert (reader.given.channels, reader.given.plates) == (("DNA", "ER"), ("P1",))
        assert reader.given.perturbations == ()
    assert featurizer.given is None
    with pytest.raises(FeaturizerError, match="was given weights and is not trained"):
        reader.fit(source, None, FitContext(tmp_path))


def test_given_weights_are_known_by_content(written, tmp_path):
    featurizer, folder = written
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "manifest.json").write_text("{}")  # a store's folder has one
    configs = [Mae(replace(featurizer.config, weights=str(place))).config for place in (folder, copy)]
    assert configs[0] == configs[1]
    assert configs[0].weights.startswith("sha256:")
    label = Mae(replace(featurizer.config, weights=str(folder))).label()
    assert f"weights {configs[0].weights[7:15]}" in label
    state = json.loads((copy / "mae.json").read_text())
    (copy / "mae.json").write_text(json.dumps({**state, "plates": ["P2"]}))
    assert Mae(replace(featurizer.config, weights=str(copy))).config != configs[0]


def test_weights_that_are_missing_or_of_other_settings_are_refused_before_any_work(written, tmp_path):
    featurizer, folder = written
    (folder / "other.pth").touch()
    for wrong in (tmp_path / "nowhere" / "weights.safetensors", tmp_path, folder / "other.pth"):
        with pytest.raises(FeaturizerError, match=r"is no folder .* needs weights.safetensors and mae.json"):
            Mae(replace(featurizer.config, weights=str(wrong)))
    other = Mae(replace(featurizer.config, weights=str(folder), steps=2))
    with pytest.raises(FeaturizerError, match="was trained with steps=1, not 2"):
        other.label()
    reading = Mae(replace(featurizer.config, weights=str(folder), pooling="cls"))
    assert "weights" in reading.label()


def test_weights_that_learnt_from_labels_name_the_perturbations(source, tmp_path):
    table = pd.DataFrame([f.metadata for f in source.fields])
    table["perturbation"] = ["b", "b", "a", "a", "c", "c"]
    for name in ("work", "weights"):
        (tmp_path / name).mkdir()
    featurizer = ResNet18Triplet(TRIPLET)
    featurizer.fit(source, table, FitContext(tmp_path / "work"))
    featurizer.save(tmp_path / "weights")
    reader = ResNet18Triplet(replace(TRIPLET, weights=str(tmp_path / "weights")))
    assert reader.given.perturbations == ("a", "b", "c")
    assert reader.card.fit_scope == "pretrained"
