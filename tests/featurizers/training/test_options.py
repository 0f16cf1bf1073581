"""What every recipe may ask of the shared loop: weights averaged over steps, compiled forward passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from featurizers.base import FeaturizerError, FitContext
from featurizers.cloome import Cloome
from featurizers.dino import Dino
from featurizers.mae import Mae
from featurizers.resnet18_triplet import ResNet18Triplet
from featurizers.tide import Tide
from featurizers.training.files import checkpoints
from tests.featurizers.dino.test_dino_loss import CONFIG as DINO
from tests.featurizers.tide.screen import CONFIG as TIDE
from tests.featurizers.tide.screen import screen

CLOOME = replace(
    Cloome.presets["default"], window_height=16, window_width=16, blocks=(1,), planes=2, dim=8, hidden=8,
    hidden_layers=1, bits=64, batch=3,
)  # fmt: skip
MAE = replace(
    Mae.presets["default"], crop=16, dim=16, heads=2, depth=1, decoder_dim=8, decoder_heads=2, batch=8
)
TRIPLET = replace(ResNet18Triplet.presets["default"], classes=2, wells=2, tiles=2, hidden=8, dim=4)


@pytest.fixture
def places(tmp_path):
    for name in ("work", "weights", "none", "default"):
        (tmp_path / name).mkdir()
    return tmp_path


def fitted(entrant, config, folder, report=lambda _: None):
    fields, table = screen()
    featurizer = entrant(replace(config, steps=3))
    featurizer.fit(fields, table, FitContext(folder, report=report))
    return featurizer, fields.fields


@pytest.mark.parametrize(("entrant", "config"), [(Mae, MAE), (Cloome, CLOOME), (ResNet18Triplet, TRIPLET)])
def test_the_saved_weights_are_the_averaged_ones(entrant, config, places):
    config = replace(config, average=0.5)
    featurizer, fields = fitted(entrant, config, places / "work")
    featurizer.save(places / "weights")
    saved = load_file(places / "weights" / "weights.safetensors")
    last = checkpoints(places / "work")[-1]
    average, end = (load_file(last / f"{name}.safetensors") for name in ("average", "weights"))
    assert all(torch.equal(saved[name], value) for name, value in average.items())
    assert not all(torch.equal(saved[name], value) for name, value in end.items())

    again, _ = fitted(entrant, config, places / "work")  # a training that ended before it was saved
    np.testing.assert_array_equal(again.embed(fields).values, featurizer.embed(fields).values)
    with pytest.raises(FeaturizerError, match=r"was trained with average=0\.5, not 0\.0"):
        entrant(replace(config, average=0.0, steps=3)).load(places / "weights")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entrant", "config"), [(Dino, DINO), (Tide, TIDE), (Cloome, CLOOME), (ResNet18Triplet, TRIPLET)]
)
def test_a_compiled_training_has_the_losses_of_a_plain_one_and_embeds_as_its_saved_weights(
    entrant, config, places, monkeypatch
):
    monkeypatch.setattr("featurizers.training.loop.REPORT_SECONDS", 0.0)
    losses = {}
    for mode in ("none", "default"):
        seen = []
        featurizer, fields = fitted(entrant, replace(config, compile=mode), places / mode, seen.append)
        losses[mode] = [p.figures["loss"] for p in seen if p.stage == "train"]
    assert losses["default"] == pytest.approx(losses["none"], rel=5e-3)
    featurizer.save(places / "weights")
    loaded = entrant(featurizer.config)
    loaded.load(places / "weights")
    np.testing.assert_array_equal(loaded.embed(fields).values, featurizer.embed(fields).values)
