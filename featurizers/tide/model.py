"""Codebook, teacher and student beside a self-supervised image encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurizers.dino.model import Backbone, SelfDistillation
from featurizers.mae.loss import to_patches
from featurizers.mae.model import MaskedAutoencoder
from featurizers.tide.config import Read, TideConfig
from featurizers.training.schedules import seeded

if TYPE_CHECKING:
    from featurizers.tide.choice import Kept

DOSE = 2
"""Length of a dose: log10 of the concentration, standardised, and whether it is known."""


def dense(before: int, hidden: int, after: int) -> nn.Sequential:
    """Return a dense layer with GELU and a linear one."""
    return nn.Sequential(nn.Linear(before, hidden), nn.GELU(), nn.Linear(hidden, after))


class Film(nn.Module):
    """Features modulated by a dose: x (1 + γ(dose)) + β(dose), the identity at the start.

    Source: Perez et al. 2018 (FiLM); "FiLM-like" in Chen et al. 2026.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_shift = dense(DOSE, width, 2 * width)
        nn.init.zeros_(cast("nn.Linear", self.scale_shift[2]).weight)
        nn.init.zeros_(cast("nn.Linear", self.scale_shift[2]).bias)

    def forward(self, rows: Tensor, dose: Tensor) -> Tensor:
        """Return (N, width) of rows (N, width) and doses (N, 2)."""
        scale, shift = self.scale_shift(dose).chunk(2, dim=1)
        return cast("Tensor", rows * (1 + scale) + shift)


class Codebook(nn.Module):
    """One row of length d per training drug, V (K, d).

    Parameters
    ----------
    fingerprints
        (K, bits); without them rows begin as random directions.
    """

    fingerprints: Tensor

    def __init__(self, config: TideConfig, count: int, fingerprints: Tensor | None) -> None:
        super().__init__()
        self.always = config.codebook_length == "always"
        self.projection: nn.Sequential | None = None
        if fingerprints is None:
            start = torch.randn(count, config.codebook_dim)
        else:
            projection = nn.Sequential(
                nn.Linear(fingerprints.shape[1], config.projection_hidden),
                nn.ReLU(),
                nn.Linear(config.projection_hidden, config.codebook_dim),
            )
            if config.codebook_form == "projection":
                self.projection = projection
                self.register_buffer("fingerprints", fingerprints)
                return
            with torch.no_grad():
                start = projection(fingerprints)
        self.rows = nn.Parameter(functional.normalize(start, dim=1))

    def forward(self) -> Tensor:
        """Return V as it is used."""
        if self.projection is not None:
            return functional.normalize(self.projection(self.fingerprints), dim=1)
        return functional.normalize(self.rows, dim=1) if self.always else self.rows


class Teacher(nn.Module):
    """h_t = f_t([h_I ‖ h_R ‖ h_C]): image with its dose, transcriptome with its own, basal expression.

    It sees no structure. h_C comes from the encoder of h_R, before the dose (our reading).
    """

    def __init__(self, config: TideConfig, readouts: int) -> None:
        super().__init__()
        width = config.transcriptome_dim
        self.image_dose, self.dose = Film(config.dim), Film(width)
        self.transcriptome = dense(readouts, config.transcriptome_hidden, width)
        streams = config.dim + width * (2 if config.basal == "controls" else 1)
        self.head = dense(streams, config.teacher_hidden, config.codebook_dim)

    def forward(
        self, image: Tensor, image_dose: Tensor, profile: Tensor, dose: Tensor, basal: Tensor | None
    ) -> Tensor:
        """Return h_t (N, d).

        Parameters
        ----------
        image
            (N, D) features of the image encoder.
        profile, basal
            (N, T) standardised expression, perturbed and untreated; None leaves h_C out.
        image_dose, dose
            (N, 2).
        """
        streams = [self.image_dose(image, image_dose), self.dose(self.transcriptome(profile), dose)]
        if basal is not None:
            streams.append(self.transcriptome(basal))
        return cast("Tensor", self.head(torch.cat(streams, dim=1)))


class Guided(nn.Module):
    """Everything that changes while training: the self-supervised network and, if there are pairs, the rest.

    The weights of the self-supervised part are those that it has alone, whatever stands beside it.
    """

    def __init__(
        self,
        config: TideConfig,
        alone: SelfDistillation | MaskedAutoencoder,
        count: int,
        readouts: int,
        fingerprints: Tensor | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.alone = alone
        self.teacher: Teacher | None = None
        self.student: nn.Sequential | None = None
        self.codebook: Codebook | None = None
        self.kept: Kept | None = None
        if count:
            with seeded(seed, "tide weights", 0):
                self.codebook = Codebook(config, count, fingerprints)
                self.teacher = Teacher(config, readouts)
                self.student = dense(config.dim, config.student_hidden, config.codebook_dim)

    @property
    def encoder(self) -> nn.Module:
        """The image encoder that learns."""
        alone = self.alone
        return alone.student.backbone if isinstance(alone, SelfDistillation) else alone.encoder

    def reader(self, read: Read) -> Reader:
        """Return what is kept: of DINO the encoder's moving average, unless the student is to be read.

        The student's head fits the encoder that it learned with, not an average that lags behind.
        """
        kept = self.encoder
        if read == "encoder" and isinstance(self.alone, SelfDistillation):
            kept = self.alone.teacher.backbone
        rows = None if self.codebook is None else self.codebook().detach().clone()
        return Reader(kept, self.student, rows)

    def groups(self) -> list[list[nn.Parameter]]:
        """Return parameters with and without weight decay.

        Of the self-supervised part as when it is alone; of the rest, matrices have it, biases and the
        codebook's rows (which it would draw to nothing) have none.
        """
        if isinstance(self.alone, SelfDistillation):
            decayed, free = self.alone.groups()
        else:
            decayed, free = list(self.alone.parameters()), []
        for name, parameter in self.named_parameters():
            if not name.startswith(("alone.", "kept.")):
                (free if parameter.ndim == 1 or name == "codebook.rows" else decayed).append(parameter)
        return [decayed, free]


class Reader(nn.Module):
    """What is kept after training: image encoder, and student's head and codebook if there were pairs."""

    def __init__(self, encoder: nn.Module, student: nn.Sequential | None, codebook: Tensor | None) -> None:
        super().__init__()
        self.encoder, self.student = encoder, student
        self.codebook = None if codebook is None else nn.Parameter(codebook, requires_grad=False)


def embedded(reader: Reader, images: Tensor, config: TideConfig) -> Tensor:
    """Return (N, D) rows of images (N, C, S, S): the encoder's features, or the student's of them."""
    found = features(reader.encoder, images, config)
    if config.read == "encoder":
        return found
    assert reader.student is not None
    return cast("Tensor", reader.student(found))


def branches(encoder: nn.Module) -> int:
    """Return how many residual branches of an encoder are dropped at random; the masked one's never are."""
    return encoder.branches if isinstance(encoder, Backbone) else 0


def features(encoder: nn.Module, images: Tensor, config: TideConfig, draws: Tensor | None = None) -> Tensor:
    """Return (N, D): class token, or mean of the patch tokens, of images (N, C, S, S).

    Parameters
    ----------
    draws
        (branches, N) of dropped paths, for training.
    """
    own = isinstance(encoder, Backbone)
    tokens = cast("Tensor", encoder(images, draws) if own else encoder(to_patches(images, config.patch)))
    return tokens[:, 0] if config.pooling == "cls" else tokens[:, 1:].mean(dim=1)
