"""The triplet network behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from featurizers.base import (
    Card,
    Channel,
    Embedding,
    Featurizer,
    FeaturizerError,
    Field,
    FieldSource,
    FitContext,
)
from featurizers.resnet18_triplet.config import NAME, PRESETS, TripletConfig, preset_name

if TYPE_CHECKING:
    from featurizers.resnet18_triplet.model import BagNetwork

_SCHEMA = 1
# Settings that may differ between training and use: they say how tiles are drawn when embedding.
_FREE = ("inference_tiles", "inference_seeds", "tta")


class ResNet18Triplet(Featurizer):
    """ResNet18 whose well embeddings bring replicates of a perturbation together.

    With H the mean embedding of a well's tiles and d the squared Euclidean distance, training minimises the
    mean of max(0, d(H, H⁺) - d(H, H⁻) + α) over mined triplets: H⁺ another well of the same perturbation,
    H⁻ a semi-hard well of another. It learns from perturbation labels, so it is refitted in every outer fold.
    """

    card = Card(
        name=NAME,
        version="1",
        title="ResNet18 with a multiple-instance triplet loss",
        citation=(
            "Mehrizi et al. 2023, Multi-omics Prediction from High-content Cellular Imaging with Deep "
            "Learning, arXiv 2306.09391 (Image2Omics); Schroff et al. 2015, FaceNet, CVPR (semi-hard mining)"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels in the first convolution; fixed by the training data",
        input_size="tiles around object centres, 32 px (tiny) to 128 px (paper)",
        trained_on="the training perturbations of each outer fold, by name",
        needs=("pixels", "objects"),
        fit_scope="inductive",
    )
    Config = TripletConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    trainable = True

    config: TripletConfig

    def __init__(self, config: TripletConfig | None = None) -> None:
        super().__init__(config)
        self.device = "cpu"
        self._network: BagNetwork | None = None
        self._channels: tuple[str, ...] = ()

    def label(self) -> str:
        """Return the name with the preset and the steps; the paper does not state its own number of steps."""
        return f"{NAME}[{preset_name(self.config)}, {self.config.steps} steps]"

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``triplet_000``, ...: one per output of the last dense layer."""
        del channels
        return tuple(f"triplet_{k:03d}" for k in range(self.config.dim))

    def fit(self, fields: FieldSource, table: Any, context: FitContext) -> None:
        """Train on the wells of ``table``: one row per well with its plate, name and class columns.

        A call that finds a checkpoint of the same training in ``context.workdir`` goes on from it and ends in
        the same weights, bit for bit on a CPU with the same number of threads.
        """
        from featurizers.resnet18_triplet.train import train

        self._network = train(fields, table, self.config, context)
        self._channels = tuple(channel.name for channel in fields.channels)
        self.device = context.device

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per field with tiles, the bag of its drawn tiles; a field without one has none."""
        from featurizers.resnet18_triplet.embedding import embed_fields
        from featurizers.resnet18_triplet.model import channels_last

        network = self._fitted()
        for field in fields:
            names = tuple(channel.name for channel in field.channels)
            if names != self._channels:
                msg = (
                    f"{NAME} was trained on the channels {', '.join(self._channels)}, "
                    f"but a field has {', '.join(names)}; fit on this data set or reorder its channels"
                )
                raise FeaturizerError(msg)
        # the memory layout decides which convolution runs, hence the last bits: the same after fit and load
        network = channels_last(network.to(self.device))
        return embed_fields(network, self.config, fields, len(self._channels))

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``resnet18-triplet.json`` (settings, channels)."""
        from featurizers.training.files import write_json, write_tensors

        write_tensors(folder / "weights.safetensors", self._fitted().state_dict())
        state = {"schema_version": _SCHEMA, "config": self._settings(), "channels": list(self._channels)}
        write_json(folder / f"{NAME}.json", state)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote; refuse the first setting, tensor name or shape that differs."""
        from featurizers.resnet18_triplet.model import BagNetwork
        from featurizers.training.files import check_settings, read_json, read_tensors

        path = folder / f"{NAME}.json"
        state = read_json(path)
        check_settings(path, state, NAME, _SCHEMA, self._settings(), free=_FREE)
        network = BagNetwork(self.config, len(state["channels"]), 0)
        network.load_state_dict(
            read_tensors(folder / "weights.safetensors", network.state_dict()), strict=True
        )
        self._network, self._channels = network.eval(), tuple(state["channels"])

    def _settings(self) -> dict[str, Any]:
        return asdict(self.config) | {"class_columns": list(self.config.class_columns)}

    def _fitted(self) -> BagNetwork:
        if self._network is None:
            msg = f"{NAME} has no weights yet; call fit or load first"
            raise FeaturizerError(msg)
        return self._network
