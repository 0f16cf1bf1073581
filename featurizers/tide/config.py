"""Settings of intervention-aware distillation as plain data, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal

from featurizers.base import FeaturizerError
from featurizers.dino.config import DinoConfig
from featurizers.mae.config import Augment, MaeConfig
from featurizers.training.settings import check

SelfSupervision = Literal["dino", "mae"]
Start = Literal["fingerprints", "random"]
Form = Literal["rows", "projection"]
Length = Literal["initial", "always"]
Pairing = Literal["intervention", "well"]
Basal = Literal["controls", "none"]
Target = Literal["detached", "joint"]
Read = Literal["encoder", "student"]
Fingerprint = Literal["fcfp", "ecfp"]
Checkpoint = Literal["last", "knn"]
HeldOutBy = Literal["wells", "images"]

NAME = "tide"

# Settings that mean the same to DINO, the masked autoencoder and this entrant.
_SHARED = (
    *("crop", "scale", "mask", "background", "border", "standardise", "augment"),
    *("patch", "dim", "depth", "heads", "mlp_ratio", "decoder_dim", "decoder_depth", "decoder_heads"),
    *("mask_ratio", "fourier_weight", "steps", "batch", "micro_batch", "crops_per_field", "warmup_share"),
    *("precision", "compile", "pooling"),
)


@dataclass(frozen=True)
class TideConfig(DinoConfig):
    """Everything that changes what the networks are, how they are trained and how they are read out.

    The settings of :class:`~featurizers.dino.DinoConfig` keep their meaning: crops, image encoder, and the
    self-supervised term and optimiser with ``self_supervision="dino"``. What the paper leaves open is marked
    "our reading".

    Parameters
    ----------
    self_supervision
        The term on all images: ``"dino"``, or ``"mae"`` with the settings of :meth:`mae`. The optimiser and
        its schedule are those of the term (our reading).
    self_supervision_weight, teacher_weight
        β and α of L = L_distill + α L_teacher + β L_ssl. The paper's values are not known to us: 1 and 1 are
        our reading.
    temperature
        τ of the distributions over the codebook; not known, our reading.
    codebook_dim
        d; not known, our reading.
    codebook_start
        ``"fingerprints"`` (paper): rows begin at the projected fingerprints of their drugs. ``"random"``
        begins anywhere and needs no structures.
    codebook_form
        ``"rows"`` (paper): the rows are parameters and drift from chemistry. ``"projection"``: the projection
        is trained instead, and a row stays a function of its structure.
    codebook_length
        ``"initial"``: rows have unit length at the start, as the equation stands (our reading);
        ``"always"``: whenever they are used.
    fingerprint, radius, bits, chiral
        Circular fingerprints, see :func:`featurizers.chemistry.fingerprints`. The paper mentions FCFP without
        its size: radius 2 and 1,024 bits are our reading.
    projection_hidden
        Hidden width of the projection, a dense layer with ReLU and a linear one (our reading of "light MLP").
    transcriptome
        File with an embedding of each transcriptome (Parquet or CSV: key columns of the training table, and
        numbers), e.g. of a single-cell foundation model, in the place of the readouts. In the featurizer's
        own config it is replaced by ``sha256:`` and the digest of its content. Empty: the readouts.
    transcriptome_hidden, transcriptome_dim
        Widths of the transcriptome's encoder, a dense layer with GELU and a linear one on standardised values
        (the paper fine-tunes scGPT; this is its place).
    teacher_hidden, student_hidden
        Hidden widths of f_t and of the student's head, one dense layer with GELU each (our reading).
    pairing
        ``"intervention"`` (paper: weak pairing): an image meets any profile of its drug in its context,
        whatever its dose. ``"well"``: the profile of its own well only.
    basal
        ``"controls"`` (paper): h_C encodes the mean profile of the negative controls of the context.
        ``"none"`` leaves h_C out.
    context
        Column that tells cell lines (or stimuli) apart; empty: there is one.
    dose
        Column with the concentration, of image and profile alike. FiLM gets log10 of it, standardised, and
        whether it is known (our reading).
    distil_target
        ``"detached"`` (our reading): no gradient of L_distill reaches the teacher. ``"joint"``: it does.
    pairs, cells
        Images with a transcriptome per step, and crops that make up such an image: crops of one well whose
        features are averaged, because a crop here holds one cell and the paper's image many (our reading).
    augment
        ``"dihedral"`` turns and mirrors those crops, and the crops of the masked autoencoder.
    read
        What is embedded: the image encoder's features (``"encoder"``, our reading; with DINO those of its
        moving average, as DINO itself is read), or the student's head on the encoder that it learned with
        (``"student"``).
    checkpoint
        Which step's weights are embedded with: the ``"last"``; ``"knn"`` (paper): those of the check, out of
        ``checks`` evenly spread over the steps, whose features name the drug of held-out images best, the
        later of equals. ``held_out`` images (paper: 10) of each training intervention are then not trained
        on, and the ``neighbours`` (paper: 20) nearest other images vote; see
        :mod:`featurizers.tide.choice`. How often is not known: a check per epoch of the paper's 400 is our
        reading.
    held_out_by
        ``"wells"`` (our reading): whole wells are held out until they have ``held_out`` images, at most half
        of an intervention's, so that no field of a held-out image's own well votes or is trained on.
        ``"images"``: ``held_out`` single images, at most half of an intervention's, whose well may be
        recognised in the place of the intervention; what the notes on the paper say leaves both open.
    mask_ratio, fourier_weight, decoder_dim, decoder_depth, decoder_heads, mae_lr, mae_weight_decay
        Of the masked autoencoder, see :class:`featurizers.mae.MaeConfig`.
    """

    entrant: ClassVar[str] = NAME

    self_supervision: SelfSupervision = "dino"
    self_supervision_weight: float = 1.0
    teacher_weight: float = 1.0
    temperature: float = 0.1

    codebook_dim: int = 64
    codebook_start: Start = "fingerprints"
    codebook_form: Form = "rows"
    codebook_length: Length = "initial"
    fingerprint: Fingerprint = "fcfp"
    radius: int = 2
    bits: int = 1024
    chiral: bool = True
    projection_hidden: int = 256

    transcriptome: str = ""
    transcriptome_hidden: int = 256
    transcriptome_dim: int = 64
    teacher_hidden: int = 256
    student_hidden: int = 256
    pairing: Pairing = "intervention"
    basal: Basal = "controls"
    context: str = ""
    dose: str = "Metadata_Concentration"
    distil_target: Target = "detached"

    pairs: int = 16
    cells: int = 4
    augment: Augment = "dihedral"
    read: Read = "encoder"

    checkpoint: Checkpoint = "last"
    checks: int = 10
    held_out: int = 10
    held_out_by: HeldOutBy = "wells"
    neighbours: int = 20

    mask_ratio: float = 0.75
    fourier_weight: float = 0.0
    decoder_dim: int = 64
    decoder_depth: int = 1
    decoder_heads: int = 4
    mae_lr: float = 1e-4
    mae_weight_decay: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = ("codebook_dim", "projection_hidden", "transcriptome_hidden", "transcriptome_dim")
        check(
            NAME,
            self,
            positive=(
                *(*widths, "teacher_hidden", "student_hidden", "bits", "pairs", "cells", "temperature"),
                *("checks", "held_out", "neighbours"),
            ),
            not_negative=("self_supervision_weight", "teacher_weight", "radius", "mae_weight_decay"),
            rates=("mae_lr",),
        )
        if self.self_supervision == "mae":
            self.mae()

    def mae(self) -> MaeConfig:
        """Return the masked autoencoder that is trained with ``self_supervision="mae"``."""
        shared = {name: getattr(self, name) for name in _SHARED}
        own = {"lr": self.mae_lr, "weight_decay": self.mae_weight_decay, "clip": 1.0}
        try:
            return MaeConfig(**{**shared, **own})
        except FeaturizerError as error:
            msg = f"{NAME}: its masked autoencoder cannot be: {error}"
            raise FeaturizerError(msg) from error


_TINY = TideConfig(steps=100, batch=48, local_crops=2, prototypes=512, lr_per_256=4e-3, momentum=0.9)
_SMALL = replace(
    _TINY,
    crop=96,
    dim=384,
    depth=12,
    heads=6,
    head_hidden=2048,
    head_bottleneck=256,
    prototypes=8_192,
    local_crops=8,
    local_size=48,
    steps=20_000,
    batch=256,
    lr_per_256=5e-4,
    momentum=0.996,
    precision="bfloat16",
    codebook_dim=256,
    transcriptome_dim=256,
    pairs=64,
)

PRESETS: Mapping[str, TideConfig] = MappingProxyType(
    {
        "tiny": _TINY,
        "tiny-mae": replace(_TINY, self_supervision="mae", pooling="avg", patch=4, local_size=16),
        "small": _SMALL,
        "paper": replace(
            _SMALL,
            crop=224,
            patch=16,
            mask="none",
            background="keep",
            prototypes=65_536,
            local_size=96,
            steps=100_000,
            batch=1_024,
            micro_batch=128,
            pairs=256,
            cells=1,
            checkpoint="knn",
            checks=400,
        ),
        "default": _TINY,
    }
)
