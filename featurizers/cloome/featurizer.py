"""Contrastive learning of images and molecules behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from featurizers.base import Card, Channel, Embedding, Field, FieldSource, FitContext
from featurizers.cloome.config import NAME, PRESETS, CloomeConfig
from featurizers.training.featurizer import Trained, TrainedFeaturizer

if TYPE_CHECKING:
    from featurizers.cloome.model import Towers

CITATION = (
    "Sanchez-Fernandez et al. 2023, CLOOME: contrastive learning unlocks bioimaging databases for queries "
    "with chemical structures, Nature Communications 14, 7339; Fürst et al. 2022, CLOOB, NeurIPS (objective)"
)


class Cloome(TrainedFeaturizer["Towers"]):
    """Residual network that learns to tell which molecule an image shows the effect of.

    An image tower and a molecule tower give embeddings x_i and y_i of unit length; training minimises
    InfoLOOB(U(x, x), U(y, x)) + InfoLOOB(U(y, y), U(x, y)), where U(state, stored) is what a modern Hopfield
    network retrieves. It learns from the structures of compounds, so it is refitted in every outer fold. A
    row is the image tower's embedding of a field's middle.
    """

    card = Card(
        name=NAME,
        version="1",
        title="Contrastive learning of images and molecules",
        citation=CITATION,
        licence="BSD-3-Clause",
        channel_rule="any number of channels in the first convolution; fixed by the training data",
        input_size="a window of the field, 80 px of it at half size (tiny) to 520 x 696 px (paper)",
        trained_on="images and structures of the training compounds of each outer fold",
        needs=("pixels",),
        fit_scope="inductive",
        learns_from=("perturbations", "structures"),
    )
    Config = CloomeConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    free = ("readout",)

    config: CloomeConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``cloome_000``, ...: one per number that is read of the image tower."""
        del channels
        return tuple(f"cloome_{k:03d}" for k in range(self.config.columns))

    def train(self, fields: FieldSource, table: Any, context: FitContext) -> Trained[Towers]:
        """Train on the wells of ``table``: a row per well with its perturbation and ``Metadata_SMILES``."""
        from featurizers.cloome.train import train

        return train(fields, table, self.config, context)

    def architecture(self, channels: int) -> Towers:
        """Return both towers."""
        from featurizers.cloome.model import Towers

        return Towers(self.config, channels, 0)

    def rows(self, trained: Trained[Towers], fields: Sequence[Field]) -> Embedding:
        """Return one row per field."""
        from featurizers.cloome.embedding import embed_fields
        from featurizers.cloome.images import scaled
        from featurizers.cloome.train import channels_last

        config, towers = self.config, channels_last(trained.network.to(self.device))
        order = range(towers.visual.conv1.in_channels)
        return embed_fields(
            towers.visual,
            config,
            config.grey,
            lambda windows: scaled(windows, config.scaling, trained.statistics),
            fields,
            order,
        )
