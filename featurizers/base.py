"""The contract between images and vectors: fields in, named float32 rows out.

A featurizer is pure (it changes neither its input nor itself in :meth:`Featurizer.embed`),
deterministic given its config and weights, and batch-invariant: a field's rows do not depend on
which other fields it is embedded with (relative tolerance 1e-5). What it returns is raw;
normalisation of *features* is the task's business, standardisation of *pixels* is the featurizer's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FitScope = Literal["pretrained", "transductive", "inductive"]
Role = Literal["entrant", "control", "ceiling"]
Level = Literal["field", "cell"]
Need = Literal["pixels", "objects", "position", "latent"]
Source = Literal["perturbations", "structures", "readouts"]
Repeats = Literal["all", "first"]
Images = Literal["paired", "all"]


class FeaturizerError(ValueError):
    """A wrong input or setting of a featurizer, said in one sentence with its remedy."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One image channel.

    Parameters
    ----------
    name
        Name used in file tables and feature names, e.g. ``"DNA"``.
    stain
        Dye or modality, e.g. ``"Hoechst"``; free text.
    role
        ``"nucleus"`` for the channel that segmentation starts from; otherwise free text or empty.
    """

    name: str
    stain: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One field of view (site) of one well.

    Parameters
    ----------
    metadata
        ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Site`` and whatever else is allowed to be known
        of the well; ``Latent_*`` entries only for a featurizer whose card needs ``"latent"``.
    channels
        One entry per image plane, in the order of ``pixels``.
    pixels
        (C, H, W), the file's own dtype and grey levels; None when the card does not need ``"pixels"``.
    masks
        Label images (H, W) int32 by object name (``"nuclei"``, ``"cells"``), 0 is background and ids are
        shared between the masks of one cell. Empty when the card does not need ``"objects"``.
    centres
        (n, 2) float32, row and column of each object's centre in pixels, in ascending order of id.
    ids
        (n,) int32, the object ids that ``centres`` belong to.
    bit_depth
        Significant bits per grey level (8, 12, 16; 32 for float images in [0, 1]).
    """

    metadata: Mapping[str, Any]
    channels: tuple[Channel, ...]
    pixels: NDArray[Any] | None = None
    masks: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    centres: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    ids: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    bit_depth: int = 16


class FieldSource(Protocol):
    """A re-iterable, ordered stream of fields; iterating twice gives equal fields in equal order."""

    channels: tuple[Channel, ...]

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Field]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Rows of features.

    Parameters
    ----------
    values
        (n, D) float32.
    field
        (n,) int64, index into the sequence of fields that was embedded. A field may have no row
        (no cell was found); it is then counted as empty, not as failed.
    object
        (n,) int32 object ids for rows per cell, None for rows per field.
    """

    values: NDArray[np.float32]
    field: NDArray[np.int64]
    object: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """What a reader of the board must know of an entrant.

    ``needs`` says what of a field is read: ``pixels``; ``objects`` (masks, ids and centres); ``position``
    (plate layout); ``latent`` (a simulated screen's true state). ``role`` is ``entrant``, ``control`` or
    ``ceiling``. ``fit_scope`` is ``pretrained`` (never saw this dataset), ``transductive`` (saw these images,
    no labels) or ``inductive`` (uses perturbations, structures or readouts, so it is refitted inside
    every outer fold on training perturbations only). ``learns_from`` says what of its training table such an
    entrant reads: ``perturbations`` (by name), ``structures`` (SMILES), ``readouts``. Only who names readouts
    is given any, and is then fitted anew on permuted ones for the run on permuted labels. ``images`` says
    which images such a one is trained on: ``paired``, of wells that stand for scored readouts, or ``all``,
    also of treated wells without any, as far as no tested perturbation is among them. The readouts of these
    are NaN, and they name no perturbation unless it is one of the training ones.
    ``repeats`` says in which repeats of a protocol a predictor is refitted: ``first`` for one that is dear to
    train.
    """

    name: str
    version: str
    title: str
    citation: str
    licence: str
    channel_rule: str
    input_size: str
    trained_on: str
    needs: tuple[Need, ...] = ("pixels",)
    fit_scope: FitScope = "pretrained"
    role: Role = "entrant"
    learns_from: tuple[Source, ...] = ()
    repeats: Repeats = "all"
    images: Images = "paired"


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of long work: ``done`` of ``total`` units, with figures worth showing (loss, crops/s)."""

    stage: str
    done: int
    total: int
    figures: Mapping[str, float] = field(default_factory=dict)


def silent(_: Progress) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class FitContext:
    """Where and how to train.

    Parameters
    ----------
    workdir
        Private folder that survives a kill: checkpoints go here, and a fit that finds one resumes and
        ends in the same bytes as an uninterrupted fit (CPU, same thread count).
    seed
        Seeds everything random.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    report
        Called with :class:`Progress` at least every two seconds of work.
    logs
        Where metrics of the training go (a Parquet, and TensorBoard's files where it is installed); None for
        the work folder, which may be removed once the weights are stored.
    """

    workdir: Path
    seed: int = 0
    device: str = "cpu"
    report: Callable[[Progress], None] = silent
    logs: Path | None = None


class Featurizer(ABC):
    """Base of all featurizers.

    A subclass sets ``card``, ``Config`` (a frozen dataclass of plain values, every field with a default)
    and ``presets`` (named configs, ``"default"`` among them), and implements :meth:`columns` and
    :meth:`embed`. A trainable one sets ``trainable = True`` and implements :meth:`fit`, :meth:`save`
    and :meth:`load` as well. Importing its module must be cheap: import torch inside methods.
    """

    card: Card
    """Of the class; an instance may change it, where it was given weights."""
    Config: ClassVar[type]
    presets: ClassVar[Mapping[str, Any]]
    trainable: bool = False
    level: ClassVar[Level] = "field"
    device: str = "cpu"
    """Where ``embed`` computes; the harness sets it before the first call. It changes no result on a CPU."""

    def __init__(self, config: Any = None) -> None:
        self.config = self.presets["default"] if config is None else config
        if not isinstance(self.config, self.Config):
            msg = (
                f"featurizer {self.card.name!r} takes a {self.Config.__name__}, "
                f"not a {type(self.config).__name__}"
            )
            raise FeaturizerError(msg)

    def label(self) -> str:
        """Name on the board, with what a reader must know at once (preset, share of the paper's training)."""
        return self.card.name

    @abstractmethod
    def columns(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """Return the D column names for images with these channels, in the order of ``embed``'s columns."""

    @abstractmethod
    def embed(self, fields: Sequence[Field]) -> Embedding:
        """Return one row per field, or one per cell when ``level == "cell"``.

        Raises
        ------
        FeaturizerError
            When a field cannot be embedded; the harness then embeds fields one by one and records
            the one that fails.
        """

    def fit(self, fields: FieldSource, table: Any, context: FitContext) -> None:
        """Train on ``fields``; ``table`` (a data frame) holds whatever else may be learnt from."""
        msg = f"featurizer {self.card.name!r} is not trainable"
        raise FeaturizerError(msg)

    def save(self, folder: Path) -> None:
        """Write weights as safetensors and settings as JSON into an existing, empty folder."""
        msg = f"featurizer {self.card.name!r} has no weights to save"
        raise FeaturizerError(msg)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote; strict: an unknown, missing or misshapen key is an error."""
        msg = f"featurizer {self.card.name!r} has no weights to load"
        raise FeaturizerError(msg)


class Predictor(ABC):
    """Images to readouts in one model, for methods that do not factor through a featurizer.

    It is refitted in every outer fold on training rows only and scored on the same folds as everyone. A
    subclass sets ``card`` (``fit_scope="inductive"``), ``Config`` and ``presets`` as a featurizer does.
    Importing its module must be cheap: import torch inside methods.
    """

    card: ClassVar[Card]
    Config: ClassVar[type]
    presets: ClassVar[Mapping[str, Any]]

    def __init__(self, config: Any = None) -> None:
        self.config = self.presets["default"] if config is None else config
        if not isinstance(self.config, self.Config):
            msg = (
                f"predictor {self.card.name!r} takes a {self.Config.__name__}, "
                f"not a {type(self.config).__name__}"
            )
            raise FeaturizerError(msg)

    def label(self) -> str:
        """Name on the board, with what a reader must know at once (preset, share of the paper's training)."""
        return self.card.name

    def check(self, channels: Sequence[Channel]) -> None:  # noqa: B027 most take any channels
        """Refuse images whose channels the predictor does not take; called before an image is read.

        Raises
        ------
        FeaturizerError
            Saying which channels it takes.
        """

    @abstractmethod
    def fit(
        self,
        fields: FieldSource,
        unit: NDArray[np.int64],
        targets: NDArray[np.float32],
        table: Any,
        context: FitContext,
    ) -> None:
        """Train on the units of one training set.

        Parameters
        ----------
        fields
            Fields of the training wells; a field of a well that stands for two units comes twice.
        unit
            (len(fields),) row of ``targets`` that each field belongs to; every row has a field.
        targets
            (n, T) readouts, NaN where missing; a whole column may be missing.
        table
            A data frame with one row per training well: ``Metadata_Plate``, ``Metadata_Well``, whatever else
            is known of the well, and ``perturbation``.
        context
            Where and how to train.
        """

    @abstractmethod
    def predict(self, fields: FieldSource, unit: NDArray[np.int64], n: int) -> NDArray[np.float32]:
        """Return (n, T) float32 predictions for units 0..n-1, NaN for a unit without a usable field.

        A unit's row depends on its own fields only (relative tolerance 1e-5).
        """
