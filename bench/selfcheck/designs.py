"""The simulated populations: what varies between screens, and what each design asks of the decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.protocol import Normalisation

Layout = Literal["one-plate", "replicates-over-plates", "perturbation-on-one-plate"]
Split = Literal["perturbation", "scaffold", "family"]
Kind = Literal["abundance", "calls"]


@dataclass(frozen=True)
class Design:
    """One population of readouts; its perturbations are drawn anew for every screen.

    Parameters
    ----------
    name, about
        What it is called, and what is special about it.
    perturbations, wells
        Perturbations of a screen and wells of each.
    readouts, linked
        Readouts, and the share of them that follow the state that images show.
    latent, programmes
        Dimensions of that state, and of the programmes that readouts share and images do not show.
    nuisance
        Feature dimensions without any link.
    noise
        Noise of the features of A, B (equally good) and C (worse) per perturbation.
    heavy
        Standard deviation of the logarithm of a perturbation's strength, which scales its state, its
        programmes and its noise; 0 is light tails.
    family, kinship
        Related perturbations: members of a family and the share of variance (of state, programmes and
        features alike) that they have in common.
    split
        What is tested as a whole: a perturbation; all compounds of a family, under the protocol ``scaffold``;
        or a family that is itself the unit of inference.
    layout, plate_effect
        How wells lie on plates, and the standard deviation of a plate's shift of features and of readouts, in
        standard deviations of a well's noise; half of it again as a gradient over rows. Plates then hold
        :data:`~bench.selfcheck.screens.CONTROLS` negative controls.
    centred
        Whether the mean of a plate's controls is taken off its readouts before anything else.
    normalisation
        Menu of the protocol.
    kind, prevalence
        ``calls`` are 1 for the upper ``prevalence`` of a readout's population and 0 below, scored by ROC AUC.
    claimed
        Whether the stated rates are claimed to hold; else they are shown without a verdict.
    """

    name: str
    about: str
    perturbations: int = 60
    wells: int = 2
    readouts: int = 80
    linked: float = 0.6
    latent: int = 10
    programmes: int = 3
    nuisance: int = 10
    noise: tuple[float, float, float] = (0.5, 0.5, 1.0)
    heavy: float = 0.0
    family: int = 1
    kinship: float = 0.0
    split: Split = "perturbation"
    layout: Layout = "one-plate"
    plate_effect: float = 0.0
    centred: bool = False
    normalisation: tuple[Normalisation, ...] = ("fold",)
    kind: Kind = "abundance"
    prevalence: float = 0.2
    claimed: bool = True


_MENU: tuple[Normalisation, ...] = ("fold", "plate-standardise")

DESIGNS: dict[str, Design] = {
    design.name: design
    for design in (
        Design("light", "60 perturbations in 2 wells, light tails"),
        Design("heavy", "as light, with perturbations of log-normal strength", heavy=0.5),
        Design(
            "families",
            "families of 4 related perturbations, spread over folds",
            family=4,
            kinship=0.6,
            claimed=False,
        ),
        Design(
            "scaffold",
            "30 such families, each tested as a whole by the protocol scaffold",
            perturbations=120,
            wells=1,
            family=4,
            kinship=0.6,
            split="scaffold",
        ),
        Design(
            "families-kept",
            "the same with a family in the place of a perturbation throughout",
            perturbations=120,
            wells=1,
            family=4,
            kinship=0.6,
            split="family",
        ),
        Design(
            "plates",
            "replicates on 2 plates that shift images and readouts; readouts centred on controls",
            layout="replicates-over-plates",
            plate_effect=1.0,
            centred=True,
            normalisation=_MENU,
        ),
        Design(
            "calls", "up against not by ROC AUC, 80 perturbations", perturbations=80, wells=1, kind="calls"
        ),
        Design("null", "no readout has a link to the images", linked=0.0),
        Design(
            "plates-raw",
            "as plates, readouts as measured",
            layout="replicates-over-plates",
            plate_effect=1.0,
            normalisation=_MENU,
            claimed=False,
        ),
        Design(
            "confounded",
            "as plates, every perturbation on one of 4 plates",
            layout="perturbation-on-one-plate",
            plate_effect=1.0,
            centred=True,
            normalisation=_MENU,
            claimed=False,
        ),
        Design("wide", "as light, with 150 feature dimensions", nuisance=140),
        Design("large", "150 perturbations in 1 well", perturbations=150, wells=1),
        Design("weak", "as light, with little of the state in the features", noise=(1.2, 1.2, 2.4)),
    )
}
"""By name, in the order in which they are run."""
