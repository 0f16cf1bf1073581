"""What one ``bench run`` is asked to do: flags over a TOML file over defaults, as plain values."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import UsageError

ALL_CONTROLS = "all"
NO_CONTROLS = "none"
PERMUTED = ("heads", "predictors", "all", "none")


def default_store() -> str:
    """Return the store used when none is named: ``$WELLBENCH_STORE``, else ``wellbench-store`` here."""
    return os.environ.get("WELLBENCH_STORE") or "wellbench-store"


def usable_cores() -> int:
    """Return how many cores this process may use; a scheduler may have given it a few of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings of a run, as ``--print-config`` shows them.

    Parameters
    ----------
    dataset
        Folder or file of a dataset; empty for ``./dataset.toml``, else the demo.
    store
        Folder of the feature store.
    featurizers
        Names, each ``name`` or ``name:preset``; a name may be a table of ready-made profiles.
    tasks, heads, layers
        Names; empty ``heads`` means each task's default, empty ``layers`` every layer the task takes.
    inputs
        What is predicted from: ``image``, ``omics``, ``image+omics``; several meet on one board.
    omics
        The abundance layer that is put in, and that featurizers learn from which learn from readouts; empty
        for the dataset's only one (which learn from the layer that is scored, where it is one).
    labels
        Columns of the wells table that retrieval takes labels from; empty for the mechanism of action.
    protocol
        Name of a shipped protocol, or a TOML file.
    controls
        ``all`` (whatever the dataset allows), ``none``, or names separated by commas.
    permuted
        Which entrants run on permuted labels too: ``heads`` (features, whose head alone is refitted),
        ``predictors`` (refitted whole), ``all``, ``none``.
    overrides
        Featurizer settings by featurizer name, e.g. ``{"mae": {"steps": "300"}}``.
    aggregate
        How cells become wells, for every entrant: ``field-mean``, ``cell-mean`` or ``cell-median``.
    keep_cells
        Keep the rows of single cells beside those of wells.
    seed
        Seeds training and permutations; folds are seeded by the protocol.
    processes
        Worker processes, of one thread each. They change no result.
    threads
        Threads of a training, shared out over its processes; part of what must be equal for equal bytes. No
        worker computes while one trains, so both may be all cores.
    training_processes
        Processes that train one entrant together, each on its share of every batch; with GPUs one for each.
    logs
        Folder for the metrics of trainings; empty: ``logs`` in the store.
    device
        Where training and embedding run.
    plugins
        Files whose entrants are added.
    """

    dataset: str = ""
    store: str = field(default_factory=default_store)
    featurizers: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("regression",)
    heads: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("image",)
    omics: str = ""
    labels: tuple[str, ...] = ()
    protocol: str = "nested-cv"
    controls: str = ALL_CONTROLS
    permuted: str = "heads"
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    aggregate: str = "field-mean"
    keep_cells: bool = False
    seed: int = 0
    processes: int = field(default_factory=usable_cores)
    threads: int = field(default_factory=usable_cores)
    training_processes: int = 1
    logs: str = ""
    device: str = "cpu"
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("processes", 0), ("threads", 1), ("training_processes", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.permuted not in PERMUTED:
            raise UsageError(f"permuted is {self.permuted!r}; it is one of {', '.join(PERMUTED)}")

    def permutes(self, who: str) -> bool:
        """Whether ``heads`` or ``predictors`` are run on permuted labels too."""
        return self.permuted in (who, "all")

    def toml(self) -> str:
        """Return the settings as a TOML file that gives them back."""
        flat = {k: v for k, v in dataclasses.asdict(self).items() if k != "overrides"}
        lines = [f"{key} = {_toml_value(value)}" for key, value in flat.items()]
        for name, values in sorted(self.overrides.items()):
            lines += ["", f"[overrides.{json.dumps(name)}]"]
            lines += [f"{json.dumps(key)} = {_toml_value(value)}" for key, value in sorted(values.items())]
        return "\n".join(lines) + "\n"


def resolve(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Return defaults, overlaid by ``config``, overlaid by every flag that was given (is not None).

    Raises
    ------
    UsageError
        For an unreadable file, an unknown setting (with the nearest name) or a value of the wrong type.
    """
    known = {f.name: f for f in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"cannot read the settings file {config}: {error}") from error
        for name, value in values.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
                raise UsageError(f"{config}: unknown setting {name!r}{hint}")
            values[name] = _typed(name, value, config)
    overrides = {**values.get("overrides", {})}
    for name, changes in (flags.get("overrides") or {}).items():
        overrides[name] = {**overrides.get(name, {}), **changes}
    values |= {k: v for k, v in flags.items() if v is not None}
    values["overrides"] = overrides
    return Settings(**values)


def parse_overrides(words: list[str]) -> dict[str, dict[str, Any]]:
    """Parse ``--set NAME.KEY=VALUE`` words into settings by featurizer name."""
    parsed: dict[str, dict[str, Any]] = {}
    for word in words:
        left, equals, value = word.partition("=")
        name, dot, key = left.partition(".")
        if not (equals and dot and name and key):
            raise UsageError(f"--set takes NAME.KEY=VALUE (for example mae.steps=300), not {word!r}")
        parsed.setdefault(name, {})[key] = value
    return parsed


def _typed(name: str, value: Any, config: Path) -> Any:
    """Return a TOML value in the type of the setting ``name``."""
    default = getattr(Settings(), name)
    if isinstance(default, tuple):
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise UsageError(f"{config}: setting {name!r} takes a list of strings, not {value!r}")
    if type(value) is not type(default):
        kind = type(default).__name__
        raise UsageError(f"{config}: setting {name!r} takes a {kind}, not {value!r}")
    return value


def _toml_value(value: Any) -> str:
    """Return ``value`` in TOML; a JSON string or list of strings is valid TOML as it stands."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
