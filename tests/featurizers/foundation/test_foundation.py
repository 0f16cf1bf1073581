"""The adapter on small networks made on the spot: strategies, strict loading, keys by content, refusals."""

from __future__ import annotations

import pickle
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featurizers.base import Card, Channel, FeaturizerError
from featurizers.conformance import check_featurizer, failures
from featurizers.dino_pretrained import DinoPretrained, DinoPretrainedConfig
from featurizers.foundation import FoundationConfig, FoundationModel
from featurizers.foundation.strategies import adapted, embed, normaliser
from featurizers.foundation.weights import load, read
from tests.featurizers.training.fields import CHANNELS, make_field


def net(planes):
    return nn.Sequential(nn.Conv2d(planes, 6, 5, stride=3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Small(FoundationModel):
    card = Card(
        "small", "1", "Small", "none", "none", "three planes", "32 px", "nothing", ("pixels", "objects")
    )
    presets = MappingProxyType({"default": FoundationConfig(crop=24, input_size=24)})
    input_weight = "0.weight"

    def network(self, planes):
        return net(planes)

    def width(self):
        return 6


@pytest.fixture
def state():
    torch.manual_seed(0)
    return net(3).state_dict()


@pytest.fixture
def file(tmp_path, state):
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{name}": value for name, value in state.items()}, path)
    return path


def small(file, **change):
    return Small(replace(Small.presets["default"], weights=str(file), **change))


STRATEGIES = ("per-channel-concat", "per-channel-mean", "adapt-patch-embed", "rgb-composite")


def test_each_strategy_equals_its_definition(state):
    network = net(3)
    network.load_state_dict(state)
    five = net(5)
    five.load_state_dict({**state, "0.weight": adapted(state["0.weight"], 5)})
    images = torch.rand(4, 5, 24, 24)
    normalise = normaliser((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))

    def run(strategy, model, composite=()):
        return embed(model, images, strategy, planes=3, normalise=normalise, composite=composite)

    centre = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    spread = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    alone = [network((images[:, [c, c, c]] - centre) / spread) for c in range(5)]
    torch.testing.assert_close(run("per-channel-concat", network), torch.cat(alone, dim=1))
    torch.testing.assert_close(run("per-channel-mean", network), torch.stack(alone).mean(0))
    expected = network((images[:, [4, 0, 2]] - centre) / spread)
    torch.testing.assert_close(run("rgb-composite", network, (4, 0, 2)), expected)
    torch.testing.assert_close(run("adapt-patch-embed", five), five((images - 0.2) / 2.0))


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7])
def test_adapted_input_weights_equal_timms(channels):
    from featurizers.vision import prepare_timm

    prepare_timm()
    from timm.models import adapt_input_conv

    weight = torch.randn(8, 3, 4, 4)
    torch.testing.assert_close(adapted(weight, channels), adapt_input_conv(channels, weight.clone()))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_columns_and_rows_agree_for_every_strategy(file, strategy):
    rgb = ("ER", "DNA", "ER") if strategy == "rgb-composite" else ()
    featurizer = small(file, strategy=strategy, rgb=rgb)
    found = featurizer.embed([make_field(0), make_field(1)])
    assert found.values.shape == (8, len(featurizer.columns(CHANNELS)))
    assert found.object.tolist() == [1, 2, 3, 4] * 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["per-channel-concat", "adapt-patch-embed"])
def test_it_keeps_the_contract(file, strategy):
    found = failures(check_featurizer(lambda: small(file, strategy=strategy)))
    assert [f for f in found if not f.startswith("import:")] == [], "this test's own module imports torch"


def test_the_config_names_the_weights_by_content(file, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    first, second = asdict(small(file).config), asdict(small(copy).config)
    assert first == second
    assert first["weights"].startswith("sha256:")
    other = tmp_path / "other.safetensors"
    save_file({k: v + 1 for k, v in net(3).state_dict().items()}, other)
    assert asdict(small(other).config)["weights"] != first["weights"]
    assert small(file).label() == f"small[{first['weights'][7:15]}]"


def test_a_checkpoint_of_tensors_gives_what_safetensors_give(file, state, tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    rows = [small(f).embed([make_field(0)]).values for f in (file, path)]
    np.testing.assert_array_equal(*rows)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.filterwarnings("error")
def test_a_pickle_is_refused_in_one_sentence_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pth")
    Path("plain.pkl").write_bytes(pickle.dumps({"a": Evil()}))
    for name in ("evil.pth", "plain.pkl"):
        with pytest.raises(FeaturizerError, match="holds pickled objects"):
            small(name).label()
        with pytest.raises(FeaturizerError, match="holds pickled objects"):
            small(name).embed([make_field(0)])
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"0.bias": None}, r"lacks '0\.bias'"),
        ({"9.bias": torch.zeros(1)}, r"unknown tensor '9\.bias'"),
        ({"0.weight": torch.zeros(6, 4, 5, 5)}, r"\(6, 4, 5, 5\), the network's is \(6, 3, 5, 5\)"),
        ({"0.bias": torch.full((6,), torch.nan)}, "NaN or infinite"),
    ],
)
def test_the_first_tensor_that_differs_is_named(tmp_path, state, change, reason):
    path = tmp_path / "w.safetensors"
    save_file({k: v for k, v in {**state, **change}.items() if v is not None}, path)
    with pytest.raises(FeaturizerError, match=reason):
        load(net(3), read(path), path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("length", [0, 40, -9])
def test_a_truncated_file_is_refused(tmp_path, state, suffix, length):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FeaturizerError, match=r"cannot be read|pickled objects"):
        read(path)


def test_missing_weights_and_wrong_channels_say_what_to_do(file):
    with pytest.raises(FeaturizerError, match=r"small needs a file of weights: --set small\.weights=FILE"):
        Small().label()
    with pytest.raises(FeaturizerError, match=r"weights file nowhere\.pth cannot be read"):
        Small(FoundationConfig(weights="nowhere.pth"))
    with pytest.raises(FeaturizerError, match="takes 3 channels and the images have 2"):
        small(file, strategy="native").columns(CHANNELS)
    with pytest.raises(FeaturizerError, match="rgb-composite needs 3 of the channels DNA, ER"):
        small(file, strategy="rgb-composite").columns(CHANNELS)
    with pytest.raises(FeaturizerError, match="set rgb to 3 of them"):
        small(file, strategy="rgb-composite", rgb=("DNA", "ER", "Golgi")).columns(CHANNELS)
    broken = small(file, strategy="adapt-patch-embed")
    broken.prefixes = ("module.0.",)
    with pytest.raises(FeaturizerError, match=r"0\.weight.*is missing; adapt-patch-embed"):
        broken.embed([make_field(0)])


def test_another_model_than_dinos_is_refused_and_missing_weights_name_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FeaturizerError, match="none of DINO, DINOv2 or DINOv3"):
        DinoPretrainedConfig(model="resnet50.a1_in1k")
    with pytest.raises(FeaturizerError, match=r"weights=FILE .*hf download timm/vit_small_patch16_224\.dino"):
        DinoPretrained().label()


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(DinoPretrained.presets))
def test_every_preset_names_a_network_of_timm(preset):
    featurizer = DinoPretrained(DinoPretrained.presets[preset])
    assert featurizer.width() in (384, 768)
    assert len(featurizer.mean) == 3


@pytest.mark.slow
def test_a_training_checkpoint_of_dino_loads_its_teacher_without_the_head(tmp_path):
    config = DinoPretrainedConfig(crop=32, input_size=32)
    network = DinoPretrained(config).network(3)
    teacher = {f"module.backbone.{k}": v for k, v in network.state_dict().items()}
    torch.save(
        {"student": {}, "teacher": {**teacher, "module.head.mlp.0.weight": torch.zeros(2, 2)}}, tmp_path / "c"
    )
    featurizer = DinoPretrained(replace(config, weights=str(tmp_path / "c")))
    found = featurizer.embed([make_field(0)])
    assert found.values.shape == (4, 2 * 384) == (4, len(featurizer.columns(CHANNELS)))
    assert featurizer.columns((Channel("DNA"),))[0] == "dino_pretrained_DNA_000"
