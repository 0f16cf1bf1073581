"""Checks of trainable featurizers: fit, save, load, resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from featurizers.base import Progress
from featurizers.conformance.subject import NotApplicable, Subject, Violation, embedded, refuses


class _Kill(BaseException):
    """Stands in for a killed process: nothing may catch it."""


def saved(subject: Subject) -> str:
    """``save`` writes safetensors and JSON only, and ``load`` gives the same embedding."""
    folder = subject.new_folder("saved")
    subject.ready.save(folder)
    files = sorted(p.name for p in folder.rglob("*") if p.is_file())
    foreign = [name for name in files if not name.endswith((".safetensors", ".json"))]
    if foreign:
        raise Violation(f"save writes {', '.join(foreign)}; write .safetensors and .json only, no pickle")
    loaded = subject.make()
    loaded.load(folder)
    expected, found = embedded(subject.ready, subject.usual), embedded(loaded, subject.usual)
    if expected.values.tobytes() != found.values.tobytes():
        raise Violation("the embedding after save and load differs; save all that was fitted")
    return ", ".join(files)


def strict_load(subject: Subject) -> str:
    """``load`` refuses an empty folder, and weights with a key too many or too few."""
    empty = subject.new_folder("empty")
    if not refuses(lambda: subject.make().load(empty)):
        raise Violation("load accepts an empty folder; raise FeaturizerError that says what is missing")
    folder = subject.new_folder("tampered")
    subject.ready.save(folder)
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise NotApplicable("it saves no safetensors file that a key could be added to")
    from safetensors.numpy import load_file, save_file

    tensors = load_file(weights[0])
    for what, changed in (
        ("an unknown tensor", {**tensors, "conformance.unknown": np.zeros(1, np.float32)}),
        ("a missing tensor", dict(list(tensors.items())[1:])),
    ):
        save_file(changed, weights[0], metadata=_metadata(folder))
        if not refuses(lambda: subject.make().load(folder)):
            raise Violation(f"load accepts {what}; compare the keys and raise FeaturizerError")
    return "empty folder, unknown and missing tensor"


def _metadata(folder: Path) -> dict[str, str] | None:
    """Return the text metadata of the folder's first safetensors file."""
    with next(iter(sorted(folder.rglob("*.safetensors")))).open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        found = json.loads(stream.read(size)).get("__metadata__")
    return found if isinstance(found, dict) else None


def fit_deterministic(subject: Subject) -> str:
    """Two fits with the same seed save the same bytes."""
    first, second = subject.new_folder("first"), subject.new_folder("second")
    subject.ready.save(first)
    subject.train(subject.make(), "again").save(second)
    remedy = "seed weights, order and augmentation from context.seed"
    _same_files(first, second, "two fits with the same seed", remedy)
    return "same bytes"


def resume(subject: Subject) -> str:
    """A fit killed half-way through each of its stages, called again each time, saves the same bytes."""
    killed: dict[str, str] = {}

    def die(step: Progress) -> None:
        if step.stage not in killed and step.done * 2 >= step.total:
            killed[step.stage] = f"{step.stage} {step.done} of {step.total}"
            raise _Kill

    resumed = None
    while resumed is None:
        try:
            resumed = subject.train(subject.make(), "killed", die)
        except _Kill:
            continue
    if not killed:
        raise NotApplicable(
            "the fit never reported to be half-way, so it was not interrupted; give it more steps"
        )
    left, right = subject.new_folder("whole"), subject.new_folder("resumed")
    subject.ready.save(left)
    resumed.save(right)
    remedy = "keep optimiser, schedule, random state and position in the data in the checkpoint"
    _same_files(left, right, "a fit that was killed and resumed", remedy)
    return f"killed at {', '.join(killed.values())}"


def _same_files(left: Path, right: Path, what: str, remedy: str) -> None:
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()) for f in (left, right)]
    if names[0] != names[1]:
        raise Violation(f"{what} gives other files: {names[0]} and {names[1]}; {remedy}")
    for name in names[0]:
        if (left / name).read_bytes() != (right / name).read_bytes():
            raise Violation(f"{what} gives other bytes in {name}; {remedy}")
