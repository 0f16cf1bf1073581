"""How a task is split, tuned and scored: a hashed file of plain settings, so that two scores can be compared.

The files stand in ``tasks/protocols``; any other file with the same settings is a protocol of its own and, by
its hash, a leaderboard of its own.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tasks.base import TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

Label = Literal["honest", "optimistic"]
Split = Literal["grouped", "random-units"]
Controls = Literal["normalise-only"]
Normalisation = Literal["fold", "plate-standardise", "plate-mad", "plate-spherise"]
Pca = Literal["none"]
Floor = Literal["training-mean"]
Variance = Literal["measured", "unmeasured"]

FOLDER = Path(__file__).parent / "protocols"

_CHOICES: dict[str, tuple[str, ...]] = {
    "label": get_args(Label),
    "split": get_args(Split),
    "controls": get_args(Controls),
    "pca": get_args(Pca),
    "floor": get_args(Floor),
    "variance": get_args(Variance),
}
_AT_LEAST = {"repeats": 1, "outer_folds": 2, "inner_folds": 2, "min_groups_per_inner_fold": 1, "seed": 0}


@dataclass(frozen=True)
class LogGrid:
    """``num`` values from ``start`` to ``stop``, equally spaced in their logarithm, both ends included."""

    start: float = 1e-3
    stop: float = 1e6
    num: int = 20

    def __post_init__(self) -> None:
        _whole("penalties.num", self.num, 1)
        for name in ("start", "stop"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise TaskError(f"protocol setting penalties.{name} must be a positive number, not {value!r}")
        if self.stop < self.start:
            raise TaskError(
                f"protocol setting penalties.stop ({self.stop}) is below penalties.start ({self.start})"
            )


@dataclass(frozen=True)
class Protocol:
    """A protocol's settings.

    Parameters
    ----------
    name
        Name shown on the board.
    schema_version
        Version of this list of settings.
    label
        ``optimistic`` where a split lets a perturbation stand in training and test; shown wherever the score
        is.
    split
        ``grouped``: a perturbation is tested as a whole; ``random-units``: units are drawn singly.
    repeats, outer_folds, inner_folds
        R, K and the number of inner folds in which everything chosen is chosen.
    min_groups_per_inner_fold
        Every training set must hold at least this many groups (perturbations, or units under
        ``random-units``) per inner fold.
    seed
        Seeds the outer and the inner folds.
    controls
        ``normalise-only``: negative controls fit the plate normalisations and are neither trained on nor
        tested.
    normalisation
        Menu for the wells' features, one of which is chosen per outer fold; see :mod:`tasks.normalise`.
    pca
        ``none``.
    penalties
        Multipliers of a linear head's penalty; the infinite penalty is always added.
    floor
        ``training-mean``, per ``fit_by`` stratum.
    margin
        Smallest difference in mean skill that is called better.
    variance
        Whether the error rates of decisions under this split have been measured; else no interval is shown.
    """

    name: str
    schema_version: int = 1
    label: Label = "honest"
    split: Split = "grouped"
    repeats: int = 5
    outer_folds: int = 5
    inner_folds: int = 4
    min_groups_per_inner_fold: int = 2
    seed: int = 20240
    controls: Controls = "normalise-only"
    normalisation: tuple[Normalisation, ...] = ("fold", "plate-standardise", "plate-spherise")
    pca: Pca = "none"
    penalties: LogGrid = field(default_factory=LogGrid)
    floor: Floor = "training-mean"
    margin: float = 0.01
    variance: Variance = "unmeasured"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TaskError("a protocol needs a name")
        if self.schema_version != 1:
            raise TaskError(
                f"protocol {self.name!r} has schema_version {self.schema_version!r}; this version reads 1"
            )
        for key, choices in _CHOICES.items():
            _one_of(key, getattr(self, key), choices)
        if not self.normalisation or len(set(self.normalisation)) != len(self.normalisation):
            raise TaskError("protocol setting normalisation must be a list of at least one name, each once")
        for value in self.normalisation:
            _one_of("normalisation", value, get_args(Normalisation))
        for key, least in _AT_LEAST.items():
            _whole(key, getattr(self, key), least)
        if isinstance(self.margin, bool) or not isinstance(self.margin, int | float) or not self.margin >= 0:
            raise TaskError(f"protocol setting margin must be a number of at least 0, not {self.margin!r}")
        if self.split == "random-units" and self.label == "honest":
            raise TaskError(
                'split = "random-units" puts a perturbation in training and test: set label = "optimistic"'
            )

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain values, ready for JSON."""
        plain = asdict(self)
        plain["normalisation"] = list(self.normalisation)
        return plain

    @cached_property
    def hash(self) -> str:
        """Sha256 (hex) of the settings as canonical JSON: sorted keys, no spaces, UTF-8."""
        text = json.dumps(self.settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def with_settings(self, **settings: Any) -> Protocol:
        """Return a copy with other settings, and therefore another hash."""
        _known(settings, self.name)
        return replace(self, **_typed(settings))


def names() -> tuple[str, ...]:
    """Return the names of the protocols that ship with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load(name_or_path: str | Path) -> Protocol:
    """Read a protocol by its name (``nested-cv``) or from a TOML file.

    Raises
    ------
    TaskError
        When there is no such protocol, the file is not TOML, or a setting is unknown or wrong.
    """
    given = Path(name_or_path)
    path = given if given.suffix == ".toml" else FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        if given.suffix == ".toml":
            raise TaskError(f"{given}: there is no such protocol file")
        raise TaskError(f"there is no protocol {str(name_or_path)!r}{_hint(str(name_or_path), names())}")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: not a TOML file ({error})") from error
    try:
        _known(settings, str(name_or_path))
        settings.setdefault("name", path.stem)
        return Protocol(**_typed(settings))
    except TaskError as error:
        raise TaskError(f"{path}: {error}") from error


def _known(settings: Mapping[str, Any], where: str) -> None:
    own = tuple(f.name for f in fields(Protocol))
    for key in settings:
        if key not in own:
            raise TaskError(f"protocol {where!r} has no setting {key!r}{_hint(key, own)}")


def _typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give lists and tables of a TOML file their types."""
    plain = dict(settings)
    if isinstance(plain.get("normalisation"), list):
        plain["normalisation"] = tuple(plain["normalisation"])
    grid = plain.get("penalties")
    if grid is not None and not isinstance(grid, LogGrid):
        if not isinstance(grid, dict):
            raise TaskError("protocol setting penalties must be a table with start, stop and num")
        own = tuple(f.name for f in fields(LogGrid))
        for key in grid:
            if key not in own:
                raise TaskError(f"protocol setting penalties has no entry {key!r}{_hint(key, own)}")
        plain["penalties"] = LogGrid(**grid)
    return plain


def _hint(word: str, choices: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(choices)}"


def _one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise TaskError(f"protocol setting {key} cannot be {value!r}{_hint(str(value), choices)}")


def _whole(key: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TaskError(f"protocol setting {key} must be a whole number of at least {least}, not {value!r}")
