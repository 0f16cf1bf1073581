"""The steps by name, from plain settings, and what a list of them does to a layer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from tasks.base import TaskError
from tasks.prepare.centre import PlateCentre
from tasks.prepare.counts import Log, SizeFactors
from tasks.prepare.expression import LowExpression
from tasks.prepare.panel import Panel
from tasks.prepare.readouts import Readouts, Step
from tasks.prepare.replicates import DrawReplicates

STEPS: dict[str, type[Step]] = {
    step.name: step for step in (LowExpression, SizeFactors, Log, PlateCentre, DrawReplicates, Panel)
}


def build(name: str, settings: Mapping[str, Any]) -> Step:
    """Return the step of that name with these settings.

    Raises
    ------
    TaskError
        For an unknown step or setting, with the nearest, and for a value of the wrong type.
    """
    if name not in STEPS:
        raise TaskError(f"there is no preparation step {name!r}{_hint(name, list(STEPS))}")
    kind = STEPS[name]
    own = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    values = {}
    for key, value in settings.items():
        if key not in own:
            raise TaskError(f"step {name!r} has no setting {key!r}{_hint(key, own)}")
        values[key] = _typed(name, key, value, hints[key])
    return kind(**values)


def prepare(given: Readouts, steps: Sequence[Step]) -> tuple[Readouts, list[str]]:
    """Apply the steps in order; return the result and one sentence per step.

    Raises
    ------
    TaskError
        When a step does not take the scale that it meets, or refuses the values.
    """
    said = []
    for step in steps:
        if given.scale not in step.takes:
            raise TaskError(
                f"step {step.name!r} takes {' or '.join(step.takes)}, but the readouts are on scale "
                f"{given.scale!r} there; change the order of steps or the layer's scale"
            )
        given, sentence = step.apply(given)
        said.append(sentence)
    return given, said


def _typed(step: str, key: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        if isinstance(value, list | tuple) and all(isinstance(own, str) for own in value):
            return tuple(value)
        raise TaskError(f"step {step!r}: {key} must be a list of texts, not {value!r}")
    choices = get_args(hint)
    if choices:
        if value not in choices:
            raise TaskError(f"step {step!r}: {key} cannot be {value!r}{_hint(str(value), list(choices))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint or (isinstance(value, int | float) and not 0 <= value < float("inf")):
        what = {int: "a whole number of at least 0", float: "a number of at least 0", str: "a text"}[hint]
        raise TaskError(f"step {step!r}: {key} must be {what}, not {value!r}")
    return value


def _hint(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(choices) or 'none'}"
