"""Crops on disk: what was cut, the same bytes for any number of processes, each read once."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from bench.__main__ import main
from bench.crops import CropCache, CropConfig, ensure
from bench.datasets import load
from bench.demo import make
from bench.errors import StoreError, UsageError
from bench.execute import Executor
from bench.imaging import field_source
from bench.store import Store
from featurizers.crops import cut

SMALL = CropConfig(size=32, shard_mb=1)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    return make(
        tmp_path_factory.mktemp("crops") / "screen", plates=2, compounds=2, doses=1, seed=1, processes=1
    )


def made(screen, root, config=SMALL, processes=0):
    store = Store(root)
    with Executor(processes) as executor:
        folders, failures = ensure(store, load(screen), config, executor, lambda *_: None)
    return store, folders, failures


@pytest.fixture(scope="module")
def cache(screen, tmp_path_factory):
    store, folders, failures = made(screen, tmp_path_factory.mktemp("crops") / "store")
    assert failures == []
    return store, folders, CropCache(store, folders)


def test_each_crop_is_the_one_that_cutting_its_field_gives(screen, cache):
    _, folders, crops = cache
    assert len(folders) == 2
    assert crops.cells["shard"].nunique() >= 4  # several shards of each plate
    seen = 0
    for field in field_source(load(screen), None, ("pixels", "objects")):
        own = cut(field, 32, background="keep", border="drop")
        rows = crops.cells[
            (crops.cells["Metadata_Plate"] == field.metadata["Metadata_Plate"])
            & (crops.cells["Metadata_Well"] == field.metadata["Metadata_Well"])
        ]
        pixels, inside = crops.take(rows.index.to_numpy())
        assert rows["Metadata_ObjectNumber"].tolist() == own.ids.tolist()
        np.testing.assert_array_equal(pixels, own.pixels)
        np.testing.assert_array_equal(inside, own.inside)
        centres = field.centres[np.searchsorted(field.ids, own.ids)]
        np.testing.assert_allclose(rows[["centre_row", "centre_column"]].to_numpy(), centres)
        seen += len(rows)
    assert seen == len(crops) > 200


def test_two_processes_write_the_bytes_of_none(screen, cache, tmp_path):
    store, folders, _ = cache
    other, same, _ = made(screen, tmp_path / "store", processes=2)
    assert same == folders
    assert [other.manifest(f)["files"] for f in folders] == [store.manifest(f)["files"] for f in folders]


def test_what_is_cut_is_not_cut_again(screen, cache, monkeypatch):
    store, folders, _ = cache
    monkeypatch.setattr("bench.crops.make.cut_plate", lambda *_: pytest.fail("cut again"))
    assert ensure(store, load(screen), SMALL, Executor(0), lambda *_: None) == (folders, [])


def test_a_shuffled_pass_gives_every_crop_once_in_an_order_of_the_seed(cache):
    _, _, crops = cache
    everything, _ = crops.take(range(len(crops)))
    sums = everything.sum(axis=(1, 2, 3))

    def one_pass(seed):
        return np.concatenate([pixels.sum(axis=(1, 2, 3)) for pixels, _ in crops.shuffled(50, seed)])

    first = one_pass(0)
    np.testing.assert_array_equal(np.sort(first), np.sort(sums))
    np.testing.assert_array_equal(first, one_pass(0))
    assert not np.array_equal(first, one_pass(1))


def test_every_setting_gives_another_place(screen, cache, tmp_path):
    _, folders, _ = cache
    _, others, _ = made(screen, tmp_path / "store", CropConfig(size=32, shard_mb=1, background="zero"))
    assert not set(folders) & set(others)


def test_a_lost_field_is_recorded_and_the_plate_goes_on(screen, tmp_path, capsys):
    root = shutil.copytree(screen, tmp_path / "screen")
    lost = sorted((root / "images" / "plate-1").glob("*_ER.tif"))[2]
    lost.unlink()
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "crops",
                "make",
                "--dataset",
                str(root),
                "--store",
                str(tmp_path / "s"),
                "--size",
                "32",
                "--json",
            ]
        )
    assert stop.value.code == 3
    said = json.loads(capsys.readouterr().out)
    assert said["crops"] > 200
    (failure,) = said["failures"]
    assert str(lost) in failure
    assert f"well {lost.name[:3]}" in failure


def test_a_shard_that_was_cut_short_is_refused(cache, tmp_path):
    store, folders, _ = cache
    copy = shutil.copytree(store.root, tmp_path / "store")
    shard = copy / folders[0] / "pixels-0000.bin"
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"pixels-0000\.bin is not as long as its index says"):
        CropCache(Store(copy), folders)


@pytest.mark.parametrize("wrong", [{"border": "cut"}, {"background": "black"}, {"mask": "cell"}, {"size": 0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=r"is one of|must be positive"):
        CropConfig(**wrong)
