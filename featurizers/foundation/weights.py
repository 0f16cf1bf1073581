"""Weights from a file: hashed, read without running anything, loaded strictly."""

from __future__ import annotations

import functools
import hashlib
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurizers.base import FeaturizerError

if TYPE_CHECKING:
    from torch import Tensor, nn

ENTRIES = ("state_dict", "model_state_dict", "model", "teacher")
"""Names under which checkpoints keep their weights, in the order they are looked for."""


def digest(path: Path) -> str:
    """Return the sha256 of a file's content, read once per process and change.

    Raises
    ------
    FeaturizerError
        When there is no such file.
    """
    try:
        found = path.stat()
        return _digest(path.resolve(), found.st_size, found.st_mtime_ns)
    except OSError as error:
        msg = f"weights file {path} cannot be read: {error.strerror}; name an existing file"
        raise FeaturizerError(msg) from error


@functools.lru_cache(maxsize=32)
def _digest(path: Path, size: int, changed: int) -> str:
    del size, changed  # part of the cache's key only
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read(
    path: Path, *, prefixes: Sequence[str] = ("module.",), ignored: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return the tensors of a file by name, as float32 where they are floats.

    Parameters
    ----------
    path
        ``.safetensors``, or a file of ``torch.save`` that holds nothing but tensors and plain containers; the
        weights may stand under one of :data:`ENTRIES`.
    prefixes
        Taken off the names, as long as a name begins with one of them.
    ignored
        Names that begin so are left out (a projection head that the features do not pass).

    Raises
    ------
    FeaturizerError
        When the file is damaged, holds objects that only a program could restore, or holds no tensors.
    """
    import torch

    found = _safetensors(path) if path.suffix == ".safetensors" else _checkpoint(path)
    while isinstance(found, Mapping) and (entry := next((e for e in ENTRIES if e in found), None)):
        found = found[entry]
    tensors: dict[str, Tensor] = {}
    for name, value in found.items() if isinstance(found, Mapping) else ():
        short = str(name)
        while prefix := next((p for p in prefixes if short.startswith(p)), ""):
            short = short.removeprefix(prefix)
        if any(short.startswith(p) for p in ignored):
            continue
        if not isinstance(value, torch.Tensor):
            msg = f"{path}: entry {name!r} is a {type(value).__name__}, not a tensor; give the weights alone"
            raise FeaturizerError(msg)
        tensors[short] = value.float() if value.is_floating_point() else value
    if not tensors:
        msg = f"{path} holds no tensors; give a file of weights"
        raise FeaturizerError(msg)
    return tensors


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        msg = f"{path} cannot be read as safetensors ({error}); it is damaged or another format"
        raise FeaturizerError(msg) from error


def _checkpoint(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a file that is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        msg = (
            f"{path} is damaged, or holds pickled objects, whose reading would run code from the file. "
            "Save the state dict alone, best as safetensors, where you trust its source"
        )
        raise FeaturizerError(msg) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or ["no message"])[0].partition(". ")[0]
        msg = f"{path} cannot be read as a checkpoint ({first}); it is damaged or another format"
        raise FeaturizerError(msg) from error


def load(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into a network of exactly these names and shapes.

    Raises
    ------
    FeaturizerError
        At the first name, in the network's order, that is missing, misshapen or not finite, or unknown.
    """
    import torch

    expected = network.state_dict()
    for name, want in expected.items():
        if name not in tensors:
            near = next(iter(sorted(tensors.keys() - expected.keys())), None)
            hint = f" (it has {near!r}, which the network lacks)" if near else ""
            msg = f"{path} lacks {name!r}{hint}: it holds weights of another architecture"
            raise FeaturizerError(msg)
        have = tensors[name]
        if have.shape != want.shape:
            msg = (
                f"{path}: {name!r} is {tuple(have.shape)}, the network's is {tuple(want.shape)}: another "
                "architecture, input size or number of channels"
            )
            raise FeaturizerError(msg)
        if not bool(torch.isfinite(have).all()):
            msg = f"{path}: {name!r} holds NaN or infinite values; the file is damaged"
            raise FeaturizerError(msg)
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        msg = f"{path} has an unknown tensor {unknown[0]!r}: it holds weights of another architecture"
        raise FeaturizerError(msg)
    network.load_state_dict(dict(tensors), strict=True)
