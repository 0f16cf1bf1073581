"""Image2Omics behind the predictor contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from featurizers.base import Card, FeaturizerError, FieldSource, FitContext, Predictor, Progress, silent
from featurizers.image2omics.config import NAME, PRESETS, Image2OmicsConfig, preset_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.image2omics.model import BagHead
    from featurizers.resnet18_triplet.model import BagNetwork
    from featurizers.training.targets import Targets


class Image2Omics(Predictor):
    """A linear model on the mean of a unit's tiles, each seen by a frozen ResNet18.

    With H the mean over tiles of the backbone's numbers, ŷ = W H + b is trained by AdamW on the squared error
    of standardised readouts (mean and deviation of the training units, divisor n − 1) and undone after
    prediction. The backbone is trained first, by the triplet loss, on the same training units.
    """

    card = Card(
        name=NAME,
        version="1",
        title="Image2Omics: linear model on bags of tiles",
        citation=(
            "Mehrizi et al. 2023, Multi-omics Prediction from High-content Cellular Imaging with Deep "
            "Learning, arXiv 2306.09391 (Image2Omics)"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels in the first convolution; fixed by the training data",
        input_size="tiles around object centres, 32 px (tiny) to 128 px (paper)",
        trained_on="the training units of each outer fold: perturbations by name, then readouts",
        needs=("pixels", "objects"),
        fit_scope="inductive",
        learns_from=("perturbations", "readouts"),
        repeats="first",
    )
    Config = Image2OmicsConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS

    config: Image2OmicsConfig

    def __init__(self, config: Image2OmicsConfig | None = None) -> None:
        super().__init__(config)
        self._path = Path(self.config.weights) if self.config.weights else None
        if self._path is not None:
            from featurizers.foundation.weights import digest

            # the key of stored predictions knows what the file holds and not where it lies
            self.config = replace(self.config, weights=f"sha256:{digest(self._path)}")
        self._network: BagNetwork | None = None
        self._head: BagHead | None = None
        self._targets: Targets | None = None

    def label(self) -> str:
        """Return the name with preset, backbone and steps; the paper does not state its number of steps."""
        config, behind = self.config, "untrained"
        if config.backbone == "triplet":
            behind = f"triplet {config.tiles.steps:,} steps"
        elif config.backbone == "file":
            behind = f"file {config.weights.removeprefix('sha256:')[:8]}"
        return f"{NAME}[{preset_name(config)}, {behind}, head {config.steps:,} steps]"

    def fit(
        self,
        fields: FieldSource,
        unit: NDArray[np.int64],
        targets: NDArray[np.float32],
        table: Any,
        context: FitContext,
    ) -> None:
        """Train the backbone on the wells of ``table``, then the head on ``targets``."""
        from featurizers.image2omics.model import backbone, tile_features
        from featurizers.image2omics.train import train_head
        from featurizers.training.loop import throttled
        from featurizers.training.targets import Targets

        self._targets = Targets.of(targets)
        self._network = backbone(fields, table, self.config, self._path, context)
        features, owner = tile_features(self._network, fields, self.config, throttled(context.report))

        def report(progress: Progress) -> None:
            context.report(replace(progress, stage=f"head, {progress.stage}"))

        workdir = context.workdir / "head"
        workdir.mkdir(exist_ok=True)
        own = replace(context, workdir=workdir, report=report, logs=None)
        self._head = train_head(self._network, features[0], unit[owner], self._targets, self.config, own)

    def predict(self, fields: FieldSource, unit: NDArray[np.int64], n: int) -> NDArray[np.float32]:
        """Return the mean over views and draws of each unit's tiles, NaN for a unit without a tile."""
        import torch

        from featurizers.image2omics.model import bag, tile_features
        from featurizers.passes import in_memory

        if self._network is None or self._head is None or self._targets is None:
            msg = f"{NAME} is not fitted yet; call fit first"
            raise FeaturizerError(msg)
        features, owner = tile_features(self._network, fields, self.config, silent)
        device = self._head.linear.weight.device
        made = np.full((n, self._targets.values.shape[1]), np.nan)
        for row in range(n):
            tiles = np.flatnonzero(unit[owner] == row)
            if not tiles.size:
                continue
            pooled = torch.from_numpy(bag(features, tiles, self.config))
            rows = in_memory(self._head, pooled, device=device, unit="bag").numpy()
            made[row] = rows.mean(axis=0, dtype=np.float64)
        return self._targets.undone(made.astype(np.float32))
