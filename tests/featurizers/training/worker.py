"""What ``torchrun`` starts in each process of a data parallel training: fit, and save from the first."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from featurizers.base import FitContext
from featurizers.cloome import Cloome
from featurizers.dino import Dino
from featurizers.mae import Mae, MaeConfig
from featurizers.resnet18_triplet import ResNet18Triplet
from featurizers.tide import Tide
from featurizers.unmixing import Unmixing
from tests.featurizers.cloome.test_cloome_featurizer import SMALL as CLOOME
from tests.featurizers.cloome.test_cloome_featurizer import screen as molecules
from tests.featurizers.dino.test_dino_loss import CONFIG as DINO
from tests.featurizers.resnet18_triplet.test_triplet_featurizer import SMALL as TRIPLET
from tests.featurizers.resnet18_triplet.test_triplet_featurizer import screen as classes
from tests.featurizers.tide.screen import CONFIG as TIDE
from tests.featurizers.tide.screen import screen
from tests.featurizers.training.fields import Source, make_field
from tests.featurizers.unmixing.test_unmixing import SMALL as UNMIXING
from tests.featurizers.unmixing.test_unmixing import noise

MAE = MaeConfig(
    crop=24, patch=6, dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2, mask_ratio=0.75,
    steps=6, batch=5,
)  # fmt: skip


def main(name: str, folder: Path) -> None:
    """Train in ``folder``: on three fields, or on a screen with what an entrant learns from."""
    torch.set_num_threads(1)
    source, table = Source([make_field(seed) for seed in range(3)]), None
    if name == "tide":
        source, table = screen()
    if name == "unmixing":
        source, table = noise(sites=2)
    if name == "cloome":
        source, table = molecules()
    if name == "resnet18-triplet":
        source, table = classes(wells=3)
    dropping = {"depth": 3, "drop_path": 0.5}  # the first block of a network never drops its paths
    pairs = replace(CLOOME, steps=6, batch=5, batches="images", learn_inverse_tau="yes")
    featurizer = {
        "mae": lambda: Mae(MAE),
        "dino": lambda: Dino(replace(DINO, **dropping)),
        "cloome": lambda: Cloome(pairs),
        "tide": lambda: Tide(replace(TIDE, checkpoint="knn", checks=3, **dropping)),
        "unmixing": lambda: Unmixing(UNMIXING),
        "resnet18-triplet": lambda: ResNet18Triplet(replace(TRIPLET, wells=3, steps=6)),
    }[name]()
    featurizer.fit(source, table, FitContext(folder))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
