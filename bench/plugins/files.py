"""Plugins given as a Python file with ``--plugin``: the one place where a file the user names is executed."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from bench.errors import UsageError

_loaded: dict[str, tuple[Path, str]] = {}
"""Module name to the file and content that it was loaded from."""


def file_origin(path: Path) -> str:
    """Return the path as given and the start of the file's sha256: ``my.py (sha256 0123456789ab)``."""
    return f"{path} (sha256 {_digest(path)[:12]})"


def module_name(path: Path) -> str:
    """Return the module name of a plugin file: it follows from the file's name alone.

    The name is part of the code's digest, so neither the folder nor a comment may change it.
    """
    return "wellbench_plugin_" + re.sub(r"\W", "_", path.stem)


def load_file(path: Path) -> ModuleType:
    """Execute a plugin file as a module; once, unless another or a changed file has its name.

    Raises
    ------
    UsageError
        When the path is no readable ``.py`` file.
    Exception
        Whatever the file itself raises; the caller lists it as broken.
    """
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"--plugin {path}: no such Python file; give the path of a file that ends in .py")
    name, content = module_name(path), (path.resolve(), _digest(path))
    if _loaded.get(name) == content and name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"--plugin {path}: Python cannot load this file as a module")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _loaded[name] = content
    return module


def defined_classes(module: ModuleType, base: type) -> Iterator[type]:
    """Yield the subclasses of ``base`` that the module itself defines, by their order in the file.

    Imported classes and those whose name begins with an underscore are left out.
    """
    for name, value in vars(module).items():
        if (
            isinstance(value, type)
            and issubclass(value, base)
            and value.__module__ == module.__name__
            and value.__name__ == name
            and not name.startswith("_")
        ):
            yield value


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
