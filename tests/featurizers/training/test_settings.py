"""Settings of every trained entrant: each number is refused in one sentence, or is one that can be used."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from typing import get_type_hints

import pytest

from featurizers.base import FeaturizerError
from featurizers.cloome import Cloome
from featurizers.dino import Dino
from featurizers.image2omics import Image2Omics
from featurizers.mae import Mae
from featurizers.resnet18_triplet import ResNet18Triplet
from featurizers.stain import Stain
from featurizers.tide import Tide
from featurizers.unmixing import Unmixing

ENTRANTS = (Cloome, Dino, Image2Omics, Mae, ResNet18Triplet, Stain, Tide, Unmixing)
VALUES = (math.nan, math.inf, -math.inf, -1, -1.0, 0, 1e38, 10**38, 1e39)


def numbers(entrant):
    hints = get_type_hints(entrant.Config)
    return [field.name for field in fields(entrant.Config) if hints[field.name] in (int, float)]


@pytest.mark.parametrize("entrant", ENTRANTS, ids=lambda entrant: entrant.card.name)
def test_a_number_is_refused_by_the_name_of_its_setting_or_is_finite(entrant):
    hints = get_type_hints(entrant.Config)
    for config in entrant.presets.values():
        for name in numbers(entrant):
            for value in VALUES:
                try:
                    taken = getattr(replace(config, **{name: value}), name)
                except FeaturizerError as error:
                    said = str(error)
                    assert said.startswith(f"{entrant.card.name}: "), said
                    assert name in said, said
                    assert "\n" not in said
                else:
                    assert abs(taken) < 3.4e38, (name, value)
                    assert hints[name] is float or isinstance(taken, int), (name, value)


@pytest.mark.parametrize(
    ("entrant", "name", "value", "range_"),
    [
        (Mae, "beta1", 1.0, "lie in [0, 1)"),
        (Mae, "beta2", -0.1, "lie in [0, 1)"),
        (Mae, "mask_ratio", math.nan, "be a number up to 3.4e+38"),
        (Mae, "fourier_weight", 1.5, "lie in [0, 1]"),
        (Mae, "batch", 1.5, "be a whole number up to 2,147,483,647"),
        (Dino, "mlp_ratio", -1.0, "be positive and at most 64"),
        (Tide, "mlp_ratio", -1.0, "be positive and at most 64"),
        (Dino, "min_lr", math.nan, "be a number up to 3.4e+38"),
        (Tide, "min_lr", -1e-6, "lie in [0, 1]"),
        (Dino, "weight_decay_end", math.inf, "be a number up to 3.4e+38"),
        (Tide, "weight_decay_end", -1.0, "be 0 or more"),
        (Dino, "frozen_epochs", -1.0, "be 0 or more"),
        (Tide, "mae_lr", 0.0, "be positive and at most 1, about what a weight moves in one step"),
        (Unmixing, "lr", 1e38, "be positive and at most 1, about what a weight moves in one step"),
    ],
)
def test_a_refusal_names_the_setting_the_value_and_the_range(entrant, name, value, range_):
    with pytest.raises(FeaturizerError, match=re.escape(f"{name} is {value}; it must {range_}")):
        replace(entrant.presets["default"], **{name: value})
