from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurizers.base import FeaturizerError, Field, silent
from featurizers.training import cropfile
from featurizers.training.cropfile import CropFile, discard
from featurizers.training.pixels import cut_cells
from tests.featurizers.training.fields import Source, make_field


def collect(source, config, seed, folder, report) -> CropFile:
    return cropfile.collect(
        source,
        lambda field: cut_cells(field, config),
        {"mask": config.mask},
        folder,
        report,
        name="mae",
        crop=config.crop,
        seed=seed,
        crops_per_field=config.crops_per_field,
    )


def test_the_file_holds_every_crop_in_order(source, config, tmp_path):
    found = collect(source, config, 0, tmp_path, silent)
    expected = [cut_cells(field, config) for field in source]
    np.testing.assert_array_equal(found.pixels, np.concatenate([c.pixels for c in expected]))
    np.testing.assert_array_equal(found.inside, np.concatenate([c.inside for c in expected]))
    assert found.field.tolist() == [k for k in range(6) for _ in range(4)]
    assert found.wells == tuple(("P1", f"A{k:02d}") for k in range(6))


def test_statistics_are_mean_and_deviation_of_the_object_pixels(source, config, tmp_path):
    found = collect(source, config, 0, tmp_path, silent)
    statistics = found.statistics()
    for channel in range(2):
        values = np.concatenate([p[channel][i] for p, i in zip(found.pixels, found.inside, strict=True)])
        assert statistics.mean[channel] == pytest.approx(values.astype(np.float64).mean(), rel=1e-6)
        assert statistics.std[channel] == pytest.approx(values.astype(np.float64).std(), rel=1e-6)


def test_a_complete_file_is_not_collected_again(source, config, tmp_path):
    collect(source, config, 0, tmp_path, silent)
    collect(source, config, 0, tmp_path, silent)
    assert source.read == 1


class Interrupted(Source):
    def __iter__(self):
        self.read += 1
        yield from self.fields[:2]
        if self.read == 1:
            raise KeyboardInterrupt
        yield from self.fields[2:]


def test_an_interrupted_collection_is_made_anew(source, config, tmp_path):
    stopped = Interrupted(source.fields)
    with pytest.raises(KeyboardInterrupt):
        collect(stopped, config, 0, tmp_path, silent)
    found = collect(stopped, config, 0, tmp_path, silent)
    assert stopped.read == 2
    assert len(found.pixels) == 24


def test_crops_cut_in_another_way_are_refused(source, config, tmp_path):
    collect(source, config, 0, tmp_path, silent)
    with pytest.raises(FeaturizerError, match="another data set or setting"):
        collect(source, replace(config, mask="nuclei"), 0, tmp_path, silent)
    discard(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_crops_per_field_limits_each_field_and_depends_on_the_seed(source, config, tmp_path):
    config = replace(config, crops_per_field=2)
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    first, again, other = (
        np.array(collect(source, config, seed, folder, silent).pixels)
        for seed, folder in zip((0, 0, 1), folders, strict=True)
    )
    assert len(first) == 2 * len(source)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fields_without_any_object_cannot_train(config, tmp_path):
    empty: list[Field] = [make_field(seed, cells=0) for seed in range(3)]
    with pytest.raises(FeaturizerError, match="none of 3 fields has an object"):
        collect(Source(empty), config, 0, tmp_path, silent)
