"""Import torchvision beside any build of torch.

The package index has no CPU build of the newest torchvision. Its CUDA build installs beside a CPU torch
but does not import: its compiled operators do not load, and the Python code that registers shapes for
``torchvision::nms`` (then ``qnms``) raises RuntimeError because they were never declared. That takes timm
and Cellpose down, although neither calls those operators on our paths. Declaring the two schemas lets the
import pass. The compiled operators stay unavailable; calling one is an error, as it should be. An
installation that imports by itself is not touched.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A torch.library.Library undoes its definitions when it is collected, so the one we make must live on.
_declared: list[Any] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring the operators that a mismatched build misses, and return the module.

    Returns
    -------
    ModuleType
        The imported ``torchvision``.

    Raises
    ------
    RuntimeError
        When the import fails for another reason than a missing ``torchvision::`` operator.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _declare_missing_operators()
    return importlib.import_module("torchvision")


def prepare_timm() -> None:
    """Make ``import timm`` work where torchvision's build is not torch's; call it before that import."""
    import_torchvision()


def _declare_missing_operators() -> None:
    import torch

    make: Any = torch.library.Library  # untyped in torch
    library = make("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)
