"""Neural Stain Learning behind the predictor contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from featurizers.base import Card, Channel, FeaturizerError, FieldSource, FitContext, Predictor, silent
from featurizers.stain.config import NAME, PRESETS, StainConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.stain.model import StainRegressors
    from featurizers.training.targets import Targets

_RGB = (("r", "red"), ("g", "green"), ("b", "blue"))


class Stain(Predictor):
    """Expression from colour alone: a learnt stain matrix and a read-out, 11 numbers per gene.

    The optical density of every pixel is unmixed by a 3 × 3 matrix of the gene's own, bent, averaged over the
    spot and weighted; all genes are trained in one program and share nothing. Readouts are standardised on
    the training units.
    """

    card = Card(
        name=NAME,
        version="1",
        title="Neural Stain Learning",
        citation=(
            "Dawood et al. 2021, All You Need is Color: Image based Spatial Gene Expression Prediction using "
            "Neural Stain Learning, arXiv 2108.10446 (only its abstract was read: the layers are ours); "
            "Ruifrok and Johnston 2001 (stain colours)"
        ),
        licence="BSD-3-Clause",
        channel_rule="exactly red, green and blue of transmitted light (H&E)",
        input_size="whole field, any size, on a lattice of 1,024 pixels",
        trained_on="the readouts of training units of each outer fold",
        needs=("pixels",),
        fit_scope="inductive",
        learns_from=("readouts",),
    )
    Config = StainConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS

    config: StainConfig

    def __init__(self, config: StainConfig | None = None) -> None:
        super().__init__(config)
        self._network: StainRegressors | None = None
        self._targets: Targets | None = None

    def label(self) -> str:
        """Return the name with the reading that it is, and the steps."""
        config = self.config
        return f"{NAME}[{config.learn}, {config.nonlinearity}, {config.readout}, {config.steps:,} steps]"

    def check(self, channels: Sequence[Channel]) -> None:
        """Refuse anything but red, green and blue, in that order."""
        names = [channel.name.lower() for channel in channels]
        if len(names) != 3 or any(name not in known for name, known in zip(names, _RGB, strict=True)):
            msg = (
                f"{NAME} unmixes the stains of an RGB image of transmitted light, and the channels here are "
                f"{', '.join(channel.name for channel in channels)}; it needs R, G and B, in that order"
            )
            raise FeaturizerError(msg)

    def fit(
        self,
        fields: FieldSource,
        unit: NDArray[np.int64],
        targets: NDArray[np.float32],
        table: Any,
        context: FitContext,
    ) -> None:
        """Train every gene; ``table`` is not used."""
        from featurizers.stain.train import train
        from featurizers.training.targets import Targets

        del table
        self.check(fields.channels)
        self._targets = Targets.of(targets)
        self._network = train(fields, unit, self._targets, self.config, context)

    def predict(self, fields: FieldSource, unit: NDArray[np.int64], n: int) -> NDArray[np.float32]:
        """Return the mean over a unit's fields, NaN for a unit without one."""
        from featurizers.stain.train import densities, predict

        if self._network is None or self._targets is None:
            msg = f"{NAME} is not fitted yet; call fit first"
            raise FeaturizerError(msg)
        self.check(fields.channels)
        rows = predict(self._network, densities(fields, self.config, silent)).astype(np.float64)
        total = np.zeros((n, rows.shape[1]))
        np.add.at(total, unit, rows)
        count = np.bincount(unit, minlength=n)[:, None].astype(np.float64)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return self._targets.undone(mean.astype(np.float32))
