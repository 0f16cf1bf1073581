"""From a name on the command line to an entrant that can be built again in any process, and its key.

The key holds everything that can change a number (DESIGN: store): entrant, version, code, config,
preprocessing, channels, fit scope, what it was fitted on. The thread count, the device and library versions
are provenance.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.configure import configure, unknown
from bench.errors import BenchError, UsageError
from bench.registry import Registry
from bench.settings import ALL_CONTROLS, NO_CONTROLS, Settings

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets import Dataset
    from bench.registry import Kind
    from featurizers.base import Featurizer, FitScope, Predictor

KEY_SCHEMA = 1
_BY_CONTENT = "sha256:"
AGGREGATIONS = {
    "field-mean": "cells are averaged within a field, then fields within a well",
    "cell-mean": "the mean of all cells of a well",
    "cell-median": "the median of all cells of a well, column by column",
}
"""How the rows of a well's fields become the well's row; with one row per field, a cell is a field."""

DEFAULT_AGGREGATION = "field-mean"

CONTROLS = ("position", "cell-count", "intensity", "untrained", "oracle")
"""Controls that run beside every entrant where the dataset allows."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A featurizer or predictor as plain values: what a worker process needs to build it again.

    ``kind`` says which of the two; ``aggregate`` is one of :data:`AGGREGATIONS`; with ``cells`` the rows of
    single cells are kept too.
    """

    name: str
    preset: str = "default"
    overrides: tuple[tuple[str, Any], ...] = ()
    plugins: tuple[str, ...] = ()
    aggregate: str = DEFAULT_AGGREGATION
    cells: bool = False
    kind: Kind = "featurizers"

    def build(self) -> Featurizer:
        """Return the configured featurizer, without weights."""
        cls = known(self.plugins).get("featurizers", self.name)
        featurizer: Featurizer = cls(configure(cls, self.preset, dict(self.overrides)))
        return featurizer

    def build_predictor(self) -> Predictor:
        """Return the configured predictor, not fitted."""
        cls = known(self.plugins).get("predictors", self.name)
        predictor: Predictor = cls(configure(cls, self.preset, dict(self.overrides)))
        return predictor


@functools.lru_cache(maxsize=4)
def known(plugins: tuple[str, ...]) -> Registry:
    """Return the registry with these plugin files; each is executed once per process."""
    return Registry(plugins)


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who takes part: a featurizer by its spec, or a table of ready-made profiles (no spec).

    ``inputs`` says what it predicts from: see :mod:`bench.inputs`.
    """

    name: str
    label: str
    role: str
    fit_scope: FitScope
    preset: str
    card: Mapping[str, Any] = field(default_factory=dict)
    spec: Spec | None = None
    inputs: str = "image"

    @property
    def trainable(self) -> bool:
        """Whether it is fitted before it embeds."""
        return self.spec is not None and not self.is_predictor and self.spec.build().trainable

    @property
    def is_predictor(self) -> bool:
        """Whether it gives readouts itself, without features and a head."""
        return self.spec is not None and self.spec.kind == "predictors"

    @property
    def reads_images(self) -> bool:
        """Whether image files are opened for it."""
        return reads_images(self.card.get("needs", ()))


def resolve(settings: Settings, dataset: Dataset) -> tuple[list[Entrant], dict[str, str]]:
    """Return the entrants asked for with their controls, and the controls that cannot run with the reason.

    Raises
    ------
    UsageError
        For an unknown name, with the nearest one, and for settings of an entrant that does not take part.
    BenchError
        For an entrant that was named and cannot run on this dataset.
    """
    from bench.given import fitting

    registry = known(settings.plugins)
    names = [listing.name for listing in registry.listings("featurizers")]
    predictors = [listing.name for listing in registry.listings("predictors")]
    tables = [table.name for table in dataset.features]
    entrants: dict[str, Entrant] = {}
    for word in settings.featurizers:
        name = word.partition(":")[0]
        if name in tables:
            entrants[word] = Entrant(name, name, "entrant", "pretrained", "imported", {"name": name})
            continue
        if name not in (*names, *predictors):
            raise UsageError(
                unknown("featurizer, predictor or table of profiles", name, [*names, *predictors, *tables])
            )
        kind = kind_of(registry, name)
        reason = registry.available(kind, name, dataset)
        if reason is not None:
            raise BenchError(f"{kind[:-1]} {name!r} cannot run on dataset {dataset.name!r}: {reason}")
        entrants[word] = fitting(entrant(word, settings, named=True), dataset)
    missing: dict[str, str] = {}
    for name in _controls(settings, names):
        reason = registry.available("featurizers", name, dataset)
        if reason is not None:
            missing[name] = reason
        elif name not in entrants:
            entrants[name] = entrant(name, settings, named=False)
    strangers = set(settings.overrides) - {entrant.name for entrant in entrants.values()}
    if strangers:
        listed = ", ".join(sorted(strangers))
        raise UsageError(
            f"there are settings for {listed}, which do not take part; name them with --featurizer"
        )
    return _told_apart(entrants), missing


def _told_apart(entrants: Mapping[str, Entrant]) -> list[Entrant]:
    """Return the entrants with names that differ on the board.

    Raises
    ------
    UsageError
        When two words mean the same entrant.
    """
    apart: dict[str, Entrant] = {}
    words: dict[str, str] = {}
    for word, own in entrants.items():
        other = apart.get(own.label)
        if other is not None and (own.name, own.card) == (other.name, other.card):
            raise UsageError(f"--featurizer {words[own.label]} and {word} are the same entrant; name it once")
        label = own.label if other is None else f"{own.label}, from {own.preset}"
        apart[label], words[label] = dataclasses.replace(own, label=label), word
    return list(apart.values())


def _controls(settings: Settings, names: list[str]) -> list[str]:
    if settings.controls in (ALL_CONTROLS, NO_CONTROLS):
        return list(CONTROLS) if settings.controls == ALL_CONTROLS else []
    chosen = [name.strip() for name in settings.controls.split(",") if name.strip()]
    for name in chosen:
        if name not in names:
            raise UsageError(unknown("control", name, [*names, ALL_CONTROLS, NO_CONTROLS]))
    return chosen


def entrant(word: str, settings: Settings, *, named: bool) -> Entrant:
    """Build the entrant; a control that was named with ``--featurizer`` takes part as an entrant."""
    name, _, preset = word.partition(":")
    overrides = tuple(sorted(settings.overrides.get(name, {}).items()))
    spec = Spec(
        name,
        preset or "default",
        overrides,
        settings.plugins,
        settings.aggregate,
        settings.keep_cells,
        kind_of(known(settings.plugins), name),
    )
    built: Featurizer | Predictor
    if spec.kind == "predictors":
        built = spec.build_predictor()
        facts: dict[str, Any] = {}
    else:
        built = spec.build()
        facts = {"aggregation": spec.aggregate}
    changed = [f"{key}={value}" for key, value in _told(built.config, overrides)]
    if spec.kind == "featurizers" and spec.aggregate != DEFAULT_AGGREGATION:
        changed.append(spec.aggregate)
    card = built.card
    return Entrant(
        name=name,
        label=", ".join([built.label(), *changed]),
        role="entrant" if named and card.role == "control" else card.role,
        fit_scope=card.fit_scope,
        preset=spec.preset,
        card=dataclasses.asdict(card) | {"config": dataclasses.asdict(built.config)} | facts,
        spec=spec,
    )


def _told(config: Any, overrides: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return settings for a name on the board: a file by what it holds; weights stand in the name already."""
    told = []
    for key, value in overrides:
        held = str(getattr(config, key, ""))
        if not held.startswith(_BY_CONTENT):
            told.append((key, value))
        elif key != "weights":
            told.append((key, held.removeprefix(_BY_CONTENT)[:8]))
    return told


def kind_of(registry: Registry, name: str) -> Kind:
    """Return what ``name`` is: a predictor where only predictors have it, else a featurizer."""
    if any(listing.name == name for listing in registry.listings("featurizers")):
        return "featurizers"
    predictors = {listing.name for listing in registry.listings("predictors")}
    return "predictors" if name in predictors else "featurizers"


def reads_images(needs: Iterable[str]) -> bool:
    """Whether a featurizer with these needs has image files opened for it."""
    return bool({"pixels", "objects"} & set(needs))


def frame_digest(frame: pd.DataFrame) -> str:
    """Return the sha256 of a table's column names and values in order; missing values count as such."""
    import pandas as pd

    sha = hashlib.sha256()
    for name in frame.columns:
        sha.update(f"{name}\x1f{frame[name].dtype.kind}\x1e".encode())
        sha.update(pd.util.hash_array(frame[name].to_numpy(), categorize=False).tobytes())
    return sha.hexdigest()


def weights_document(
    spec: Spec, featurizer: Featurizer, dataset: Dataset, images: str, seed: int, fold: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what determines the weights of a trainable featurizer.

    ``images`` is the digest of the training images' contents; ``fold`` names the outer fold and the digest of
    the training table for an inductive one, None for one fitted on the whole dataset.
    """
    return _common(spec, featurizer, dataset) | {
        "kind": "weights",
        "images": images,
        "seed": seed,
        "fold": fold,
    }


def feature_document(
    spec: Spec, featurizer: Featurizer, dataset: Dataset, weights: str | None, fold: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what determines the features, apart from the images of each plate (the part's own key)."""
    document = _common(spec, featurizer, dataset) | {
        "kind": "features",
        "weights": weights,
        "fold": dict(fold) if fold is not None else None,
        "aggregation": spec.aggregate,
    }
    return document | {"cells": True} if spec.cells else document


def predictor_document(
    spec: Spec, predictor: Predictor, dataset: Dataset, images: str, seed: int
) -> dict[str, Any]:
    """Return what determines the fits of a predictor, besides problem and fold; ``images`` as for weights."""
    return _common(spec, predictor, dataset) | {"kind": "predictor", "images": images, "seed": seed}


def _common(spec: Spec, featurizer: Featurizer | Predictor, dataset: Dataset) -> dict[str, Any]:
    from bench.imaging import preprocessing_key
    from bench.store import code_digest

    opens_images = reads_images(featurizer.card.needs)
    return {
        "schema": KEY_SCHEMA,
        "entrant": spec.name,
        "version": featurizer.card.version,
        "code": code_digest(type(featurizer)),
        "config": dataclasses.asdict(featurizer.config),
        "precision": "float32",
        "preprocessing": preprocessing_key(dataset) if opens_images else None,
        "channels": [c.name for c in dataset.channels] if opens_images else None,
        "fit_scope": featurizer.card.fit_scope,
    }
