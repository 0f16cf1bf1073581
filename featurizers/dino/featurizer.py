"""Self-distillation behind the featurizer contract."""

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
from featurizers.dino.config import NAME, PRESETS, DinoConfig, preset_name

if TYPE_CHECKING:
    from torch import Tensor

    from featurizers.dino.model import Backbone
    from featurizers.training.pixels import Statistics

_SCHEMA = 1
# Settings that may differ between training and use: they say how to read the network or how to compute it.
_FREE = ("pooling", "micro_batch")


class Dino(Featurizer):
    """Vision transformer that learns to give every view of a cell the distribution that its teacher gives.

    The teacher is the moving average of the student and sees two large views; the student sees those and
    several small ones. With q the teacher's centred and sharpened distribution over prototypes and p the
    student's, the objective is the mean of -Σ q log p over pairs of different views of a cell. No label is
    used. Embeddings are the teacher's class token of the whole crop, one row per cell.
    """

    card = Card(
        name=NAME,
        version="1",
        title="Self-distillation without labels on single-cell crops",
        citation=(
            "Caron et al. 2021, Emerging Properties in Self-Supervised Vision Transformers, ICCV (objective, "
            "head, schedules); Doron et al. 2023, Unbiased single-cell morphology with self-supervised "
            "vision transformers (DINO4Cells: augmentations for many channels)"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels, mixed in one patch embedding; fixed by the training data",
        input_size="single-cell crops, 32 px (tiny) to 224 px (paper)",
        trained_on="the crops of the data set itself, without labels",
        needs=("pixels", "objects"),
        fit_scope="transductive",
    )
    Config = DinoConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    trainable = True
    level = "cell"

    config: DinoConfig

    def __init__(self, config: DinoConfig | None = None) -> None:
        super().__init__(config)
        self.device = "cpu"
        self._backbone: Backbone | None = None
        self._statistics: Statistics | None = None
        self._channels: tuple[str, ...] = ()

    def label(self) -> str:
        """Return the name with the preset and the number of crops seen in training."""
        config = self.config
        return f"{NAME}[{preset_name(config)}, {config.steps:,} steps of {config.batch:,}]"

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``dino_000``, ``dino_001``, ...: one per dimension, whatever the channels."""
        del channels
        return tuple(f"dino_{k:03d}" for k in range(self.config.dim))

    def fit(self, fields: FieldSource, table: Any, context: FitContext) -> None:
        """Train on the crops of ``fields``; ``table`` is not used.

        A call that finds a checkpoint of the same training in ``context.workdir`` goes on from it and ends in
        the same weights, bit for bit on a CPU with the same number of threads.
        """
        from featurizers.dino.train import train

        del table
        trained = train(fields, self.config, context)
        self._backbone, self._statistics = trained.backbone, trained.statistics
        self._channels = tuple(channel.name for channel in fields.channels)
        self.device = context.device

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in the order of fields and ids; a field without a cell has none."""
        from featurizers.passes import embed_cells
        from featurizers.training.pixels import cut_cells, prepare

        backbone, config, statistics = self._fitted(), self.config, self._statistics
        for field in fields:
            names = tuple(channel.name for channel in field.channels)
            if names != self._channels:
                msg = (
                    f"{NAME} was trained on the channels {', '.join(self._channels)}, "
                    f"but a field has {', '.join(names)}; fit on this data set or reorder its channels"
                )
                raise FeaturizerError(msg)
        backbone.to(self.device)

        def forward(pixels: Tensor, inside: Tensor) -> Tensor:
            tokens: Tensor = backbone(prepare(pixels, inside, config, statistics))
            return tokens[:, 0] if config.pooling == "cls" else tokens[:, 1:].mean(dim=1)

        return embed_cells(
            fields,
            lambda field: cut_cells(field, config),
            forward,
            channels=len(self._channels),
            edge=config.crop,
            width=config.dim,
            device=next(backbone.parameters()).device,
        )

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` (the teacher's backbone) and ``dino.json``."""
        from featurizers.training.files import write_json, write_tensors

        write_tensors(folder / "weights.safetensors", self._fitted().state_dict())
        state = {
            "schema_version": _SCHEMA,
            "config": asdict(self.config),
            "channels": list(self._channels),
            "statistics": None if self._statistics is None else self._statistics.as_json(),
        }
        write_json(folder / f"{NAME}.json", state)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote; refuse the first setting, tensor name or shape that differs."""
        from featurizers.dino.model import Backbone
        from featurizers.training.files import check_settings, check_statistics, read_json, read_tensors
        from featurizers.training.pixels import Statistics
        from featurizers.training.schedules import seeded

        path = folder / f"{NAME}.json"
        state = read_json(path)
        keys = ("channels", "statistics")
        check_settings(path, state, NAME, _SCHEMA, asdict(self.config), free=_FREE, keys=keys)
        check_statistics(path, state, needed=self.config.standardise == "dataset")
        with seeded(0, "weights", 0):
            backbone = Backbone(self.config, len(state["channels"]), 0.0)
        tensors = read_tensors(folder / "weights.safetensors", backbone.state_dict())
        backbone.load_state_dict(tensors, strict=True)
        scaling = state["statistics"]
        self._backbone, self._channels = backbone.eval(), tuple(state["channels"])
        self._statistics = None if scaling is None else Statistics.from_json(scaling)

    def _fitted(self) -> Backbone:
        if self._backbone is None:
            msg = f"{NAME} has no weights yet; call fit or load first"
            raise FeaturizerError(msg)
        return self._backbone
