"""The published checkpoint's format: its names, its prefix, its preprocessing, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.base import Channel, FeaturizerError, Field
from featurizers.cloome import CloomePretrained, CloomePretrainedConfig
from featurizers.cloome.images import EIGHT_BIT, central, eight_bit
from featurizers.cloome.model import Towers
from featurizers.cloome.pretrained import LEVELS
from featurizers.conformance import check_featurizer, failures

SMALL = CloomePretrainedConfig(
    window_height=64, window_width=96, planes=4, blocks=(1, 1), dim=8, hidden_layers=1, hidden=16, bits=32
)


def write_checkpoint(path, config=SMALL, channels=5, **extra):
    """As the released code saves them: under state_dict, each name behind ``module.``, among others."""
    towers = Towers(config, channels, 3)
    state = {f"module.{name}": value for name, value in towers.state_dict().items()}
    torch.save({"epoch": 7, "name": "cloome", "state_dict": state, **extra}, path)
    return towers.eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "cloome.pt"
    return path, write_checkpoint(path)


def field(names=("DNA", "ER", "RNA", "AGP", "Mito"), shape=(80, 110)):
    rng = np.random.default_rng(0)
    return Field(
        metadata={"Metadata_Plate": "P", "Metadata_Well": "A01", "Metadata_Site": "1"},
        channels=tuple(Channel(name) for name in names),
        pixels=rng.gamma(2.0, 700.0, (len(names), *shape)).astype(np.uint16),
    )


@pytest.mark.parametrize("grey", ["eight-bit-255", "eight-bit-256"])
def test_a_row_is_what_the_published_wrapper_computes(published, grey):
    path, towers = published
    featurizer = CloomePretrained(replace(SMALL, weights=str(path), grey=grey))
    given = field()
    levels = np.stack([eight_bit(given.pixels[k], *EIGHT_BIT[grey]) for k in (4, 1, 2, 3, 0)])
    window = central(levels.astype(np.float32), 64, 96)
    norm = np.array(LEVELS, np.float32)[:, None, None]
    with torch.inference_mode():
        row = towers.visual(torch.from_numpy((window - norm) / norm)[None]).numpy()
    found = featurizer.embed([given])
    np.testing.assert_allclose(found.values, row / np.linalg.norm(row), rtol=1e-4, atol=1e-5)
    assert featurizer.columns(given.channels)[0] == "cloome_pretrained_000"
    assert featurizer.card.fit_scope == "pretrained"


def test_a_file_of_tensors_alone_is_the_same_and_the_config_names_the_content(published, tmp_path):
    from safetensors.torch import save_file

    path, towers = published
    bare = tmp_path / "bare.safetensors"
    save_file({name: value.contiguous() for name, value in towers.state_dict().items()}, bare)
    first, second = (CloomePretrained(replace(SMALL, weights=str(file))) for file in (path, bare))
    np.testing.assert_array_equal(first.embed([field()]).values, second.embed([field()]).values)
    assert first.config.weights.startswith("sha256:")
    assert first.label() == f"cloome-pretrained[{first.config.weights[7:15]}]"


def test_it_keeps_the_contract(published):
    results = check_featurizer(lambda: CloomePretrained(replace(SMALL, weights=str(published[0]))))
    assert failures(results) == []


def test_presets_are_the_wrapper_and_the_training_preprocessing():
    presets = CloomePretrained.presets
    assert presets["default"] == presets["wrapper"]
    assert (presets["wrapper"].grey, presets["training-preprocessing"].grey) == (
        "eight-bit-255",
        "eight-bit-256",
    )
    wrapper = presets["wrapper"]
    assert (wrapper.window_height, wrapper.window_width, wrapper.columns) == (520, 696, 512)
    assert (wrapper.downsample, wrapper.pooling, wrapper.readout) == ("average", "windows", "unit")


def test_channels_are_found_by_name_in_any_order(published):
    featurizer = CloomePretrained(replace(SMALL, weights=str(published[0])))
    given = field()
    turned = replace(given, channels=given.channels[::-1], pixels=given.pixels[::-1])
    np.testing.assert_array_equal(featurizer.embed([given]).values, featurizer.embed([turned]).values)
    with pytest.raises(FeaturizerError, match=r"reads the channels Mito, ER.* the images have Hoechst"):
        featurizer.columns((Channel("Hoechst"),))


def refused(path, config=SMALL):
    with pytest.raises(FeaturizerError) as found:
        CloomePretrained(replace(config, weights=str(path))).label()
    return str(found.value)


def test_a_checkpoint_of_another_architecture_or_channels_is_refused_by_its_first_mismatch(tmp_path):
    path = tmp_path / "other.pt"
    write_checkpoint(path, channels=3)
    assert "'visual.conv1.weight' is (4, 3, 7, 7), the network's is (4, 5, 7, 7)" in refused(path)
    write_checkpoint(path, replace(SMALL, blocks=(1, 2)))
    assert "unknown tensor 'visual.layer2.1.bn1.bias'" in refused(path)
    write_checkpoint(path, replace(SMALL, hidden_layers=0))
    assert "'transformer.layers.0.0.weight' is (8, 32), the network's is (16, 32)" in refused(path)


@pytest.mark.filterwarnings("error")
def test_a_truncated_file_a_pickle_and_a_missing_one_are_refused(published, tmp_path):
    import pickle

    torn = tmp_path / "torn.pt"
    torn.write_bytes(published[0].read_bytes()[:2000])
    assert "damaged" in refused(torn)
    armed = tmp_path / "armed.pt"
    armed.write_bytes(pickle.dumps({"state_dict": CloomePretrainedConfig()}))
    assert "pickled objects" in refused(armed)
    assert "cannot be read" in refused(tmp_path / "nothing.pt")
    with pytest.raises(FeaturizerError, match=r"needs the published weights: --set cloome-pretrained\."):
        CloomePretrained().label()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stains": ("A", "B")}, "name five different channels"),
        ({"grey": "raw"}, "choose one of eight-bit-255, eight-bit-256"),
        ({"weights": "sha256:00"}, "is a digest; name the file"),
    ],
)
def test_a_wrong_setting_is_refused(change, reason):
    with pytest.raises(FeaturizerError, match=reason):
        replace(SMALL, **change)
