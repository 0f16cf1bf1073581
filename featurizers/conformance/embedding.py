"""Checks of what ``embed`` returns: its form, its purity, and what it must not depend on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np

from featurizers.base import Channel, Embedding, FeaturizerError, Field
from featurizers.conformance.subject import EMPTY, NotApplicable, Subject, Violation, distance, embedded

TOLERANCE = 1e-5
"""Relative tolerance of batch invariance, as the contract has it."""


def embeds(subject: Subject) -> str:
    """Images of every channel set, 8 and 16 bit, not square, one field without a cell, can be embedded."""
    accepted, refused = [], []
    for channels in subject.channel_sets:
        try:
            subject.ready.columns(channels)
        except FeaturizerError:
            if channels is subject.channel_sets[-1]:
                raise
            refused.append(len(channels))
            continue
        for bit_depth in (8, 16):
            embedded(subject.ready, subject.fields(channels, bit_depth=bit_depth))
        accepted.append(len(channels))
    said = f"with {_listed(accepted)} channels"
    return said + (f"; its channel rule refuses {_listed(refused)}" if refused else "")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def form(subject: Subject) -> str:
    """Values are (n, D) float32, ``field`` and ``object`` point at what was embedded, in order."""
    fields = subject.usual
    found = embedded(subject.ready, fields)
    if found.values.ndim != 2 or found.values.dtype != np.float32:
        raise Violation(
            f"values are {found.values.dtype} of shape {found.values.shape}; return (n, D) float32"
        )
    if found.field.dtype != np.int64 or found.field.shape != (len(found.values),):
        raise Violation(
            f"field is {found.field.dtype} of shape {found.field.shape}; return (n,) int64, one index per row"
        )
    if found.field.size and (found.field.min() < 0 or found.field.max() >= len(fields)):
        raise Violation(f"field points outside the {len(fields)} fields that were embedded")
    if np.any(np.diff(found.field) < 0):
        raise Violation("rows are not in the order of the fields; sort them by field")
    if subject.cls.level == "field":
        _field_rows(found)
    else:
        _cell_rows(found, fields)
    return f"{len(found.values)} rows of {len(fields)} fields"


def _field_rows(found: Embedding) -> None:
    if found.object is not None:
        raise Violation("level is 'field' and object is set; leave it None, or set level = 'cell'")
    if len(set(found.field.tolist())) < len(found.field):
        raise Violation("level is 'field' and a field has several rows; return one, or set level = 'cell'")


def _cell_rows(found: Embedding, fields: Sequence[Field]) -> None:
    if found.object is None or found.object.dtype != np.int32 or found.object.shape != found.field.shape:
        raise Violation("level is 'cell'; return object as (n,) int32, the id of each row's cell")
    for index, one in enumerate(fields):
        ids = found.object[found.field == index]
        if np.any(np.diff(ids) <= 0) or not set(ids.tolist()) <= set(one.ids.tolist()):
            raise Violation(
                f"rows of field {index} are for the objects {ids.tolist()}; return existing ids, each once, "
                "in ascending order"
            )


def finite(subject: Subject) -> str:
    """No value is NaN or infinite."""
    found = embedded(subject.ready, subject.usual)
    bad = ~np.isfinite(found.values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise Violation(
            f"{int(bad.sum())} of {bad.size} values are NaN or infinite, the first in column {column} of "
            f"field {found.field[row]}; return a defined value, leave the row out, or raise FeaturizerError"
        )
    return f"{found.values.size} values"


def deterministic(subject: Subject) -> str:
    """The same fields give the same bytes, also from a second instance where nothing was trained."""
    first = embedded(subject.ready, subject.usual)
    again = [("called again", embedded(subject.ready, subject.usual))]
    if not subject.cls.trainable:
        again.append(("made anew", embedded(subject.make(), subject.usual)))
    for how, other in again:
        if first.values.tobytes() != other.values.tobytes() or not np.array_equal(first.field, other.field):
            raise Violation(
                f"the featurizer gives other values when {how}; seed everything random, and let nothing "
                "depend on what was embedded before"
            )
    return "same bytes"


def batch_invariant(subject: Subject) -> str:
    """A field's rows do not depend on the fields it is embedded with (relative tolerance 1e-5)."""
    fields = subject.usual
    whole = embedded(subject.ready, fields)
    parts = [embedded(subject.ready, [one]) for one in fields]
    single = Embedding(
        np.concatenate([p.values.reshape(len(p.values), -1) for p in parts if len(p.values)]),
        np.concatenate([p.field + index for index, p in enumerate(parts)]),
    )
    reverse = embedded(subject.ready, list(reversed(fields)))
    order = np.argsort(len(fields) - 1 - reverse.field, kind="stable")
    backward = Embedding(reverse.values[order], (len(fields) - 1 - reverse.field)[order])
    worst = 0.0
    for how, other in (("one by one", single), ("in reverse order", backward)):
        try:
            worst = max(worst, distance(other, whole, TOLERANCE))
        except Violation as error:
            raise Violation(
                f"embedded {how}, {error}; normalise pixels within a field, not over the batch, and put "
                "batch statistics in evaluation mode"
            ) from None
    return f"largest relative difference {worst:.0e}"


def pure(subject: Subject) -> str:
    """``embed`` changes neither the fields nor the config, and works on arrays that cannot be written."""
    fields = subject.usual
    expected = subject.usual
    for one in fields:
        for array in (one.pixels, one.centres, one.ids, *one.masks.values()):
            if array is not None:
                array.setflags(write=False)
    before = copy.deepcopy(subject.ready.config)
    try:
        embedded(subject.ready, fields)
    except ValueError as error:
        if isinstance(error, FeaturizerError) or "read-only" not in str(error):
            raise
        raise Violation("embed writes into the arrays of a field; work on a copy") from error
    if subject.ready.config != before:
        raise Violation("embed changes the config; treat it as frozen")
    for one, same in zip(fields, expected, strict=True):
        if dict(one.metadata) != dict(same.metadata):
            raise Violation("embed changes a field's metadata; work on a copy")
    return "inputs and config unchanged"


def blind(subject: Subject) -> str:
    """Metadata that the card does not ask for (perturbation; plate and well) changes nothing."""
    needs = subject.cls.card.needs
    foreign = {"Metadata_Compound": "another", "Metadata_Site": 9}
    if "position" not in needs:
        foreign |= {"Metadata_Plate": "another", "Metadata_Well": "H12"}
    masked = [
        dataclasses.replace(one, metadata={**one.metadata, **foreign, "Readout_A": 1.0})
        for one in subject.usual
    ]
    whole = embedded(subject.ready, subject.usual)
    try:
        distance(embedded(subject.ready, masked), whole, 0.0)
    except Violation as error:
        raise Violation(
            f"the features change with metadata that the card does not need ({', '.join(foreign)}): {error}; "
            "read pixels and objects only, or say so in card.needs"
        ) from None
    return f"blind to {', '.join(foreign)}"


def empty_field(subject: Subject) -> str:
    """A field without a cell gives finite rows or none, and no error."""
    found = embedded(subject.ready, [subject.usual[EMPTY]])
    if subject.cls.level == "cell" and len(found.values):
        raise Violation("a field without a cell gives rows per cell; return none")
    if not np.isfinite(found.values).all():
        raise Violation("a field without a cell gives NaN or infinite values; return none or a defined value")
    return "one row" if len(found.values) else "no row"


def constant_channel(subject: Subject) -> str:
    """A channel of zeros (a lamp that failed) and one of full brightness give finite values."""
    if "pixels" not in subject.cls.card.needs:
        raise NotApplicable("it reads no pixels")
    for level in (0, 65535):
        fields = subject.usual
        for one in fields:
            if one.pixels is not None:
                one.pixels[-1] = level
        if not np.isfinite(embedded(subject.ready, fields).values).all():
            raise Violation(
                f"a channel in which every pixel is {level} gives NaN or infinite values; guard the division "
                "by its spread"
            )
    return "zeros and full brightness"


def bad_pixels(subject: Subject) -> str:
    """NaN pixels end in a FeaturizerError that names plate and well, or in finite rows."""
    if "pixels" not in subject.cls.card.needs:
        raise NotApplicable("it reads no pixels")
    fields = subject.fields(subject.channel_sets[-1], bit_depth=32)
    whole = embedded(subject.ready, fields)
    for one in fields:
        if one.pixels is not None:
            one.pixels[:, :, ::2] = np.nan
    try:
        found = embedded(subject.ready, fields)
    except FeaturizerError as error:
        if not all(str(fields[0].metadata[k]) in str(error) for k in ("Metadata_Plate", "Metadata_Well")):
            raise Violation(
                f"NaN pixels are refused with {str(error)!r}, which does not name the plate and the well"
            ) from None
        return "refused, naming plate and well"
    if not np.isfinite(found.values).all():
        raise Violation(
            "NaN pixels give NaN or infinite features; raise FeaturizerError naming plate and well"
        )
    if found.values.tobytes() == whole.values.tobytes():
        return "the damaged pixels are not read"
    return "finite in spite of them"


def channel_sets(count: int, painting: Sequence[Channel]) -> tuple[tuple[Channel, ...], ...]:
    """Return the channel sets 1 and 2 … ``count`` of ``painting``, the largest last."""
    return tuple(tuple(painting[:n]) for n in sorted({1, 2, count}) if n <= count)
