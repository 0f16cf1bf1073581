from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurizers.base import Channel, FeaturizerError, FitContext
from featurizers.mae import Mae
from tests.featurizers.training.fields import CHANNELS, Source, make_field


@pytest.fixture
def fitted(source, config, tmp_path) -> Mae:
    (tmp_path / "work").mkdir()
    featurizer = Mae(config)
    featurizer.fit(source, None, FitContext(tmp_path / "work"))
    return featurizer


def saved(featurizer: Mae, folder: Path) -> Path:
    folder.mkdir()
    featurizer.save(folder)
    return folder


def test_importing_the_package_loads_no_torch():
    code = (
        "import featurizers.mae, featurizers.untrained, sys; assert not {'torch', 'timm'} & set(sys.modules)"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_there_is_one_finite_row_per_cell_with_its_field_and_id(fitted, source):
    fields = [*source.fields[:2], make_field(9, cells=0), source.fields[2]]
    found = fitted.embed(fields)
    assert found.values.shape == (12, len(fitted.columns(CHANNELS)))
    assert found.values.dtype == np.float32
    assert np.isfinite(found.values).all()
    assert found.field.tolist() == [0] * 4 + [1] * 4 + [3] * 4
    assert found.object.tolist() == [1, 2, 3, 4] * 3
    assert len(np.unique(found.values, axis=0)) == 12


def test_fields_without_cells_give_no_rows(fitted):
    for fields in ([], [make_field(9, cells=0)]):
        found = fitted.embed(fields)
        assert found.values.shape == (0, 16)
        assert (len(found.field), len(found.object)) == (0, 0)


def test_rows_do_not_depend_on_the_company(fitted, monkeypatch):
    fields = [make_field(seed) for seed in range(20)]
    together = fitted.embed(fields).values
    alone = np.concatenate([fitted.embed([field]).values for field in fields])
    backwards = fitted.embed(fields[::-1]).values.reshape(20, 4, -1)[::-1].reshape(80, -1)
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(backwards, together, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fitted.embed(fields).values, together)


def test_embedding_ignores_what_lies_outside_the_cell(fitted, source):
    field = source.fields[0]
    noise = np.random.default_rng(0).integers(0, 60_000, field.pixels.shape).astype(np.uint16)
    other = replace(field, pixels=np.where(field.masks["cells"] > 0, field.pixels, noise))
    np.testing.assert_array_equal(fitted.embed([other]).values, fitted.embed([field]).values)


def test_a_cell_turned_into_another_cell_changes_its_own_row_only(fitted, source):
    field = source.fields[0]
    other = replace(field, pixels=np.where(field.masks["cells"] == 2, field.pixels // 2, field.pixels))
    changed = np.abs(fitted.embed([other]).values - fitted.embed([field]).values).max(axis=1) > 1e-4
    assert changed.tolist() == [False, True, False, False]


def test_pooling_and_block_choose_what_is_read(fitted, source, tmp_path):
    folder = saved(fitted, tmp_path / "weights")
    rows = {"avg": fitted.embed(source.fields).values}
    for name, change in {"cls": {"pooling": "cls"}, "block 0": {"block": 0}}.items():
        reader = Mae(replace(fitted.config, **change))
        reader.load(folder)
        rows[name] = reader.embed(source.fields).values
    assert not np.allclose(rows["avg"], rows["cls"])
    assert not np.allclose(rows["avg"], rows["block 0"])


def test_saved_weights_give_the_same_rows(fitted, source, tmp_path):
    reader = Mae(fitted.config)
    reader.load(saved(fitted, tmp_path / "weights"))
    np.testing.assert_array_equal(reader.embed(source.fields).values, fitted.embed(source.fields).values)
    again = saved(reader, tmp_path / "again")
    for path in (tmp_path / "weights").iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"dim": 32}, "dim"),
        ({"depth": 3}, "depth"),
        ({"standardise": "field"}, "standardise"),
        ({"steps": 9}, "steps"),
    ],
)
def test_weights_of_other_settings_are_refused_by_name(fitted, tmp_path, change, name):
    folder = saved(fitted, tmp_path / "weights")
    with pytest.raises(FeaturizerError, match=f"trained with {name}="):
        Mae(replace(fitted.config, **change)).load(folder)


def test_damaged_weights_are_refused_and_leave_the_featurizer_unfitted(fitted, source, tmp_path):
    folder = saved(fitted, tmp_path / "weights")
    path = folder / "weights.safetensors"
    whole = path.read_bytes()
    reader = Mae(fitted.config)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeaturizerError, match="damaged"):
        reader.load(folder)
    path.unlink()
    with pytest.raises(FeaturizerError, match="missing"):
        reader.load(folder)
    with pytest.raises(FeaturizerError, match="call fit or load"):
        reader.embed(source.fields)


def test_weights_for_other_channels_are_refused(fitted, tmp_path):
    folder = saved(fitted, tmp_path / "weights")
    settings = folder / "mae.json"
    state = json.loads(settings.read_text())
    three = {name: [1.0, 1.0, 1.0] for name in ("mean", "std")}
    settings.write_text(json.dumps({**state, "channels": ["DNA", "ER", "RNA"], "statistics": three}))
    with pytest.raises(FeaturizerError, match=r"encoder.embed.weight.*number of channels|predict.*channels"):
        Mae(fitted.config).load(folder)


@pytest.mark.parametrize("scaling", [None, {"mean": [1.0], "std": [1.0]}])
def test_pixel_statistics_that_do_not_fit_the_channels_are_refused(fitted, tmp_path, scaling):
    settings = saved(fitted, tmp_path / "weights") / "mae.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "statistics": scaling}))
    with pytest.raises(FeaturizerError, match="one mean and one std per channel"):
        Mae(fitted.config).load(settings.parent)


def test_fields_with_other_channels_are_refused(fitted, source):
    field = source.fields[0]
    renamed = replace(field, channels=(Channel("ER"), Channel("DNA")))
    more = replace(field, channels=(*CHANNELS, Channel("RNA")), pixels=field.pixels[[0, 1, 1]])
    for wrong in (renamed, more):
        with pytest.raises(FeaturizerError, match="trained on the channels DNA, ER"):
            fitted.embed([wrong])


def test_one_channel_trains_and_embeds(config, tmp_path):
    fields = [make_field(seed) for seed in range(3)]
    fields = [replace(f, channels=CHANNELS[:1], pixels=f.pixels[:1]) for f in fields]
    featurizer = Mae(config)
    featurizer.fit(Source(fields, CHANNELS[:1]), None, FitContext(tmp_path))
    assert featurizer.embed(fields).values.shape == (12, 16)


def test_nothing_can_be_saved_or_embedded_before_a_fit(config, tmp_path):
    with pytest.raises(FeaturizerError, match="call fit or load"):
        Mae(config).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_how_it_is_fitted():
    assert (Mae.card.fit_scope, Mae.card.role, Mae.level) == ("transductive", "entrant", "cell")
    assert Mae.card.needs == ("pixels", "objects")
