"""The triplet network behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from featurizers.base import Card, Channel, Embedding, Field, FieldSource, FitContext
from featurizers.resnet18_triplet.config import NAME, PRESETS, TripletConfig
from featurizers.training.featurizer import Trained, TrainedFeaturizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from featurizers.crops import Crops
    from featurizers.resnet18_triplet.model import BagNetwork


class ResNet18Triplet(TrainedFeaturizer["BagNetwork"]):
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
    free = ("inference_tiles", "inference_seeds", "tta")
    files = ("start_weights",)

    config: TripletConfig

    def extent(self) -> str:
        """Return the steps; the paper does not state its own number of them."""
        return f"{self.config.steps:,} steps"

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``triplet_000``, ...: one per output of the last dense layer."""
        del channels
        return tuple(f"triplet_{k:03d}" for k in range(self.config.dim))

    def train(self, fields: FieldSource, table: Any, context: FitContext) -> Trained[BagNetwork]:
        """Train on the wells of ``table``: one row per well with its plate, name and class columns."""
        from featurizers.resnet18_triplet.train import train

        return Trained(train(fields, table, self.config, context, start=self.paths.get("start_weights")))

    def architecture(self, channels: int) -> BagNetwork:
        """Return backbone and dense layers."""
        from featurizers.resnet18_triplet.model import BagNetwork

        return BagNetwork(self.config, channels, 0)

    def rows(self, trained: Trained[BagNetwork], fields: Sequence[Field]) -> Embedding:
        """Return one row per field with tiles, the bag of its drawn tiles; a field without one has none."""
        from featurizers.resnet18_triplet.embedding import embed_fields
        from featurizers.resnet18_triplet.model import channels_last

        # the memory layout decides which convolution runs, hence the last bits: the same after fit and load
        network = channels_last(trained.network.to(self.device))
        return embed_fields(network, self.config, fields, len(self._channels))

    def crops(self, field: Field) -> Crops:
        """Return a field's tiles, as :class:`featurizers.attribution.Differentiable` asks."""
        from featurizers.resnet18_triplet.tiles import cut_tiles

        return cut_tiles(field, self.config)

    def differentiable(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the rows that tiles have as bags of one: (N, C, S, S) and masks (N, S, S) to (N, D)."""
        import torch

        from featurizers.resnet18_triplet.embedding import tile_views

        self.embed(())  # loads or refuses
        assert self._trained is not None
        network = self._trained.network.to(self.device)
        views = tile_views(network, self.config)

        def rows(pixels: Tensor, inside: Tensor) -> Tensor:
            found: Tensor = torch.stack([network.bag(view) for view in views(pixels, inside)]).mean(dim=0)
            return found

        return rows
