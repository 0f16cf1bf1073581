"""Which featurizers, predictors, tasks, heads and readers there are, where from, and whether they work.

Entry points of the groups ``wellbench.<kind>`` and the files given by ``--plugin``. Listing imports no
entry point; a plugin that cannot be imported is listed with its reason and takes nothing else down.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from bench.configure import configure, unknown
from bench.errors import BenchError, UsageError
from bench.plugins.files import defined_classes, file_origin, load_file, module_name

if TYPE_CHECKING:
    from bench.datasets.model import Dataset

__all__ = ["KINDS", "Kind", "Listing", "PluginError", "Registry", "configure"]

Kind = Literal["featurizers", "predictors", "tasks", "heads", "readers"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_IN_FILES: tuple[Kind, ...] = ("featurizers", "predictors", "tasks", "heads")

_BASES: dict[Kind, str] = {
    "featurizers": "featurizers.base:Featurizer",
    "predictors": "featurizers.base:Predictor",
    "tasks": "tasks.base:Task",
    "heads": "tasks.base:Head",
    "readers": "bench.imaging.readers:Reader",
}
"""The contract of each kind; imported only when something of that kind is."""


class PluginError(BenchError):
    """A plugin that is registered and does not work: what is wrong with it, where it is from, what to do."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One registered name.

    Parameters
    ----------
    origin
        Distribution and version (``wellbench 0.1.0``), or a file and its hash.
    target
        ``module:attribute``, or the name of the class in a plugin file.
    error
        Why it cannot be used, None as far as is known. :meth:`Registry.probe` finds out.
    """

    name: str
    kind: Kind
    origin: str
    target: str
    error: str | None = None


class Registry:
    """The names that this process knows.

    Parameters
    ----------
    plugins
        Python files whose featurizers, predictors, tasks and heads are registered under their own names.
        They are executed here; a file that fails is listed as broken under each of those kinds. Readers
        are registered by entry points only.
    """

    def __init__(self, plugins: Sequence[str | Path] = ()) -> None:
        self.plugins = tuple(Path(p) for p in plugins)
        self._classes: dict[tuple[Kind, str, str], type] = {}
        self._listed: dict[Kind, list[Listing]] = {kind: [] for kind in KINDS}
        for kind in KINDS:
            self._listed[kind].extend(_entry_point_listings(kind))
        for path in _distinct(self.plugins):
            self._add_file(path)
        for kind in KINDS:
            self._listed[kind] = _marked_collisions(self._listed[kind])

    def listings(self, kind: Kind) -> list[Listing]:
        """Return everything of that kind, by name, without importing any entry point."""
        return list(self._listed[kind])

    def probe(self, kind: Kind) -> list[Listing]:
        """Return everything of that kind after trying to import it; what fails carries its reason."""
        return [self._probed(listing) for listing in self._listed[kind]]

    def get(self, kind: Kind, name: str) -> type[Any]:
        """Import and return the class registered under ``name``.

        Raises
        ------
        UsageError
            When there is no such name, with the nearest one and the whole list.
        PluginError
            When there is one and it cannot be imported, is not what its kind asks for, or is registered
            by two origins.
        """
        found = [listing for listing in self._listed[kind] if listing.name == name]
        if not found:
            raise UsageError(
                unknown(kind[:-1], name, [entry.name for entry in self._listed[kind]]) + _hint(kind)
            )
        return self._load(found[0])

    def available(self, kind: Kind, name: str, dataset: Dataset | None = None) -> str | None:
        """Return why ``name`` cannot be used (on this dataset), or None if it can."""
        try:
            found = self.get(kind, name)
        except PluginError as error:
            return str(error)
        if dataset is None:
            return None
        if kind in ("featurizers", "predictors"):
            return _missing_needs(found.card.needs, dataset)
        if kind != "tasks" or not found.needs_head:  # a task without a head may ask of the wells alone
            return None
        if not any(layer.kind in found.layer_kinds for layer in dataset.layers):
            return f"the dataset has no readout layer of kind {' or '.join(found.layer_kinds)}"
        return None

    def _probed(self, listing: Listing) -> Listing:
        if listing.error is not None:
            return listing
        try:
            self._load(listing)
        except PluginError as error:
            return replace(listing, error=str(error))
        return listing

    def _load(self, listing: Listing) -> type[Any]:
        if listing.error is not None:
            raise PluginError(listing.error)
        key = (listing.kind, listing.name, listing.origin)
        if key not in self._classes:
            try:
                found = _imported(listing.target)
                wrong = _violation(listing.kind, listing.name, found)
            except (Exception, SystemExit) as error:  # whatever a plugin raises on import
                raise PluginError(_broken(listing, f"its import fails with {_brief(error)}")) from error
            if wrong is not None:
                raise PluginError(_broken(listing, wrong))
            self._classes[key] = found
        return self._classes[key]

    def _add_file(self, path: Path) -> None:
        try:
            module = load_file(path)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a plugin raises on import
            reason = (
                f"plugin file {path} is broken: it fails with {_brief(error)}; correct it, or leave it out"
            )
            for kind in _IN_FILES:
                self._listed[kind].append(Listing(path.stem, kind, file_origin(path), path.name, reason))
            return
        origin = file_origin(path)
        count = 0
        for kind in _IN_FILES:
            for found in _defined(kind, module):
                name = _own_name(kind, found)
                listing = Listing(name or found.__name__, kind, origin, found.__name__)
                wrong = _violation(kind, listing.name, found)
                if wrong is not None:
                    listing = replace(listing, error=_broken(listing, wrong))
                self._listed[kind].append(listing)
                self._classes[kind, listing.name, origin] = found
                count += 1
        if count == 0:
            raise UsageError(
                f"--plugin {path}: defines no featurizer, predictor, task or head; derive a class "
                "from featurizers.base.Featurizer or another contract"
            )


def _distinct(plugins: Sequence[Path]) -> list[Path]:
    """Return each file once; two files with one module name cannot be told apart and are refused."""
    files: dict[str, Path] = {}
    for path in {p.resolve(): p for p in plugins}.values():
        other = files.setdefault(module_name(path), path)
        if other is not path:
            raise UsageError(f"--plugin {other} and --plugin {path} have the same name; rename one of them")
    return list(files.values())


def _hint(kind: Kind) -> str:
    """Return what to do when even the built-in names are absent."""
    if any(entry_points(group=f"wellbench.{kind}")) or kind == "predictors":
        return ""
    return "; the distribution 'wellbench' is not installed here, run: pip install -e ."


def _entry_point_listings(kind: Kind) -> list[Listing]:
    found = {
        Listing(point.name, kind, _origin(point), point.value)
        for point in entry_points(group=f"wellbench.{kind}")
    }
    return sorted(found, key=lambda entry: (entry.name, entry.origin, entry.target))


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown distribution"


def _marked_collisions(listings: list[Listing]) -> list[Listing]:
    """Give every listing of a name that several origins claim an error that names them all."""
    by_name: dict[str, list[Listing]] = {}
    for listing in listings:
        by_name.setdefault(listing.name, []).append(listing)
    marked = []
    for name, claims in sorted(by_name.items()):
        if len(claims) == 1:
            marked += claims
            continue
        places = " and by ".join(f"{c.target} of {c.origin}" for c in claims)
        reason = f"{claims[0].kind[:-1]} {name!r} is registered by {places}; rename or remove one of them"
        marked += [replace(claim, error=claim.error or reason) for claim in claims]
    return marked


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _base(kind: Kind) -> type:
    base: type = _imported(_BASES[kind])
    return base


def _defined(kind: Kind, module: Any) -> list[type]:
    """Return the classes of that kind that a plugin's module defines.

    Nothing can derive from a contract that nobody has imported, so an absent one is not imported here.
    """
    if _BASES[kind].partition(":")[0] not in sys.modules:
        return []
    return list(defined_classes(module, _base(kind)))


def _own_name(kind: Kind, found: type[Any]) -> str | None:
    """Return the name that the class gives itself, None if it gives none."""
    if kind in ("featurizers", "predictors"):
        return getattr(getattr(found, "card", None), "name", None)
    name = getattr(found, "name", None)
    return name if isinstance(name, str) else None


def _violation(kind: Kind, name: str, found: Any) -> str | None:
    """Return what keeps ``found`` from being a usable ``kind`` called ``name``, None if nothing does."""
    base = _base(kind)
    if not isinstance(found, type) or not issubclass(found, base):
        return f"it is {found!r}, not a subclass of {_BASES[kind].replace(':', '.')}"
    missing = getattr(found, "__abstractmethods__", ())
    if missing:
        return f"it does not implement {', '.join(sorted(missing))}"
    if kind == "readers":
        return None
    own = _own_name(kind, found)
    place = "card.name" if kind in ("featurizers", "predictors") else "name"
    if own is None:
        return f"it has no {place}"
    if own != name:
        return f"its {place} is {own!r} and it is registered as {name!r}"
    if kind in ("featurizers", "predictors"):
        return _config_violation(found)
    return None


def _config_violation(found: Any) -> str | None:
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        return "its Config is not a dataclass"
    presets = getattr(found, "presets", None)
    if not isinstance(presets, Mapping) or not isinstance(presets.get("default"), config):
        return f"its presets hold no {config.__name__} under 'default'"
    return None


def _missing_needs(needs: Sequence[str], dataset: Dataset) -> str | None:
    """Return which of a card's needs the dataset does not meet, None if it meets all."""
    if dataset.images is None and "pixels" in needs:
        return "the dataset has no images"
    if dataset.images is None and "objects" in needs:
        return "the dataset has no images to find objects in"
    if dataset.latent is None and "latent" in needs:
        return "the dataset has no latent states; only a simulated screen has them"
    return _missing_position(dataset) if "position" in needs else None


def _missing_position(dataset: Dataset) -> str | None:
    from featurizers.position import well_indices

    for column in ("Metadata_Plate", "Metadata_Well"):
        if column not in dataset.wells.columns:
            return f"the wells table has no {column}"
    for well in dataset.wells["Metadata_Well"].unique():
        if well_indices(str(well)) is None:
            return f"the dataset's wells are no plate positions such as A01 (one is {str(well)!r})"
    return None


def _brief(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _broken(listing: Listing, reason: str) -> str:
    return (
        f"{listing.kind[:-1]} {listing.name!r} ({listing.target} of {listing.origin}) is broken: {reason}; "
        "correct, update or uninstall it"
    )
