from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from featurizers.base import FeaturizerError
from featurizers.mae import Mae, MaeConfig
from featurizers.mae.config import PRESETS


def test_the_poster_preset_has_the_posters_numbers():
    poster = PRESETS["poster"]
    assert (poster.crop, poster.patch, poster.tokens, poster.visible) == (224, 8, 784, 78)
    assert (poster.dim, poster.depth, poster.heads, poster.decoder_depth) == (768, 12, 12, 1)
    assert (poster.mask_ratio, poster.steps, poster.batch) == (0.9, 100_000, 2_048)
    assert (poster.lr, poster.weight_decay, poster.beta1, poster.beta2) == (1e-4, 0.05, 0.9, 0.95)
    assert (poster.fourier_weight, poster.fourier_norm, poster.warmup_share) == (0.01, "backward", 0.1)
    assert poster.share_of_paper == 1.0


def test_every_preset_masks_nine_tenths_and_the_default_is_tiny():
    assert PRESETS["default"] is PRESETS["tiny"]
    assert all(preset.mask_ratio == 0.9 for preset in PRESETS.values())


def test_a_config_is_plain_data():
    assert all(MaeConfig(**json.loads(json.dumps(asdict(preset)))) == preset for preset in PRESETS.values())


def test_the_label_names_the_preset_and_its_share_of_the_training():
    tiny = PRESETS["tiny"]
    share = 100 * tiny.steps * tiny.batch / (100_000 * 2_048)
    assert Mae().label() == f"mae[tiny, {share:.2g} % of the paper's training]"
    assert Mae(PRESETS["poster"]).label() == "mae[poster, 100 % of the paper's training]"
    assert Mae(replace(tiny, steps=tiny.steps + 1)).preset_name() == "custom"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"crop": 41}, "crop=41 is no multiple of patch"),
        ({"heads": 5}, "dim=.* no multiple of heads"),
        ({"dim": 6, "heads": 1}, "multiple of 4"),
        ({"mask_ratio": 1.0}, "keep at least one"),
        ({"mask_ratio": 0.999}, "keeps 0 of"),
        ({"standardise": "plate"}, "choose one of dataset, field, crop-inside-mask"),
        ({"pooling": "max"}, "choose one of avg, cls"),
        ({"block": 99}, "has blocks 0 to"),
        ({"steps": 0}, "must be positive"),
        ({"batch_fields": 3}, "no multiple of batch_fields=3"),
        ({"clip": -1.0}, "0 or more"),
        ({"fourier_weight": 1.5}, "fourier_weight"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(change, reason):
    with pytest.raises(FeaturizerError, match=reason):
        replace(PRESETS["tiny"], **change)
