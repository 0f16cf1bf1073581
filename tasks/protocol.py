"""How a task is split, tuned and scored: a hashed file of plain settings, so that two scores can be compared.

The files stand in ``tasks/protocols``; any other file with the same settings is a protocol of its own and, by
its hash, a leaderboard of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tasks.base import TaskError
from tasks.menus import LogGrid, Selection, Shares, hint, one_of, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FOLDER",
    "LogGrid",
    "Normalisation",
    "Protocol",
    "Selection",
    "Shares",
    "from_settings",
    "load",
    "names",
]

Label = Literal["honest", "optimistic"]
Split = Literal["grouped", "random-units", "scaffold", "leave-out", "random-splits"]
Controls = Literal["normalise-only"]
Normalisation = Literal["none", "fold", "plate-standardise", "plate-mad", "plate-spherise", "tvn"]
Floor = Literal["training-mean"]
Variance = Literal["measured", "unmeasured"]
Validation = Literal["unused", "train"]

FOLDER = Path(__file__).parent / "protocols"

_CHOICES: dict[str, tuple[str, ...]] = {
    "label": get_args(Label),
    "split": get_args(Split),
    "controls": get_args(Controls),
    "floor": get_args(Floor),
    "variance": get_args(Variance),
    "validation": get_args(Validation),
}
_AT_LEAST = {
    "repeats": 1,
    "outer_folds": 2,
    "inner_folds": 2,
    "min_groups_per_inner_fold": 1,
    "seed": 0,
    "perturbation_folds": 2,
}
_MEASURED_FOLDS = (5, 10)
"""Fewest and most outer folds of the simulations that measured error rates (``docs/statistics.md``)."""

_PCA = re.compile(r"none|components-([1-9][0-9]*)|variance-(0\.[0-9]+)")


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
        ``grouped``: a perturbation is tested as a whole; ``random-units``: units are drawn singly;
        ``scaffold``: perturbations with one Bemis–Murcko scaffold are tested together; ``leave-out``: units
        with one value of ``split_by`` are tested together and, where perturbations stand in several of them,
        by models that saw neither the value nor the perturbation; ``random-splits``: each repeat draws the
        perturbations under test anew (``shares``), and they may be drawn in several repeats or in none.
    repeats, outer_folds, inner_folds
        R, K and the number of inner folds in which everything chosen is chosen. Under ``leave-out`` K is the
        largest number of folds that the values are dealt to; under ``random-splits`` it is 1.
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
        Menu of projections, chosen with the normalisation: ``none``, ``components-N``, or ``variance-0.9``
        (as many components as explain that share of the training units' variance).
    penalties
        Multipliers of a linear head's penalty; the infinite penalty is always added.
    floor
        ``training-mean``, per ``fit_by`` stratum.
    margin
        Smallest difference in mean skill that is called better.
    variance
        Whether the error rates of decisions under this split have been measured; else no interval is shown.
        They were for ``grouped`` splits with 5 to 10 folds and no others, so no other split may claim it.
    split_by
        ``leave-out``: the column whose values are left out; ``scaffold``: the column with SMILES.
    perturbation_folds
        ``leave-out``: folds that the perturbations are dealt to where they stand in several values.
    shares
        Of ``random-splits``.
    validation
        What ``random-splits`` does with the validation share: ``unused``, or ``train``, where it is trained
        on too.
    selection
        Feature selection fitted inside the fold, the same for every entrant.
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
    pca: tuple[str, ...] = ("none",)
    penalties: LogGrid = field(default_factory=LogGrid)
    floor: Floor = "training-mean"
    margin: float = 0.01
    variance: Variance = "unmeasured"
    split_by: str = ""
    perturbation_folds: int = 5
    shares: Shares = field(default_factory=Shares)
    validation: Validation = "unused"
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TaskError("a protocol needs a name")
        if self.schema_version != 1:
            raise TaskError(
                f"protocol {self.name!r} has schema_version {self.schema_version!r}; this version reads 1"
            )
        for key, choices in _CHOICES.items():
            one_of(key, getattr(self, key), choices)
        if not self.normalisation or len(set(self.normalisation)) != len(self.normalisation):
            raise TaskError("protocol setting normalisation must be a list of at least one name, each once")
        for value in self.normalisation:
            one_of("normalisation", value, get_args(Normalisation))
        if not self.pca or len(set(self.pca)) != len(self.pca):
            raise TaskError("protocol setting pca must be a list of at least one projection, each once")
        for projection in self.pca:
            if not isinstance(projection, str) or not _PCA.fullmatch(projection):
                raise TaskError(
                    f"protocol setting pca cannot be {projection!r}; it is none, components-N "
                    "(components-50) or variance-SHARE (variance-0.9)"
                )
        for key, least in _AT_LEAST.items():
            if not (key == "outer_folds" and self.split == "random-splits"):
                whole(key, getattr(self, key), least)
        if self.split == "random-splits" and self.outer_folds != 1:
            raise TaskError('split = "random-splits" has one fold under test per repeat: set outer_folds = 1')
        if (self.split in ("leave-out", "scaffold")) != bool(self.split_by):
            raise TaskError(
                f"split = {self.split!r} with split_by = {self.split_by!r}: leave-out and scaffold need the "
                "name of a column (Metadata_Plate, Metadata_SMILES), the other splits take none"
            )
        if isinstance(self.margin, bool) or not isinstance(self.margin, int | float) or not self.margin >= 0:
            raise TaskError(f"protocol setting margin must be a number of at least 0, not {self.margin!r}")
        if self.split == "random-units" and self.label == "honest":
            raise TaskError(
                'split = "random-units" puts a perturbation in training and test: set label = "optimistic"'
            )
        if self.variance == "measured" and not self._is_measured:
            raise TaskError(
                'variance = "measured" holds for split = "grouped", label = "honest" and '
                f"{_MEASURED_FOLDS[0]} to {_MEASURED_FOLDS[1]} outer folds, not for {self.split!r}, "
                f'{self.label!r} and {self.outer_folds}: set variance = "unmeasured"'
            )

    @property
    def _is_measured(self) -> bool:
        least, most = _MEASURED_FOLDS
        return self.split == "grouped" and self.label == "honest" and least <= self.outer_folds <= most

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain values, ready for JSON.

        Settings that came after the first release are left out where they have their default, so that a
        protocol which does not use them keeps its hash.
        """
        plain: dict[str, Any] = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in _LATER or getattr(self, f.name) != _default(f)
        }
        plain = _plain(plain)
        if self.pca == ("none",):
            plain["pca"] = "none"
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


_LATER = ("split_by", "perturbation_folds", "shares", "validation", "selection")


def _default(own: Any) -> Any:
    return own.default if own.default is not MISSING else own.default_factory()


def _plain(value: Any) -> Any:
    """Dataclasses to tables and tuples to lists, as TOML and JSON have them."""
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, LogGrid | Shares | Selection):
        return _plain(asdict(value))
    return list(value) if isinstance(value, tuple) else value


def from_settings(settings: Mapping[str, Any]) -> Protocol:
    """Return the protocol whose :attr:`Protocol.settings` these are, as a run's record holds them."""
    _known(settings, str(settings.get("name", "")))
    return Protocol(**_typed(settings))


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
        raise TaskError(f"there is no protocol {str(name_or_path)!r}{hint(str(name_or_path), names())}")
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
            raise TaskError(f"protocol {where!r} has no setting {key!r}{hint(key, own)}")


_TABLES: dict[str, type[LogGrid | Shares | Selection]] = {
    "penalties": LogGrid,
    "shares": Shares,
    "selection": Selection,
}


def _typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give lists and tables of a TOML file their types."""
    plain = dict(settings)
    for key in ("normalisation", "pca"):
        if isinstance(plain.get(key), list):
            plain[key] = tuple(plain[key])
    if isinstance(plain.get("pca"), str):
        plain["pca"] = (plain["pca"],)
    for name, kind in _TABLES.items():
        table = plain.get(name)
        if table is None or isinstance(table, kind):
            continue
        own = tuple(f.name for f in fields(kind))
        if not isinstance(table, dict):
            raise TaskError(f"protocol setting {name} must be a table with {', '.join(own)}")
        for key in table:
            if key not in own:
                raise TaskError(f"protocol setting {name} has no entry {key!r}{hint(key, own)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        plain[name] = kind(**values)
    return plain
