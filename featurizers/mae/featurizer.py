"""The masked autoencoder behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

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
from featurizers.mae.config import PRESETS, MaeConfig, preset_name

if TYPE_CHECKING:
    from featurizers.mae.model import MaskedAutoencoder
    from featurizers.training.pixels import Statistics

_SCHEMA = 1
# Settings that may differ between training and use: they say how to read the network or how to compute it.
_FREE = ("block", "pooling", "micro_batch")


class Mae(Featurizer):
    """Vision transformer trained to reconstruct hidden patches of this data set's single-cell crops.

    The encoder sees int(L (1 - r)) of L patches; a one-layer decoder predicts the pixels of the hidden ones.
    With y the patches, m the mask and F the transform of one channel of one patch, the objective is
    (1 - a) Σ m mean (ŷ - y)² / Σ m + a Σ m mean | |F(y)| - |F(ŷ)| | / Σ m, minimised by Lion.
    Embeddings are taken from the encoder without masking, one row per cell.

    Attributes
    ----------
    device
        Where :meth:`embed` computes: ``"cpu"``, or the device of the last :meth:`fit`; may be set.
    """

    card = Card(
        name="mae",
        version="1",
        title="Masked autoencoder with Fourier loss on single-cell crops",
        citation=(
            "He et al. 2022, Masked Autoencoders Are Scalable Vision Learners, CVPR (architecture); "
            "Kraus et al. 2024, Masked Autoencoders for Microscopy are Scalable Learners of Cellular "
            "Biology, CVPR (Fourier loss, optimiser); Chronowski et al., poster on Cell Painting and "
            "proteomics (ViT-B/8 on masked cells, mask ratio 0.9, one-layer decoder)"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels, mixed in one patch embedding; fixed by the training data",
        input_size="single-cell crops, 32 px (tiny) to 224 px (poster)",
        trained_on="the crops of the data set itself, without labels",
        needs=("pixels", "objects"),
        fit_scope="transductive",
    )
    Config = MaeConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    trainable = True
    level = "cell"

    config: MaeConfig

    def __init__(self, config: MaeConfig | None = None) -> None:
        super().__init__(config)
        self.device = "cpu"
        self._model: MaskedAutoencoder | None = None
        self._statistics: Statistics | None = None
        self._channels: tuple[str, ...] = ()

    def label(self) -> str:
        """Return the preset and the share of the poster's training, e.g. ``mae[tiny, 0.037 % of ...]``."""
        percent = 100 * self.config.share_of_paper
        share = np.format_float_positional(percent, precision=2, fractional=False, trim="-")
        return f"mae[{preset_name(self.config)}, {share} % of the paper's training]"

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``mae_000``, ``mae_001``, ...: one per dimension of the encoder, whatever the channels."""
        del channels
        return tuple(f"mae_{k:03d}" for k in range(self.config.dim))

    def fit(self, fields: FieldSource, table: Any, context: FitContext) -> None:
        """Train on the crops of ``fields``; ``table`` is not used.

        A call that finds a checkpoint of the same training in ``context.workdir`` goes on from it and ends in
        the same weights, bit for bit on a CPU with the same number of threads.
        """
        from featurizers.mae.train import train

        del table
        trained = train(fields, self.config, context)
        self._model, self._statistics = trained.model, trained.statistics
        self._channels = tuple(channel.name for channel in fields.channels)
        self.device = context.device

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in the order of fields and ids; a field without a cell has none."""
        from featurizers.mae.embedding import embed_cells

        model = self._fitted()
        for field in fields:
            names = tuple(channel.name for channel in field.channels)
            if names != self._channels:
                msg = (
                    f"mae was trained on the channels {', '.join(self._channels)}, "
                    f"but a field has {', '.join(names)}; fit on this data set or reorder its channels"
                )
                raise FeaturizerError(msg)
        return embed_cells(model.encoder.to(self.device), self.config, self._statistics, fields)

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``mae.json`` (settings, channels, pixel statistics)."""
        from featurizers.training.files import write_json, write_tensors

        model = self._fitted()
        scaling = None if self._statistics is None else self._statistics.as_json()
        write_tensors(folder / "weights.safetensors", model.state_dict())
        write_json(
            folder / "mae.json",
            {
                "schema_version": _SCHEMA,
                "config": asdict(self.config),
                "channels": list(self._channels),
                "statistics": scaling,
            },
        )

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FeaturizerError
            When a file is missing or damaged, or at the first setting, tensor name or shape that differs.
        """
        from featurizers.mae.model import MaskedAutoencoder
        from featurizers.training.files import read_json, read_tensors
        from featurizers.training.pixels import Statistics
        from featurizers.training.schedules import stream

        state = read_json(folder / "mae.json")
        self._check(folder / "mae.json", state)
        model = MaskedAutoencoder(self.config, len(state["channels"]), stream(0, "weights", 0)).eval()
        model.load_state_dict(read_tensors(folder / "weights.safetensors", model.state_dict()), strict=True)
        scaling = state["statistics"]
        self._model, self._channels = model, tuple(state["channels"])
        self._statistics = None if scaling is None else Statistics.from_json(scaling)

    def _check(self, path: Path, state: dict[str, Any]) -> None:
        from featurizers.training.files import check_settings, check_statistics

        keys = ("channels", "statistics")
        check_settings(path, state, "mae", _SCHEMA, asdict(self.config), free=_FREE, keys=keys)
        check_statistics(path, state, needed=self.config.standardise == "dataset")

    def _fitted(self) -> MaskedAutoencoder:
        if self._model is None:
            msg = "mae has no weights yet; call fit or load first"
            raise FeaturizerError(msg)
        return self._model
