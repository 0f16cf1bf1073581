"""The Image2Omics head: frozen backbone, bags of tiles, the readings of paper and released code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from featurizers.base import FeaturizerError, FitContext
from featurizers.image2omics import Image2Omics, Image2OmicsConfig
from featurizers.image2omics.model import BagHead, backbone, bag, tile_features
from featurizers.image2omics.train import train_head
from featurizers.resnet18_triplet.model import BagNetwork
from featurizers.resnet18_triplet.tiles import cut_tiles, scale_tiles
from featurizers.synthetic import FieldList, synthetic_fields
from featurizers.training.targets import Targets

TINY = replace(
    Image2Omics.presets["tiny"], backbone="untrained", steps=5, bag_tiles=4, inference_tiles=0, lr=1e-3
)


@pytest.fixture(scope="module")
def fields():
    return FieldList(synthetic_fields(cells=(4, 3, 5, 0, 2, 3)))


UNIT = np.array([0, 0, 1, 1, 2, 2])


def fitted(config, fields, folder):
    folder.mkdir(exist_ok=True)
    model = Image2Omics(config)
    targets = np.array([[1.0, 2], [2, np.nan], [4, 5]], np.float32)
    table = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "B01", "C01"]})
    model.fit(fields, UNIT, targets, table.assign(perturbation=["A", "B", "A"]), FitContext(folder))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["tile-embeddings", "backbone-features"])
@pytest.mark.parametrize("head", ["linear", "relu-linear"])
@pytest.mark.parametrize("tta", ["none", "four"])
def test_a_prediction_is_the_mean_over_views_of_the_linear_model_of_the_mean_tile(
    fields, tmp_path, pooling, head, tta
):
    config = replace(TINY, pooling_point=pooling, head=head, tta=tta)
    model = fitted(config, fields, tmp_path / "fit")
    made = model.predict(fields, UNIT, 3)
    features, owner = tile_features(model._network, fields, config, lambda _: None)
    W, b = model._head.linear.weight.detach().numpy(), model._head.linear.bias.detach().numpy()
    dense = model._network.head
    assert len(features) == (4 if tta == "four" else 1)
    for row in range(3):
        seen = []
        for view in features:
            h = view[UNIT[owner] == row].mean(axis=0)
            if pooling == "backbone-features":
                with torch.no_grad():
                    h = dense(torch.from_numpy(h)).numpy()
            h = np.maximum(h, 0) if head == "relu-linear" else h
            seen.append((W @ h + b) * model._targets.std + model._targets.mean)
        np.testing.assert_allclose(made[row], np.mean(seen, axis=0), rtol=1e-4)


@pytest.mark.slow
def test_the_other_views_of_a_tile_are_its_mirror_images_and_transpose_and_train_nothing(fields, tmp_path):
    heads = []
    for tta in ("none", "four"):
        model = fitted(replace(TINY, tta=tta), fields, tmp_path / tta)
        heads.append(model._head.linear.weight.detach().numpy())
    np.testing.assert_array_equal(*heads)
    views, _ = tile_features(model._network, fields, model.config, lambda _: None)
    crops = cut_tiles(fields[0], model.config.tiles)
    tiles = scale_tiles(torch.from_numpy(crops.pixels), torch.from_numpy(crops.inside), model.config.tiles)
    turned = [tiles, tiles.flip(2), tiles.flip(3), tiles.transpose(2, 3)]
    with torch.no_grad():
        for seen, own in zip(turned, views, strict=True):
            expected = model._network.tiles(seen).numpy()
            np.testing.assert_allclose(own[: len(expected)], expected, rtol=1e-3, atol=1e-5)
    assert not np.allclose(views[0], views[3])


@pytest.mark.slow
def test_the_backbone_stays_as_it_was(fields, tmp_path):
    config = replace(TINY, pooling_point="backbone-features", steps=10, lr=0.1)
    before = BagNetwork(config.tiles, 5, 0).state_dict()
    model = fitted(config, fields, tmp_path / "fit")
    after = model._network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    start = BagHead(config, model._network, 2, 0).linear.weight
    assert not torch.equal(start, model._head.linear.weight)


def test_a_planted_linear_readout_is_learnt_from_bags(tmp_path):
    rng = np.random.default_rng(0)
    units, tiles, width = 80, 6, 128
    means = rng.normal(size=(units, width))
    features = (np.repeat(means, tiles, 0) + 0.3 * rng.normal(size=(units * tiles, width))).astype(np.float32)
    y = (means[:, :2] * 3 + 5).astype(np.float32)
    config = replace(TINY, steps=300, lr=1e-2, bag_units=64)
    targets = Targets.of(y)
    network = BagNetwork(config.tiles, 5, 0)
    unit = np.repeat(np.arange(units), tiles)
    head = train_head(network, features, unit, targets, config, FitContext(tmp_path))
    with torch.no_grad():
        made = targets.undone(head(torch.from_numpy(features.reshape(units, tiles, -1).mean(1))).numpy())
    assert ((made - y) ** 2).mean() < 0.05 * y.var()


@pytest.mark.slow
def test_a_unit_without_a_tile_has_no_prediction(fields, tmp_path):
    model = fitted(TINY, fields, tmp_path / "fit")
    made = model.predict(FieldList([fields[3], fields[0]]), np.array([0, 1]), 2)
    assert np.isnan(made[0]).all()
    assert np.isfinite(made[1]).all()


def test_inference_averages_three_draws_of_512_with_replacement_only_when_short():
    features = np.random.default_rng(0).normal(size=(1, 700, 4)).astype(np.float32)
    paper = Image2OmicsConfig()
    many, few = bag(features, np.arange(700), paper), bag(features, np.arange(5), paper)
    assert many.shape == few.shape == (3, 4)
    assert not np.allclose(few[0], few[1])
    every = bag(features, np.arange(512), paper)  # exactly enough: each tile once in every draw
    np.testing.assert_allclose(every, np.tile(features[0, :512].mean(0), (3, 1)), atol=1e-6)


@pytest.mark.slow
def test_weights_from_a_file_are_frozen_and_named_by_content(fields, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "resnet18.safetensors"
    source = BagNetwork(replace(TINY.tiles, steps=1), 5, seed=7).backbone
    save_file(source.state_dict(), path)
    config = replace(TINY, backbone="file", weights=str(path))
    model = Image2Omics(config)
    assert model.config.weights.startswith("sha256:")
    assert "file " in model.label()
    network = backbone(fields, None, model.config, path, FitContext(tmp_path))
    assert torch.equal(network.backbone.conv1.weight, source.conv1.weight)
    features, _ = tile_features(network, fields, model.config, lambda _: None)
    assert features.shape[2] == 512
    torch.save({"other": torch.zeros(2)}, tmp_path / "wrong.pt")
    with pytest.raises(FeaturizerError, match="another architecture"):
        backbone(fields, None, config, tmp_path / "wrong.pt", FitContext(tmp_path))


def test_a_file_that_is_not_named_is_asked_for():
    with pytest.raises(FeaturizerError, match=r"--set image2omics\.weights=FILE"):
        Image2OmicsConfig(backbone="file")


def test_random_weights_and_a_file_of_weights_exclude_each_other():
    with pytest.raises(FeaturizerError, match="untrained has random weights"):
        Image2OmicsConfig(backbone="untrained", weights="resnet18.pt")


def test_presets_hold_the_numbers_of_the_paper():
    paper = Image2Omics.presets["paper"]
    assert (paper.bag_units, paper.bag_tiles, paper.lr, paper.weight_decay) == (64, 64, 5e-5, 0.01)
    assert (paper.inference_tiles, paper.inference_seeds) == (512, 3)
    assert (paper.tiles.crop, paper.tiles.classes, paper.tiles.wells, paper.tiles.tiles) == (128, 12, 20, 12)
    code = Image2Omics.presets["released-code"]
    assert (code.pooling_point, code.head, code.tta) == ("backbone-features", "relu-linear", "four")
