"""The frame of every trained featurizer: fit, embed, save and load around a network of its own.

An entrant says how it trains, what its network is and how it embeds; which channels it takes, what its files
hold, what is refused and how much training its name admits to are the same for all. Importing this module
loads no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from featurizers.base import Channel, Embedding, Featurizer, FeaturizerError, Field, FieldSource, FitContext

if TYPE_CHECKING:
    from torch import nn

    from featurizers.training.pixels import Statistics

Network = TypeVar("Network", bound="nn.Module")

SCHEMA = 3
WEIGHTS = "weights.safetensors"
_MANIFEST = "manifest.json"  # a store's, beside the weights that it keeps


@dataclass(frozen=True, slots=True, eq=False)
class Trained(Generic[Network]):
    """What a training leaves.

    Parameters
    ----------
    network
        Everything that is stored and that embedding needs, in evaluation mode.
    statistics
        Of the pixels it was trained on; None unless it standardises by the data set.
    """

    network: Network
    statistics: Statistics | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What weights were trained on, as far as the training was told.

    Parameters
    ----------
    channels
        Names, in the order of the images.
    plates
        Names of the plates whose images were seen.
    perturbations
        Those whose labels, structures or readouts were learnt from; empty without any.
    """

    channels: tuple[str, ...]
    plates: tuple[str, ...] = ()
    perturbations: tuple[str, ...] = ()


class TrainedFeaturizer(Featurizer, Generic[Network]):
    """A featurizer whose network is trained here, or was in an earlier training.

    A subclass sets ``card``, ``Config`` and ``presets``, and implements :meth:`columns`, :meth:`train`,
    :meth:`architecture` and :meth:`rows`. Where ``Config`` has the setting ``weights``, it names a folder
    that :meth:`save` wrote; nothing is then trained, and the instance's card says ``pretrained``.

    Attributes
    ----------
    free
        Settings that may differ between training and use: they say how to read the network or how to compute
        it, and change no weight.
    files
        Settings that name a file whose content matters. In the featurizer's own config each is replaced by
        ``sha256:`` and a digest, so that keys know the content and not the place; ``paths`` has the places.
    data_parallel
        Whether :meth:`train` shares each batch among the processes that ``torchrun`` starts
        (:mod:`featurizers.training.parallel`).
    """

    trainable = True
    free: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    data_parallel: ClassVar[bool] = True

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._trained: Trained[Network] | None = None
        self._origin: Origin | None = None
        self.paths = {name: Path(given) for name in self.files if (given := getattr(self.config, name))}
        self._given: Path | None = None
        weights = getattr(self.config, "weights", "")
        if weights:
            self._given = self._weights_folder(Path(weights))
            self.trainable = False
            self.card = replace(self.card, fit_scope="pretrained", trained_on="what its weights were")
        self._name_files_by_content()

    def _weights_folder(self, named: Path) -> Path:
        """Return the folder that ``named`` is, or is the weights of."""
        folder = named if named.is_dir() else named.parent
        files = [folder / WEIGHTS, folder / f"{self.card.name}.json"]
        if named not in (folder, files[0]) or not all(file.is_file() for file in files):
            msg = (
                f"{self.card.name}: weights={named} is no folder that {self.card.name} was saved to after a "
                f"training: it needs {files[0].name} and {files[1].name}"
            )
            raise FeaturizerError(msg)
        return folder

    def _name_files_by_content(self) -> None:
        if not self.paths and self._given is None:
            return
        from featurizers.foundation.weights import digest

        contents = {name: f"sha256:{digest(path)}" for name, path in self.paths.items()}
        if self._given is not None:
            written = {self._given / WEIGHTS, self._given / f"{self.card.name}.json"}
            written |= {path for path in self._given.glob("*.json") if path.name != _MANIFEST}
            each = "".join(digest(path) for path in sorted(written))
            contents["weights"] = f"sha256:{hashlib.sha256(each.encode()).hexdigest()}"
        self.config = replace(self.config, **contents)

    @property
    def _channels(self) -> tuple[str, ...]:
        """Names of the channels it was trained on; none before."""
        return () if self._origin is None else self._origin.channels

    @property
    def given(self) -> Origin | None:
        """What the weights that the settings name were trained on; None for a featurizer that trains here.

        Raises
        ------
        FeaturizerError
            When the weights are not this entrant's with these settings, or are damaged.
        """
        return None if self._given is None else self._fitted()[1]

    @abstractmethod
    def train(self, fields: FieldSource, table: Any, context: FitContext) -> Trained[Network]:
        """Train on ``fields`` and ``table``, or go on from the checkpoint in ``context.workdir``."""

    @abstractmethod
    def architecture(self, channels: int) -> Network:
        """Return the network for images of so many channels; every weight is then replaced.

        It may not move torch's global random state (:func:`featurizers.training.schedules.seeded`).
        """

    @abstractmethod
    def rows(self, trained: Trained[Network], fields: Sequence[Field]) -> Embedding:
        """Embed fields whose channels are those of the training, on ``self.device``."""

    def preset_name(self) -> str:
        """Return the name of the preset that the settings equal, or ``"custom"``."""
        own = self.config if self._given is None else replace(self.config, weights="")
        return next((n for n, preset in self.presets.items() if n != "default" and preset == own), "custom")

    def extent(self) -> str:
        """Return how much it is trained, for its name on the board."""
        return f"{self.config.steps:,} steps of {self.config.batch:,}"

    def label(self) -> str:
        """Return the name with the preset and the extent of the training, and the digest of given weights.

        The harness asks for it before any work, so weights that are missing or wrong are refused here.
        """
        parts = [self.preset_name(), self.extent()]
        if self.given is not None:
            parts.append(f"weights {self.config.weights.removeprefix('sha256:')[:8]}")
        return f"{self.card.name}[{', '.join(parts)}]"

    def fit(self, fields: FieldSource, table: Any, context: FitContext) -> None:
        """Train.

        A call that finds a checkpoint of the same training in ``context.workdir`` goes on from it and ends in
        the same weights, bit for bit on a CPU with the same number of threads.
        """
        if self._given is not None:
            msg = f"{self.card.name} was given weights and is not trained; leave the setting weights out"
            raise FeaturizerError(msg)
        self._trained = self.train(fields, table, context)
        labels = _values(table, "perturbation") if self.card.fit_scope == "inductive" else ()
        channels = tuple(channel.name for channel in fields.channels)
        self._origin = Origin(channels, _values(table, "Metadata_Plate"), labels)
        self.device = context.device

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per cell or field in the order given; what has no object has no row."""
        trained, origin = self._fitted()
        for field in fields:
            self._check_channels(field.channels, origin)
        return self.rows(trained, fields)

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``NAME.json`` (settings, origin, pixel statistics)."""
        from featurizers.training.files import write_json, write_tensors

        trained, origin = self._fitted()
        write_tensors(folder / WEIGHTS, trained.network.state_dict())
        state = {
            "schema_version": SCHEMA,
            "config": self._settings(),
            **asdict(origin),
            "statistics": None if trained.statistics is None else trained.statistics.as_json(),
        }
        write_json(folder / f"{self.card.name}.json", state)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FeaturizerError
            When a file is missing or damaged, or at the first setting, tensor name or shape that differs.
        """
        from featurizers.training import files
        from featurizers.training.pixels import Statistics

        path = folder / f"{self.card.name}.json"
        state = files.read_json(path)
        origin = tuple(f.name for f in dataclasses.fields(Origin))
        keys, free = (*origin, "statistics"), (*self.free, "weights")
        free += self.files if self._given is not None else ()
        files.check_settings(path, state, self.card.name, SCHEMA, self._settings(), free=free, keys=keys)
        needed = getattr(self.config, "standardise", "") == "dataset"
        files.check_statistics(path, state, needed=needed)
        network = self.architecture(len(state["channels"]))
        tensors = files.read_tensors(folder / WEIGHTS, network.state_dict())
        network.load_state_dict(tensors, strict=True)
        scaling = state["statistics"]
        self._trained = Trained(network.eval(), None if scaling is None else Statistics.from_json(scaling))
        self._origin = Origin(**{name: tuple(state[name]) for name in origin})

    def _settings(self) -> dict[str, Any]:
        """Return the settings as JSON gives them back, tuples as lists."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self.config)))
        return plain

    def _check_channels(self, channels: Sequence[Channel], origin: Origin) -> None:
        names = tuple(channel.name for channel in channels)
        if names != origin.channels:
            msg = (
                f"{self.card.name} was trained on the channels {', '.join(origin.channels)}, "
                f"but a field has {', '.join(names)}; fit on this data set or reorder its channels"
            )
            raise FeaturizerError(msg)

    def _fitted(self) -> tuple[Trained[Network], Origin]:
        if self._given is not None and self._trained is None:
            self.load(self._given)
        if self._trained is None or self._origin is None:
            msg = f"{self.card.name} has no weights yet; call fit or load first"
            raise FeaturizerError(msg)
        return self._trained, self._origin


def _values(table: Any, column: str) -> tuple[str, ...]:
    """Return the distinct texts in a column of a data frame, in order; none without table or column."""
    if table is None or column not in table.columns:
        return ()
    return tuple(sorted({str(value) for value in table[column].dropna()}))
