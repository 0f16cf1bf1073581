"""The triplet network as a featurizer: bags, draws, its contract, a planted signal, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from featurizers.base import FeaturizerError, FitContext
from featurizers.conformance import check_featurizer, failures
from featurizers.resnet18_triplet import ResNet18Triplet, TripletConfig
from featurizers.resnet18_triplet.config import PRESETS
from featurizers.resnet18_triplet.embedding import embed_fields
from featurizers.resnet18_triplet.loss import mine, squared_distances, triplet_loss
from featurizers.resnet18_triplet.model import BagNetwork
from featurizers.resnet18_triplet.tiles import cut_tiles, draw, four_ways, inference_draws, scale_tiles
from featurizers.resnet18_triplet.train import Bags, _gradient, classes_of
from featurizers.training.cropfile import CropFile
from tests.featurizers.training.fields import Source, make_field

SMALL = TripletConfig(
    crop=32, border="pad", classes=2, wells=2, tiles=2, steps=2, hidden=16, dim=8, inference_tiles=0
)


def screen(periods=(4.0, 10.0), wells=2, cells=4):
    """Wells A00, A01, ...: ``wells`` of each class, told apart by the period of their stripes."""
    fields = [
        make_field(k, cells=cells, period=period)
        for k, period in enumerate(p for p in periods for _ in range(wells))
    ]
    table = pd.DataFrame([f.metadata for f in fields])
    table["perturbation"] = [f"P{period:g}" for period in periods for _ in range(wells)]
    return Source(fields), table


def bags_of(table, counts, config=SMALL, seed=0):
    """Bags over a crop file that holds ``counts`` crops per field of the table."""
    owner = np.repeat(np.arange(len(counts)), counts)
    wells = tuple(zip(table["Metadata_Plate"], table["Metadata_Well"], strict=True))
    crops = CropFile(
        np.zeros((len(owner), 1, 1, 1), np.float32), np.ones((len(owner), 1, 1), bool), owner, wells
    )
    return Bags.of(crops, classes_of(table, config), config, seed, torch.device("cpu"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    fields, table = screen()
    featurizer = ResNet18Triplet(SMALL)
    featurizer.fit(fields, table, FitContext(tmp_path_factory.mktemp("fit")))
    return featurizer, fields


@pytest.mark.slow
def test_it_keeps_the_contract():
    results = check_featurizer(lambda: ResNet18Triplet(SMALL))
    assert failures(results) == []
    assert {"resume", "fit-deterministic", "blind"} <= {r.name for r in results if r.status == "passed"}


@pytest.mark.slow
def test_it_overfits_a_planted_signal(tmp_path):
    """Wells of three classes that differ in the period of their stripes come together by class."""
    fields, table = screen(periods=(4.0, 7.0, 14.0), wells=4)
    config = replace(SMALL, classes=3, wells=4, tiles=3, steps=60, lr=1e-3, hidden=64, dim=16)
    featurizer = ResNet18Triplet(config)
    featurizer.fit(fields, table, FitContext(tmp_path))
    rows = featurizer.embed(fields.fields).values
    distance = ((rows[:, None] - rows[None]) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    label = table["perturbation"].to_numpy()
    assert (label[distance.argmin(axis=1)] == label).mean() >= 11 / 12


def test_the_paper_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert (paper.crop, paper.classes, paper.wells, paper.tiles) == (128, 12, 20, 12)
    assert paper.classes * paper.wells == 240
    assert paper.batch == 2880
    assert (paper.margin, paper.lr, paper.weight_decay, paper.hidden, paper.dim) == (
        0.2,
        1e-4,
        0.01,
        1024,
        128,
    )
    assert paper.pooling_point == "tile-embeddings"
    assert (paper.inference_tiles * 16, paper.inference_seeds, paper.tta) == (512, 3, "none")


def test_the_network_has_the_papers_layers():
    network = BagNetwork(PRESETS["paper"], 3, 0)
    assert [tuple(m.weight.shape) for m in network.head if hasattr(m, "weight")] == [(1024, 512), (128, 1024)]
    assert 11.6e6 < sum(p.numel() for p in network.parameters()) < 12.4e6, "about 12 million, as printed"


def test_pooling_points_are_means_before_and_after_the_dense_layers():
    images = torch.randn(2, 3, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = {}
    for point in ("tile-embeddings", "backbone-features"):
        network = BagNetwork(replace(SMALL, pooling_point=point), 2, 0).eval()
        with torch.no_grad():
            features = torch.stack([network.backbone(bag) for bag in images])  # (2, 3, 512)
            # a hidden unit is on for some tiles and off for others, or both orders are the same
            network.head[0].bias -= network.head[0](features).mean(dim=(0, 1))
            rows[point] = network(images)
            tiles = point == "tile-embeddings"
            expected = network.head(features).mean(1) if tiles else network.head(features.mean(1))
        torch.testing.assert_close(rows[point], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*rows.values())


def test_tiles_are_standardised_each_alone_over_the_pixels_that_exist():
    pixels = torch.rand(3, 2, 32, 32) * 1000
    inside = torch.ones(3, 32, 32, dtype=torch.bool)
    inside[1, :5] = False  # five rows outside the image
    pixels[:, 1] = 7.0  # a channel without variance
    found = scale_tiles(pixels * inside[:, None], inside, SMALL)
    own = pixels[0, 0].numpy()
    np.testing.assert_allclose(found[0, 0], (own - own.mean()) / (own.std() + 1e-8), rtol=1e-4, atol=1e-5)
    own = pixels[1, 0, 5:].numpy()
    np.testing.assert_allclose(found[1, 0, 5:], (own - own.mean()) / (own.std() + 1e-8), rtol=1e-4, atol=1e-5)
    assert (found[1, 0, :5] == 0).all()
    assert (found[:, 1] == 0).all()


def test_bags_hold_classes_wells_and_tiles_as_configured():
    _, table = screen(periods=(1.0, 2.0, 3.0, 4.0), wells=5)
    config = replace(SMALL, classes=3, wells=4, tiles=6)
    bags = bags_of(table, [8] * 20, config)
    members, classes = bags.of_step(0)
    assert len(members) == 12
    assert sorted(np.bincount(classes)[np.bincount(classes) > 0]) == [4, 4, 4]
    well_of = {int(tile): k for k, tiles in enumerate(bags.tiles) for tile in tiles}
    drawn = [{well_of[int(tile)] for tile in own} for own in members]
    assert all(len(wells) == 1 for wells in drawn), "a bag is from one well"
    assert len(set.union(*drawn)) == 12, "no well twice in a batch"
    assert all(len(set(own)) == 6 for own in members), "no tile twice where there are enough"
    assert [m.tolist() for m in bags.of_step(0)[0]] == [m.tolist() for m in members]
    assert [m.tolist() for m in bags.of_step(1)[0]] != [m.tolist() for m in members]


def test_fewer_tiles_than_the_bag_are_drawn_with_replacement():
    rng = np.random.default_rng(0)
    assert sorted(draw(5, 5, rng)) == [0, 1, 2, 3, 4]
    assert set(draw(2, 9, rng)) <= {0, 1}
    _, table = screen()
    members, _ = bags_of(table, [1, 5, 5, 5], replace(SMALL, tiles=4)).of_step(0)
    assert sorted(len(set(own)) for own in members) == [1, 4, 4, 4]


def test_a_class_with_one_well_is_left_out_and_named():
    _, table = screen(periods=(1.0, 2.0, 3.0), wells=2)
    with pytest.warns(UserWarning, match=r"1 of 3 classes have one well only .* \(P3\)"):
        bags = bags_of(table.iloc[:5], [4] * 5)
    assert len(bags.members) == 2


@pytest.mark.parametrize(
    ("rows", "counts", "reason"),
    [
        ([0, 2], [4, 4], "0 of 2 classes .* have two wells with tiles"),
        ([0, 1], [4, 4], "1 of 1 classes"),
        ([0, 1, 2, 3], [4, 0, 4, 4], "1 of 2 classes"),
    ],
)
def test_without_two_classes_of_two_wells_there_is_nothing_to_learn(rows, counts, reason):
    _, table = screen()
    with pytest.raises(FeaturizerError, match=reason):
        bags_of(table.iloc[rows], counts)


def test_a_table_without_its_class_column_is_refused(tmp_path):
    fields, table = screen()
    for wrong in (None, table.drop(columns="perturbation")):
        with pytest.raises(FeaturizerError, match=r"the training table has no .*perturbation"):
            ResNet18Triplet(SMALL).fit(fields, wrong, FitContext(tmp_path))


def test_two_columns_make_a_class_together():
    _, table = screen()
    table["Metadata_Stimulus"] = ["M1", "M2", "M1", "M2"]
    config = replace(SMALL, class_columns=("perturbation", "Metadata_Stimulus"))
    assert len(set(classes_of(table, config).values())) == 4


def test_a_wells_outside_the_table_never_enters_a_bag():
    _, table = screen(periods=(1.0, 2.0, 3.0), wells=2)
    counts = [3] * 6
    owner = np.repeat(np.arange(6), counts)
    wells = tuple(zip(table["Metadata_Plate"], table["Metadata_Well"], strict=True))
    crops = CropFile(np.zeros((18, 1, 1, 1), np.float32), np.ones((18, 1, 1), bool), owner, wells)
    config = replace(SMALL, classes=3)
    bags = Bags.of(crops, classes_of(table.iloc[:4], config), config, 0, torch.device("cpu"))
    assert sorted(int(t) for tiles in bags.tiles for t in tiles) == list(range(12))


def test_a_row_is_the_mean_of_its_draws_of_tiles(fitted):
    featurizer, fields = fitted
    every = featurizer.embed(fields.fields)
    assert every.object is None
    assert every.field.tolist() == [0, 1, 2, 3]
    sampled = ResNet18Triplet(replace(SMALL, inference_tiles=3, inference_seeds=2))
    sampled._trained, sampled._origin = featurizer._trained, featurizer._origin
    network = featurizer._trained.network
    field = fields.fields[0]
    tiles = cut_tiles(field, SMALL)
    with torch.inference_mode():
        images = scale_tiles(torch.from_numpy(tiles.pixels), torch.from_numpy(tiles.inside), SMALL)
        rows = network.tiles(images).numpy()
    draws = inference_draws(len(rows), sampled.config)
    assert [len(set(own.tolist())) for own in draws] == [3, 3]
    np.testing.assert_allclose(every.values[0], rows.mean(0), rtol=1e-4, atol=1e-5)
    expected = np.mean([rows[own].mean(0) for own in draws], axis=0)
    np.testing.assert_allclose(sampled.embed([field]).values[0], expected, rtol=1e-4, atol=1e-5)


def test_augmentation_at_test_time_makes_rows_blind_to_mirrors(fitted):
    featurizer, fields = fitted
    four = ResNet18Triplet(replace(SMALL, tta="four"))
    four._trained, four._origin = featurizer._trained, featurizer._origin
    images = torch.rand(1, 2, 6, 6)
    views = four_ways(images)
    assert torch.equal(views[1], images.flip(2))
    assert torch.equal(views[3], images.transpose(2, 3))
    plain, tta = featurizer.embed(fields.fields[:1]).values, four.embed(fields.fields[:1]).values
    with torch.inference_mode():
        tiles = cut_tiles(fields.fields[0], SMALL)
        scaled = scale_tiles(torch.from_numpy(tiles.pixels), torch.from_numpy(tiles.inside), SMALL)
        by_hand = torch.stack([featurizer._trained.network.tiles(view) for view in four_ways(scaled)]).mean(
            dim=(0, 1)
        )
    np.testing.assert_allclose(tta[0], by_hand, rtol=1e-4, atol=1e-5)
    assert not np.allclose(plain, tta)


def test_views_at_test_time_are_averaged_behind_the_dense_layers():
    settings = replace(SMALL, tta="four", pooling_point="backbone-features")
    network = BagNetwork(settings, 2, 0).eval()
    # A network at its start hardly tells views apart; these features do, and some units are on for some only.
    network.tiles = lambda view: 9.0 * (view - view.mean()).flatten(1)[:, 1000:1512]
    field = make_field(3)
    found = embed_fields(network, settings, [field], 2).values[0]
    tiles = cut_tiles(field, settings)
    with torch.inference_mode():
        scaled = scale_tiles(torch.from_numpy(tiles.pixels), torch.from_numpy(tiles.inside), settings)
        rows = [network.bag(network.tiles(view).mean(dim=0)) for view in four_ways(scaled)]
        early = network.bag(torch.stack([network.tiles(view) for view in four_ways(scaled)]).mean(dim=(0, 1)))
    np.testing.assert_allclose(found, torch.stack(rows).mean(dim=0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, early, rtol=1e-4, atol=1e-5)


def test_saved_weights_give_the_same_rows_and_other_settings_are_refused(fitted, tmp_path):
    featurizer, fields = fitted
    featurizer.save(tmp_path)
    reader = ResNet18Triplet(SMALL)
    reader.load(tmp_path)
    np.testing.assert_array_equal(reader.embed(fields.fields).values, featurizer.embed(fields.fields).values)
    with pytest.raises(FeaturizerError, match=r"was trained with margin=0\.2, not 0\.5"):
        ResNet18Triplet(replace(SMALL, margin=0.5)).load(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": 1}, "classes is 1"),
        ({"crop": 16}, "divides by 32"),
        ({"fallback": "hard"}, "choose one of farthest, skip"),
        ({"class_columns": ()}, "class_columns is empty"),
        ({"tiles": 0}, "tiles is 0; it must be positive"),
    ],
)
def test_a_wrong_setting_is_refused(change, reason):
    with pytest.raises(FeaturizerError, match=reason):
        replace(SMALL, **change)


def test_passes_of_fewer_wells_give_the_gradient_of_the_whole_batch():
    """Against one graph over all passes: only batch normalisation knows of the passes."""
    fields, table = screen(periods=(4.0, 8.0, 12.0), wells=2)
    config = replace(SMALL, classes=3, wells=2, tiles=2, micro_batch=2)
    crops = [cut_tiles(field, config) for field in fields.fields]
    owner = np.repeat(np.arange(len(crops)), [len(c.ids) for c in crops])
    wells = tuple(zip(table["Metadata_Plate"], table["Metadata_Well"], strict=True))
    pixels, inside = (np.concatenate([getattr(c, name) for c in crops]) for name in ("pixels", "inside"))
    file = CropFile(pixels, inside, owner, wells)
    bags = Bags.of(file, classes_of(table, config), config, 0, torch.device("cpu"))
    cached, plain = (BagNetwork(config, 2, 0).train() for _ in range(2))
    figures = _gradient(cached, config, bags, 0)
    members, labels = bags.of_step(0)
    images = bags.images(members, 0)
    distances = squared_distances(torch.cat([plain(part) for part in torch.split(images, 2)]))
    triplets = mine(
        distances.detach(), torch.from_numpy(labels), margin=config.margin, fallback=config.fallback
    )
    loss = triplet_loss(distances, triplets, config.margin)
    loss.backward()
    loss = loss.detach()
    assert float(figures["loss"].detach()) == pytest.approx(float(loss), rel=1e-5)
    for (name, own), other in zip(cached.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    for own, other in zip(cached.buffers(), plain.buffers(), strict=True):
        if own.is_floating_point():  # running statistics saw every pass once
            torch.testing.assert_close(own, other)
    whole = _gradient(BagNetwork(config, 2, 0).train(), replace(config, micro_batch=0), bags, 0)
    assert float(whole["loss"].detach()) != pytest.approx(float(loss), rel=1e-3)


@pytest.mark.parametrize("first", ["random", "adapted"])
def test_the_backbone_starts_at_the_weights_of_a_file(tmp_path, first):
    given = BagNetwork(SMALL, 3, 7).backbone.state_dict()
    old = {k: v for k, v in given.items() if not k.endswith("num_batches_tracked")}
    classifier = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save({**old, **classifier}, tmp_path / "resnet18.pth")
    config = replace(SMALL, start_weights=str(tmp_path / "resnet18.pth"), first_convolution=first)
    featurizer = ResNet18Triplet(config)
    assert featurizer.config.start_weights.startswith("sha256:")
    network, fresh = BagNetwork(SMALL, 2, 0), BagNetwork(SMALL, 2, 0).backbone.state_dict()
    network.start_at(featurizer.paths["start_weights"], first)
    found = network.backbone.state_dict()
    expected = fresh["conv1.weight"] if first == "random" else given["conv1.weight"][:, :2] * 1.5
    torch.testing.assert_close(found["conv1.weight"], expected)
    assert all(torch.equal(found[k], given[k]) for k in old if k != "conv1.weight")


def test_a_start_of_another_network_is_refused(tmp_path):
    tensors = BagNetwork(SMALL, 3, 7).backbone.state_dict()
    torch.save({k: v for k, v in tensors.items() if k != "layer4.0.conv1.weight"}, tmp_path / "cut.pth")
    with pytest.raises(FeaturizerError, match=r"cut.pth lacks 'layer4.0.conv1.weight'"):
        BagNetwork(SMALL, 2, 0).start_at(tmp_path / "cut.pth", "random")
