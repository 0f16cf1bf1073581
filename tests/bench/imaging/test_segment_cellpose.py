"""cellpose: never a download, weights in the key, and what the network returns becomes objects.

By default the network is a stand-in that records how it is called; the slow test runs the real
architecture with random weights, which shows that it loads and runs, not how well it segments.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import metadata
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch

from bench.datasets import load
from bench.errors import DatasetError
from bench.imaging import field_source, preprocessing_key, segment_cellpose
from bench.imaging.segment_cellpose import Cellpose


class StandIn:
    """In place of cellpose.models.CellposeModel: one object with a hole in its numbering."""

    made: ClassVar[list[dict]] = []
    calls: ClassVar[list[tuple]] = []

    def __init__(self, **settings):
        self.made.append(settings)
        self.net = torch.nn.Module()
        self.net.W2 = torch.nn.Parameter(torch.zeros(1))

    def eval(self, x, **settings):
        self.calls.append((x, settings))
        labels = np.zeros(x.shape[:2], np.uint16)
        labels[10:20, 10:30], labels[40:60, :15], labels[0, 70] = 1, 3, 4
        return labels, [], []


@pytest.fixture
def weights(tmp_path, monkeypatch):
    models = ModuleType("cellpose.models")
    models.CellposeModel = StandIn
    package = ModuleType("cellpose")
    package.models = models
    monkeypatch.setitem(sys.modules, "cellpose", package)
    monkeypatch.setitem(sys.modules, "cellpose.models", models)
    monkeypatch.setattr(metadata, "version", lambda _: "4.2.1")
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "calls", [])
    segment_cellpose._network.cache_clear()
    path = tmp_path / "cpsam"
    torch.save({"W2": torch.zeros(1)}, path)
    yield path
    segment_cellpose._network.cache_clear()


def with_cellpose(screen, **settings):
    return replace(load(screen), imaging={"method": "cellpose", **settings})


def test_what_the_network_finds_becomes_objects_without_gaps(screen, weights):
    dataset = with_cellpose(screen, weights=str(weights), channels="RNA, DNA", diameter_px=40)
    fields = list(field_source(dataset, dataset.wells.head(2), ("pixels", "objects")))
    assert fields[0].ids.tolist() == [1, 2]  # the third is smaller than min_area_px
    np.testing.assert_allclose(fields[0].centres[0], [14.5, 19.5])
    assert set(fields[0].masks) == {"cells"}
    assert len(StandIn.made) == 1
    assert StandIn.made[0]["pretrained_model"] == str(weights)
    given, settings = StandIn.calls[0]
    np.testing.assert_array_equal(given[..., 0], fields[0].pixels[2])
    np.testing.assert_array_equal(given[..., 1], fields[0].pixels[0])
    assert not given[..., 2].any()
    assert settings["diameter"] == 40.0


def test_border_objects_are_dropped_by_name(screen, weights):
    dataset = with_cellpose(screen, weights=str(weights), border="drop", mask="nuclei")
    field = next(iter(field_source(dataset, dataset.wells.head(1), ("objects",))))
    assert field.ids.tolist() == [1]
    assert set(field.masks) == {"nuclei"}


def test_the_weights_content_is_in_the_key_and_their_place_is_not(screen, weights, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.write_bytes(weights.read_bytes())
    other = tmp_path / "other"
    torch.save({"W2": torch.ones(1)}, other)
    keys = [preprocessing_key(with_cellpose(screen, weights=str(p))) for p in (weights, moved, other)]
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]
    assert str(weights) not in str(keys[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "nothing is downloaded by itself"),
        ({"weights": "no-such-file"}, "no-such-file do not exist; copy"),
        ({"weights": "dataset.toml", "channels": "DNA,GFP"}, "no channel 'GFP'; channels: DNA"),
        ({"weights": "dataset.toml", "channels": "DNA,ER,RNA,AGP"}, "takes at most 3 channels"),
        ({"weights": "dataset.toml", "mask": "cytoplasm"}, "mask is one of cells, nuclei, objects"),
    ],
)
def test_wrong_settings_and_absent_weights_are_refused_before_a_pixel_is_read(screen, settings, words):
    with pytest.raises(DatasetError, match=words):
        field_source(with_cellpose(screen, **settings), None, ("objects",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"conv.weight": torch.zeros(2)}, "holds no Cellpose network"),
        ({"downsample.down.weight": torch.zeros(2)}, "an environment with 'cellpose<4'"),
        (b"not weights", "holds no weights"),
        (Cellpose(), "holds no weights"),  # any object but tensors would have to be executed to be loaded
    ],
)
def test_files_that_are_not_weights_of_this_network_fail_with_the_reason(screen, weights, content, words):
    if isinstance(content, bytes):
        weights.write_bytes(content)
    else:
        torch.save(content, weights)
    reasons = []
    dataset = with_cellpose(screen, weights=str(weights))
    wells = dataset.wells.head(1)
    assert not list(field_source(dataset, wells, ("objects",), lambda _, why: reasons.append(why)))
    assert words in reasons[0]
    assert StandIn.made == []


def test_a_black_field_holds_no_cell_and_is_not_given_to_the_network(weights, tmp_path):
    found = segment_cellpose.cellpose(np.zeros((2, 30, 40), np.uint16), Cellpose(str(weights)), tmp_path)
    assert len(found.ids) == 0
    assert found.masks["cells"].shape == (30, 40)
    assert StandIn.made == []


class StandInThree(StandIn):
    """In place of the model of Cellpose 3."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.net = torch.nn.Module()
        self.net.downsample = torch.nn.Linear(1, 1)


@pytest.fixture
def three(weights, monkeypatch):
    monkeypatch.setattr(sys.modules["cellpose.models"], "CellposeModel", StandInThree)
    monkeypatch.setattr(metadata, "version", lambda _: "3.1.1.2")
    torch.save({f"module.downsample.{name}": torch.zeros(1) for name in ("weight", "bias")}, weights)
    return weights


def test_cellpose_3_gets_one_grey_channel_or_what_is_segmented_with_the_nuclei(three, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4000, (3, 60, 80)).astype(np.uint16)
    for chosen in (pixels[:1], pixels[:2]):
        found = segment_cellpose.cellpose(chosen, Cellpose(str(three), diameter_px=30), tmp_path)
        assert len(found.ids) == 2  # of the three, one is a pixel
    (grey, alone), (image, both) = StandIn.calls
    assert (grey.shape, alone["channels"]) == ((60, 80), [0, 0])
    np.testing.assert_array_equal(image, np.moveaxis(pixels[:2], 0, 2))
    assert (both["channels"], both["channel_axis"], both["diameter"]) == ([1, 2], 2, 30)
    assert "use_bfloat16" not in StandIn.made[0]
    with pytest.raises(DatasetError, match="take one channel, or two"):
        segment_cellpose.cellpose(pixels, Cellpose(str(three)), tmp_path)


def test_weights_of_cellpose_sam_are_refused_by_an_installed_cellpose_3(three, tmp_path):
    torch.save({"W2": torch.zeros(1)}, three)
    with pytest.raises(DatasetError, match="install 'cellpose>=4'"):
        segment_cellpose.check_weights(Cellpose(str(three)), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not metadata.version("cellpose").startswith("3."), reason="needs 'cellpose<4'")
def test_a_real_network_of_cellpose_3_gives_what_cellpose_gives(tmp_path):
    from cellpose import models
    from cellpose.resnet_torch import CPnet

    torch.manual_seed(0)
    path = tmp_path / "mine"
    CPnet([2, 32, 64, 128, 256], nout=3, sz=3).save_model(str(path))
    pixels = np.random.default_rng(0).integers(0, 4000, (2, 96, 120)).astype(np.uint16)
    segment_cellpose._network.cache_clear()
    found = segment_cellpose.cellpose(pixels, Cellpose(str(path), min_area_px=1, flow_threshold=0), tmp_path)
    segment_cellpose._network.cache_clear()
    model = models.CellposeModel(gpu=False, pretrained_model=str(path))
    image = np.moveaxis(pixels, 0, 2).astype(np.float32)
    theirs = model.eval(image, channels=[1, 2], channel_axis=2, min_size=1, flow_threshold=0)[0]
    np.testing.assert_array_equal(found.masks["cells"] > 0, theirs > 0)
    assert len(found.ids) == len(np.unique(theirs[theirs > 0])) > 0


@pytest.mark.slow
@pytest.mark.skipif(metadata.version("cellpose").startswith("3."), reason="needs 'cellpose>=4'")
def test_the_real_architecture_loads_from_a_file_and_runs(tmp_path):
    """300 million random weights: several GB of memory and half a minute."""
    from featurizers.vision import import_torchvision

    import_torchvision()
    from cellpose.vit import CPSAM

    torch.manual_seed(0)
    torch.save(CPSAM().state_dict(), tmp_path / "cpsam")
    segment_cellpose._network.cache_clear()
    pixels = np.random.default_rng(0).integers(0, 4000, (2, 60, 70)).astype(np.uint16)
    found = segment_cellpose.cellpose(pixels, Cellpose(str(tmp_path / "cpsam")), tmp_path)
    segment_cellpose._network.cache_clear()
    assert found.masks["cells"].shape == (60, 70)
    assert len(found.ids) == int(found.masks["cells"].max())
