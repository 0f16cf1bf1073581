"""Weights that the user has: whose they are, and what they may be used for on a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.entrants import Entrant, kind_of, known
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.datasets import Dataset
    from bench.registry import Kind
    from bench.settings import Settings


def with_weights(settings: Settings, words: Sequence[str]) -> Settings:
    """Return the settings with ``--weights`` FILE or NAME=FILE put in as each featurizer's own setting.

    Raises
    ------
    UsageError
        When a name does not take part, takes no weights, or a file without a name could be for several.
    """
    names = list(dict.fromkeys(word.partition(":")[0] for word in settings.featurizers))
    registry = known(settings.plugins)
    kinds: tuple[Kind, ...] = ("featurizers", "predictors")
    every = {listing.name for kind in kinds for listing in registry.listings(kind)}
    takers = [name for name in names if name in every and takes_weights(settings, name)]
    overrides = {name: dict(own) for name, own in settings.overrides.items()}
    for word in words:
        name, equals, file = word.partition("=")
        if not equals or name not in every:
            if not takers:
                raise UsageError(f"--weights {word}: no entrant named with --featurizer takes weights")
            if len(takers) > 1:
                raise UsageError(
                    f"--weights {word}: {' and '.join(takers)} take weights; say whose these are, "
                    f"for example --weights {takers[0]}={word}"
                )
            name, file = takers[0], word
        if name not in names:
            raise UsageError(f"--weights {word}: {name} does not take part; name it with --featurizer")
        if name not in takers:
            raise UsageError(f"--weights {word}: {name} takes no weights")
        overrides.setdefault(name, {})["weights"] = file
    return dataclasses.replace(settings, overrides=overrides)


def takes_weights(settings: Settings, name: str) -> bool:
    """Return whether an entrant has a setting for weights from a file."""
    registry = known(settings.plugins)
    config = registry.get(kind_of(registry, name), name).Config
    return any(f.name == "weights" for f in dataclasses.fields(config))


def fitting(found: Entrant, dataset: Dataset) -> Entrant:
    """Return the entrant with the fit scope that its given weights have on this dataset.

    Raises
    ------
    BenchError
        When the weights are of other channels, or learnt from labels of this dataset's perturbations: a fold
        would then be tested on what its encoder was told.
    """
    if found.spec is None or found.is_predictor:
        return found
    origin = getattr(found.spec.build(), "given", None)
    if origin is None:
        return found
    channels = tuple(channel.name for channel in dataset.channels)
    if origin.channels != channels:
        raise BenchError(
            f"{found.name}: the weights were trained on the channels {', '.join(origin.channels)}, and "
            f"dataset {dataset.name!r} has {', '.join(channels)}; give weights of these channels, or none"
        )
    told = sorted(set(origin.perturbations) & set(dataset.wells[dataset.perturbation].astype(str)))
    if told:
        raise BenchError(
            f"{found.name}: the weights learnt from the labels of {len(told)} perturbations of dataset "
            f"{dataset.name!r} ({', '.join(told[:3])}{', ...' if len(told) > 3 else ''}), which folds test; "
            "leave --weights out, so that it is refitted in each fold"
        )
    seen = set(origin.plates) & set(dataset.wells["Metadata_Plate"].astype(str))
    return dataclasses.replace(found, fit_scope="transductive") if seen else found
