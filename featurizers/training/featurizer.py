"""The frame of every trained featurizer: fit, embed, save and load around a network of its own.

An entrant says how it trains, what its network is and how it embeds; which channels it takes, what its files
hold, what is refused and how much training its name admits to are the same for all. Importing this module
loads no torch.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from featurizers.base import Channel, Embedding, Featurizer, FeaturizerError, Field, FieldSource, FitContext

if TYPE_CHECKING:
    from torch import nn

    from featurizers.training.pixels import Statistics

Network = TypeVar("Network", bound="nn.Module")

SCHEMA = 2
WEIGHTS = "weights.safetensors"


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


class TrainedFeaturizer(Featurizer, Generic[Network]):
    """A featurizer whose network is trained here.

    A subclass sets ``card``, ``Config`` and ``presets``, and implements :meth:`columns`, :meth:`train`,
    :meth:`architecture` and :meth:`rows`.

    Attributes
    ----------
    free
        Settings that may differ between training and use: they say how to read the network or how to compute
        it, and change no weight.
    """

    trainable = True
    free: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._trained: Trained[Network] | None = None
        self._channels: tuple[str, ...] = ()

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
        names = (n for n, preset in self.presets.items() if n != "default" and preset == self.config)
        return next(names, "custom")

    def extent(self) -> str:
        """Return how much it is trained, for its name on the board."""
        return f"{self.config.steps:,} steps of {self.config.batch:,}"

    def label(self) -> str:
        """Return the name with the preset and the extent of the training."""
        return f"{self.card.name}[{self.preset_name()}, {self.extent()}]"

    def fit(self, fields: FieldSource, table: Any, context: FitContext) -> None:
        """Train.

        A call that finds a checkpoint of the same training in ``context.workdir`` goes on from it and ends in
        the same weights, bit for bit on a CPU with the same number of threads.
        """
        self._trained = self.train(fields, table, context)
        self._channels = tuple(channel.name for channel in fields.channels)
        self.device = context.device

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per cell or field in the order given; what has no object has no row."""
        trained = self._fitted()
        for field in fields:
            self._check_channels(field.channels)
        return self.rows(trained, fields)

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``NAME.json`` (settings, channels, pixel statistics)."""
        from featurizers.training.files import write_json, write_tensors

        trained = self._fitted()
        write_tensors(folder / WEIGHTS, trained.network.state_dict())
        state = {
            "schema_version": SCHEMA,
            "config": self._settings(),
            "channels": list(self._channels),
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
        keys = ("channels", "statistics")
        files.check_settings(path, state, self.card.name, SCHEMA, self._settings(), free=self.free, keys=keys)
        needed = getattr(self.config, "standardise", "") == "dataset"
        files.check_statistics(path, state, needed=needed)
        network = self.architecture(len(state["channels"]))
        tensors = files.read_tensors(folder / WEIGHTS, network.state_dict())
        network.load_state_dict(tensors, strict=True)
        scaling = state["statistics"]
        self._trained = Trained(network.eval(), None if scaling is None else Statistics.from_json(scaling))
        self._channels = tuple(state["channels"])

    def _settings(self) -> dict[str, Any]:
        """Return the settings as JSON gives them back, tuples as lists."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self.config)))
        return plain

    def _check_channels(self, channels: Sequence[Channel]) -> None:
        names = tuple(channel.name for channel in channels)
        if names != self._channels:
            msg = (
                f"{self.card.name} was trained on the channels {', '.join(self._channels)}, "
                f"but a field has {', '.join(names)}; fit on this data set or reorder its channels"
            )
            raise FeaturizerError(msg)

    def _fitted(self) -> Trained[Network]:
        if self._trained is None:
            msg = f"{self.card.name} has no weights yet; call fit or load first"
            raise FeaturizerError(msg)
        return self._trained
