"""The learnt unmixing behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from featurizers.base import Card, Channel, Embedding, FeaturizerError, Field, FieldSource, FitContext
from featurizers.fields import where
from featurizers.training.featurizer import Trained, TrainedFeaturizer
from featurizers.unmixing.config import NAME, PRESETS, UnmixingConfig

if TYPE_CHECKING:
    from featurizers.unmixing.model import Unmixer


class Unmixing(TrainedFeaturizer["Unmixer"]):
    """Mean concentrations of K dyes that a learnt matrix unmixes from C channels, pixel by pixel.

    With x the intensities of a pixel, m and s their median and spread over the training pixels and g the
    nonlinearity, a field's row is the mean over its pixels of g(((x - m) / s) U + b). U (C, K) and b are
    trained so that a linear read-out of a well's row predicts all readouts of the training wells at once; the
    read-out is thrown away. It learns from readouts, so it is refitted in every outer fold. It is not Neural
    Stain Learning, which has a matrix per gene and reads transmitted light.
    """

    card = Card(
        name=NAME,
        version="2",
        title="Learnt channel unmixing for fluorescence",
        citation=(
            "Of this benchmark: the fluorescence counterpart of the learnt stain matrix of Dawood et al. "
            "2021, arXiv 2108.10446; linear unmixing of spectral bleed-through as in Zimmermann et al. 2003, "
            "FEBS Letters 546"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels; fixed by the training data",
        input_size="whole field, any size, on a lattice of 1,024 blocks of 2 × 2 pixels",
        trained_on="the readouts of the training perturbations of each outer fold",
        needs=("pixels", "objects"),
        fit_scope="inductive",
        learns_from=("readouts",),
    )
    Config = UnmixingConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS

    config: UnmixingConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``unmixing_000``, ...: one per concentration."""
        return tuple(f"{NAME}_{k:03d}" for k in range(self.config.concentrations or len(channels)))

    def train(self, fields: FieldSource, table: Any, context: FitContext) -> Trained[Unmixer]:
        """Train on the wells of ``table`` that have readouts and on their fields."""
        from featurizers.unmixing.train import train

        return train(fields, table, self.config, context)

    def architecture(self, channels: int) -> Unmixer:
        """Return unmixing and scale of pixels."""
        from featurizers.unmixing.model import Unmixer

        return Unmixer(self.config, channels)

    def rows(self, trained: Trained[Unmixer], fields: Sequence[Field]) -> Embedding:
        """Return one row per field, each computed alone."""
        import torch

        from featurizers.passes import in_memory
        from featurizers.unmixing.pixels import sampled

        network, device = trained.network.to(self.device), torch.device(self.device)
        width = len(network.bias)
        values = np.zeros((len(fields), width), np.float32)
        for k, field in enumerate(fields):
            given = torch.from_numpy(sampled(field, self.config)[None])
            remedy = "lower pixels or concentrations"
            found = in_memory(network, given, device=device, unit="field", remedy=remedy)
            values[k] = found[0].numpy()
            if not np.isfinite(values[k]).all():
                msg = f"{where(field)}: the concentrations are not finite; check its pixels"
                raise FeaturizerError(msg)
        return Embedding(values, np.arange(len(fields), dtype=np.int64))
