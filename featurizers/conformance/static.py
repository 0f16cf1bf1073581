"""Checks that need no image: card, config, presets, columns, cost of the import."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

from featurizers.base import (
    Card,
    Featurizer,
    FeaturizerError,
    FitScope,
    Images,
    Level,
    Need,
    Repeats,
    Role,
    Source,
)
from featurizers.conformance.subject import NotApplicable, Subject, Violation

HEAVY = ("torch", "torchvision", "timm", "tensorflow", "jax", "cellpose", "transformers")
"""Packages that take seconds to import and are needed only once images are embedded."""


_IMPORT = """
import sys
sys.path[:] = {path!r}
try:
    import {name}
except ModuleNotFoundError:  # a plugin file is known by its path only
    import importlib.util
    spec = importlib.util.spec_from_file_location({name!r}, {file!r})
    module = importlib.util.module_from_spec(spec)
    sys.modules[{name!r}] = module
    spec.loader.exec_module(module)
print(*[package for package in {heavy!r} if package in sys.modules])
"""


def card(subject: Subject) -> str:
    """The card is complete and does not contradict the class."""
    found = subject.cls.card
    if not isinstance(found, Card):
        raise Violation(f"card is a {type(found).__name__}; set it to a featurizers.base.Card")
    for entry in dataclasses.fields(Card):
        value = getattr(found, entry.name)
        if isinstance(value, str) and not value.strip():
            raise Violation(f"card.{entry.name} is empty; a reader of the board must know it")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", found.name):
        raise Violation(
            f"card.name {found.name!r} is used in paths and commands; use a-z, 0-9, '.', '_' and '-' only"
        )
    for label, given, known in (
        ("card.needs", set(found.needs), get_args(Need)),
        ("card.learns_from", set(found.learns_from), get_args(Source)),
        ("card.fit_scope", {found.fit_scope}, get_args(FitScope)),
        ("card.role", {found.role}, get_args(Role)),
        ("card.repeats", {found.repeats}, get_args(Repeats)),
        ("card.images", {found.images}, get_args(Images)),
        ("level", {getattr(subject.cls, "level", "field")}, get_args(Level)),
    ):
        if given - set(known):
            raise Violation(f"{label} holds {sorted(given - set(known))}; known are {', '.join(known)}")
    if found.images == "all" and "readouts" not in found.learns_from:
        raise Violation(
            'card.images is "all", which is for one that learns from readouts: add "readouts" to '
            "card.learns_from, or leave card.images out"
        )
    trainable = getattr(subject.cls, "trainable", True)  # a predictor always is
    if trainable == (found.fit_scope == "pretrained"):
        wanted = "'transductive' or 'inductive'" if trainable else "'pretrained'"
        raise Violation(
            f"trainable is {trainable} and card.fit_scope is {found.fit_scope!r}; it must be "
            f"{wanted}, because fit_scope says whether this dataset was seen in training"
        )
    return f"{found.name} {found.version}"


def config(subject: Subject) -> str:
    """Config is a frozen dataclass of plain values, every field with a default."""
    found: Any = getattr(subject.cls, "Config", None)
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        raise Violation("Config is not a dataclass; decorate it with @dataclass(frozen=True, slots=True)")
    if not found.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Violation("Config is not frozen; decorate it with @dataclass(frozen=True, slots=True)")
    missing = dataclasses.MISSING
    for entry in dataclasses.fields(found):
        if entry.default is missing and entry.default_factory is missing:
            raise Violation(f"Config.{entry.name} has no default; give it one")
    for entry in dataclasses.fields(found):
        _check_plain(f"Config.{entry.name}", getattr(found(), entry.name))
    return ", ".join(entry.name for entry in dataclasses.fields(found)) or "no settings"


def _check_plain(name: str, value: Any) -> None:
    """Refuse what JSON cannot hold or the key of the stored features cannot tell apart."""
    if isinstance(value, tuple):
        for item in value:
            _check_plain(name, item)
        return
    if value is not None and not isinstance(value, bool | int | float | str):
        raise Violation(
            f"{name} is a {type(value).__name__}; settings enter the key of the stored features as JSON, so "
            "use numbers, text, None and tuples of those"
        )
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise Violation(f"{name} is {value!r}, which JSON cannot hold; use a finite number") from error


def presets(subject: Subject) -> str:
    """Presets hold ``default``, every one is a valid config, and a wrong config is refused."""
    found = getattr(subject.cls, "presets", None)
    if not isinstance(found, Mapping) or "default" not in found:
        raise Violation("presets is not a mapping with the entry 'default'; add one")
    for name, preset in found.items():
        if not isinstance(preset, subject.cls.Config):
            raise Violation(
                f"preset {name!r} is a {type(preset).__name__}; make it a {subject.cls.Config.__name__}"
            )
        for entry in dataclasses.fields(subject.cls.Config):
            _check_plain(f"preset {name!r}, {entry.name}", getattr(preset, entry.name))
        try:
            subject.cls(preset)
        except FeaturizerError as error:
            raise Violation(f"preset {name!r} is refused by the featurizer itself: {error}") from error
    return ", ".join(found)


def cheap_import(subject: Subject) -> str:
    """Importing the module loads no deep-learning package (measured in a new process)."""
    module = sys.modules.get(subject.cls.__module__)
    path = getattr(module, "__file__", None)
    if path is None:
        raise NotApplicable("its module has no file that a new process could import")
    name = subject.cls.__module__
    script = _IMPORT.format(path=sys.path, name=name, file=str(path), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Violation(f"the module cannot be imported in a new process: {last}")
    heavy = done.stdout.split()
    if heavy:
        raise Violation(
            f"importing {name} imports {', '.join(heavy)}, which makes every command slow; "
            "import it inside the methods that use it"
        )
    return "no heavy package"


def columns(subject: Subject) -> str:
    """Column names are distinct texts, the same on every call, as many as the embedding is wide."""
    widths: dict[int, int] = {}
    featurizer = subject.ready
    for channels in subject.channel_sets:
        names = _columns_or_refusal(featurizer, subject, channels)
        if names is None:
            continue
        if not isinstance(names, tuple) or not all(isinstance(n, str) and n for n in names):
            raise Violation("columns must return a tuple of non-empty texts")
        repeated = [n for n, count in Counter(names).items() if count > 1][:3]
        if repeated:
            raise Violation(f"columns names {', '.join(repeated)} more than once; make the names distinct")
        reserved = [n for n in names if n.startswith("Metadata_")][:3]
        if reserved:
            raise Violation(f"columns names {', '.join(reserved)}; the prefix Metadata_ is kept for metadata")
        if featurizer.columns(channels) != names:
            raise Violation("columns returns other names when it is called again")
        width = featurizer.embed(subject.fields(channels)).values.shape[1]
        if width != len(names):
            raise Violation(
                f"columns returns {len(names)} names and embed {width} columns for "
                f"{len(channels)} channels; return one name per column"
            )
        widths[len(channels)] = width
    return ", ".join(f"{width} of {count}" for count, width in widths.items()) + " channels"


def _columns_or_refusal(featurizer: Featurizer, subject: Subject, channels: Any) -> Any:
    """Return the names, or None where the channel rule refuses all but the last channel set."""
    try:
        return featurizer.columns(channels)
    except FeaturizerError:
        if channels is subject.channel_sets[-1]:
            raise
        return None
