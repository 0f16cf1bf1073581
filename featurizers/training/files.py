"""Tensors on disk: written whole or not at all, read strictly."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from featurizers.base import FeaturizerError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, from the CPU, in the order of their names."""
    save_file({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, path)


def read_tensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read tensors that must have exactly the names, shapes and types of ``expected``.

    Raises
    ------
    FeaturizerError
        When the file is missing or damaged, or at the first name that is missing, unknown or misshapen.
    """
    try:
        found = load_file(path)
    except FileNotFoundError:
        msg = f"{path} is missing; these weights are incomplete, fit again"
        raise FeaturizerError(msg) from None
    except (SafetensorError, OSError, ValueError) as error:
        msg = f"{path} cannot be read as safetensors ({error}); the file is damaged, fit again"
        raise FeaturizerError(msg) from error
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            msg = f"{path} lacks {name!r}: it holds weights of another architecture"
            raise FeaturizerError(msg)
        if name not in expected:
            msg = f"{path} has an unknown tensor {name!r}: it holds weights of another architecture"
            raise FeaturizerError(msg)
        have, want = found[name], expected[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            msg = (
                f"{path}: {name!r} is {_shape(have)}, but these settings need {_shape(want)}: "
                "another architecture or number of channels"
            )
            raise FeaturizerError(msg)
        if not bool(torch.isfinite(have).all()):
            msg = f"{path}: {name!r} holds NaN or infinite values; fit again"
            raise FeaturizerError(msg)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise FeaturizerError saying what is wrong with the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read ({error}); these weights are incomplete, fit again"
        raise FeaturizerError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path} is not a JSON object; fit again"
        raise FeaturizerError(msg)
    return value


def check_settings(
    path: Path,
    state: Mapping[str, Any],
    name: str,
    schema: int,
    mine: Mapping[str, Any],
    *,
    free: Sequence[str] = (),
    keys: Sequence[str] = ("channels",),
) -> None:
    """Refuse a settings file of another entrant, schema or setting.

    Parameters
    ----------
    state
        What the file holds: ``schema_version``, ``config`` and ``keys``.
    mine
        The settings that the weights are to be read with; those named in ``free`` may differ.

    Raises
    ------
    FeaturizerError
        Naming the first setting that differs.
    """
    if {"schema_version", "config", *keys} - state.keys() or state["schema_version"] != schema:
        msg = f"{path} is not a settings file of {name}, schema {schema}; fit again"
        raise FeaturizerError(msg)
    theirs = state["config"]
    for key in sorted(mine.keys() | theirs.keys()):
        if key not in free and mine.get(key) != theirs.get(key):
            msg = (
                f"{path} was trained with {key}={theirs.get(key)}, not {mine.get(key)}; "
                "use that setting or fit again"
            )
            raise FeaturizerError(msg)


def check_statistics(path: Path, state: Mapping[str, Any], *, needed: bool) -> None:
    """Refuse a settings file whose pixel statistics are not one mean and one deviation per channel."""
    scaling = state["statistics"]
    lengths = {len(state["channels"])} | {len(values) for values in (scaling or {}).values()}
    if (scaling is not None) != needed or len(lengths) > 1:
        msg = f"{path}: statistics are not one mean and one std per channel; fit again"
        raise FeaturizerError(msg)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with sorted keys."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Any
) -> None:
    """Put ``checkpoint-STEP`` in place by one rename, with its files synced, and remove the ones before it.

    Parameters
    ----------
    folder
        The working folder of a training.
    step
        Number of steps done.
    tensors
        File stem to named tensors, e.g. ``{"weights": ..., "optimiser": ...}``.
    state
        JSON object stored beside them.
    """
    final = folder / f"checkpoint-{step:09d}"
    part = folder / f"{final.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for stem, named in tensors.items():
        write_tensors(part / f"{stem}.safetensors", named)
    write_json(part / "state.json", state)
    for path in (*part.iterdir(), part):
        _sync(path)
    earlier = [path for path in checkpoints(folder) if path != final]
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    _sync(folder)
    for path in earlier:
        shutil.rmtree(path)


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a working folder, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if path.suffix != ".part")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
