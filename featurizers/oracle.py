"""The true state of a simulated screen: the ceiling that no featurizer can pass but by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from featurizers.base import Card, Channel, Embedding, Featurizer, FeaturizerError, Field
from featurizers.fields import where

PREFIX = "Latent_"

DEMO = tuple(
    PREFIX + name
    for name in (
        "count",
        "nucleus_size",
        "elongation",
        "chromatin_grain",
        "er_grain",
        "mito_spread",
        "golgi_scatter",
        "rna_level",
        "mito_level",
    )
)
"""The latent state of the demo screen."""


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """Which latent states are read.

    Parameters
    ----------
    states
        ``Latent_*`` entries of the fields' metadata, in the order of the columns; by default those of the
        demo screen. Another simulated screen has its own.
    """

    states: tuple[str, ...] = DEMO

    def __post_init__(self) -> None:
        """Refuse no names, names that are not latent states, and repeated ones."""
        strangers = [s for s in self.states if not s.startswith(PREFIX)]
        if strangers or not self.states or len(set(self.states)) < len(self.states):
            msg = (
                f"oracle: states must be one or more distinct names that begin with {PREFIX!r}, "
                f"not {self.states}"
            )
            raise FeaturizerError(msg)


class Oracle(Featurizer):
    """The latent values themselves, as the simulator drew them for the well; no image is read.

    Its score with the same head and folds is the ceiling of each readout under that head: what is lost
    below it is noise in the readout or nonlinearity that the head cannot follow.
    """

    card = Card(
        name="oracle",
        version="1",
        title="True latent state of a simulated screen",
        citation="Control of this benchmark.",
        licence="BSD-3-Clause",
        channel_rule="reads no channel",
        input_size="none",
        trained_on="nothing",
        needs=("latent",),
        role="ceiling",
    )
    Config = OracleConfig
    presets: ClassVar[Mapping[str, OracleConfig]] = {"default": OracleConfig()}
    config: OracleConfig

    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of the states, whatever the channels."""
        return self.config.states

    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per field; all sites of a well give the same row."""
        names = self.config.states
        values = np.zeros((len(fields), len(names)), np.float32)
        for row, field in zip(values, fields, strict=True):
            absent = [n for n in names if n not in field.metadata]
            if absent:
                msg = (
                    f"{where(field)}: no latent state {', '.join(absent)}; only a simulated screen has "
                    "latent states, name this one's by states=Latent_A,Latent_B"
                )
                raise FeaturizerError(msg)
            row[:] = [float(field.metadata[n]) for n in names]
            if not np.isfinite(row).all():
                bad = names[int(np.argmin(np.isfinite(row)))]
                msg = (
                    f"{where(field)}: latent state {bad} is {field.metadata[bad]!r}; correct the latent table"
                )
                raise FeaturizerError(msg)
        return Embedding(values, np.arange(len(fields), dtype=np.int64))
