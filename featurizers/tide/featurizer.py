"""Intervention-aware distillation behind the featurizer contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from featurizers.base import Card, Channel, Embedding, FeaturizerError, Field, FieldSource, FitContext
from featurizers.tide.config import NAME, PRESETS, TideConfig
from featurizers.training.featurizer import Trained, TrainedFeaturizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from featurizers.crops import Crops
    from featurizers.tide.model import Reader

DRUGS = "interventions.json"


class Tide(TrainedFeaturizer["Reader"]):
    """Image encoder that learns from transcriptomes which drug it looks at, and needs none afterwards.

    A codebook V has a row per training drug. The teacher h_t sees the image with its dose, a transcriptome of
    the same drug with its own dose, and basal expression; the student h_s sees the image. With
    P = softmax(V h / (τ ‖h‖)) and y the true drug, training minimises
    KL(P_t ‖ P_s) - α log P_t(y) + β L_ssl, the last on all images, paired or not. Without a pair it is L_ssl
    alone. It learns from perturbations, structures and readouts, so it is refitted in every outer fold.
    """

    card = Card(
        name=NAME,
        version="2",
        title="Intervention-aware distillation from transcriptomes",
        citation=(
            "Chen, Liu, Gu & Zhang 2026, Intervention-Aware Multiscale Representation Learning from Imaging "
            "Phenomics and Perturbation Transcriptomics, CVPR, arXiv 2604.22832 (TIDE); Caron et al. 2021, "
            "ICCV (DINO), and He et al. 2022, CVPR (masked autoencoder), for the self-supervised term"
        ),
        licence="BSD-3-Clause",
        channel_rule="any number of channels, mixed in one patch embedding; fixed by the training data",
        input_size="single-cell crops, 32 px (tiny) to 224 px (paper)",
        trained_on=(
            "the training perturbations of each outer fold: images, names, structures and paired readouts; "
            "images of perturbations that no fold tests"
        ),
        needs=("pixels", "objects"),
        fit_scope="inductive",
        learns_from=("perturbations", "structures", "readouts"),
        images="all",
    )
    Config = TideConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    level = "cell"
    free = ("micro_batch",)
    files = ("transcriptome",)

    config: TideConfig

    interventions: tuple[str, ...] = ()
    """Drugs of the codebook, in the order of its rows; none where there were no pairs."""

    unpaired: tuple[str, ...] = ()
    """Plate and name of the wells that no intervention was named for: their images alone were learnt from."""

    checks: tuple[tuple[int, float], ...] = ()
    """Steps and accuracies of the checks that the checkpoint was chosen by; none for the last step."""

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return ``tide_000``, ...: one per dimension of what is read, whatever the channels."""
        del channels
        return tuple(f"{NAME}_{k:03d}" for k in range(self._width()))

    def train(self, fields: FieldSource, table: Any, context: FitContext) -> Trained[Reader]:
        """Train on the crops of ``fields`` and on ``table``: drug, dose, structure and readouts of wells."""
        from featurizers.tide.pairs import unpaired
        from featurizers.tide.train import train

        file = self.paths.get("transcriptome")
        trained, self.interventions, self.checks = train(fields, table, self.config, context, file)
        self.unpaired = unpaired(table)
        return trained

    def architecture(self, channels: int) -> Reader:
        """Return image encoder, student's head and codebook."""
        import torch

        from featurizers.dino.model import Backbone
        from featurizers.mae.model import MaskedAutoencoder
        from featurizers.tide.model import Reader, dense
        from featurizers.training.schedules import seeded, stream

        config, count = self.config, len(self.interventions)
        with seeded(0, "weights", 0):
            encoder: torch.nn.Module
            if config.self_supervision == "dino":
                encoder = Backbone(config, channels, 0.0)
            else:
                encoder = MaskedAutoencoder(config.mae(), channels, stream(0, "weights", 0)).encoder
            student = dense(config.dim, config.student_hidden, config.codebook_dim) if count else None
        return Reader(encoder, student, torch.zeros(count, config.codebook_dim) if count else None)

    def rows(self, trained: Trained[Reader], fields: Sequence[Field]) -> Embedding:
        """Return one row per cell, in the order of fields and ids; a field without a cell has none."""
        from featurizers.passes import embed_cells

        return embed_cells(
            fields,
            self.crops,
            self._rows_of(trained),
            channels=len(self._channels),
            edge=self.config.crop,
            width=self._width(),
            device=next(trained.network.parameters()).device,
        )

    def crops(self, field: Field) -> Crops:
        """Return a field's cells, as :class:`featurizers.attribution.Differentiable` asks."""
        from featurizers.training.pixels import cut_cells

        return cut_cells(field, self.config)

    def differentiable(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return rows of crops, for gradients with respect to pixels."""
        self.embed(())  # loads or refuses
        assert self._trained is not None
        return self._rows_of(self._trained)

    def _rows_of(self, trained: Trained[Reader]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the map from crops (N, C, S, S) and masks (N, S, S) to rows (N, D)."""
        from featurizers.tide.model import embedded
        from featurizers.training.pixels import prepare

        network, config = trained.network.to(self.device), self.config
        if config.read == "student" and network.student is None:
            msg = f"{NAME}: these weights were trained on zero pairs and have no student; set read=encoder"
            raise FeaturizerError(msg)

        def forward(pixels: Tensor, inside: Tensor) -> Tensor:
            return embedded(network, prepare(pixels, inside, config, trained.statistics), config)

        return forward

    def save(self, folder: Path) -> None:
        """Write what every trained featurizer writes, the codebook's drugs, unpaired wells, and checks."""
        from featurizers.training.files import write_json

        super().save(folder)
        record: dict[str, Any] = {"interventions": list(self.interventions)}
        if self.unpaired:
            record["unpaired"] = list(self.unpaired)
        if self.checks:
            record["checks"] = [list(check) for check in self.checks]
        write_json(folder / DRUGS, record)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote; refuse the first setting, tensor name or shape that differs."""
        from featurizers.training.files import read_json

        record = read_json(folder / DRUGS)
        found = record.get("interventions")
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            msg = f"{folder / DRUGS} does not list the codebook's interventions; fit again"
            raise FeaturizerError(msg)
        self.interventions = tuple(found)
        self.unpaired = tuple(str(well) for well in record.get("unpaired", ()))
        try:
            self.checks = tuple((int(step), float(score)) for step, score in record.get("checks", ()))
        except (TypeError, ValueError):
            msg = f"{folder / DRUGS} does not list steps and accuracies of checks; fit again"
            raise FeaturizerError(msg) from None
        super().load(folder)

    def _width(self) -> int:
        return self.config.codebook_dim if self.config.read == "student" else self.config.dim
