"""What ``torchrun`` starts in each process of a data parallel training: fit, and save from the first."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from featurizers.base import FitContext
from featurizers.dino import Dino
from featurizers.mae import Mae, MaeConfig
from tests.featurizers.dino.test_dino_loss import CONFIG as DINO
from tests.featurizers.training.fields import Source, make_field

MAE = MaeConfig(
    crop=24, patch=6, dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2, mask_ratio=0.75,
    steps=6, batch=5,
)  # fmt: skip


def main(name: str, folder: Path) -> None:
    """Train on three fields in ``folder``."""
    torch.set_num_threads(1)
    featurizer = {"mae": lambda: Mae(MAE), "dino": lambda: Dino(DINO)}[name]()
    featurizer.fit(Source([make_field(seed) for seed in range(3)]), None, FitContext(folder))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
