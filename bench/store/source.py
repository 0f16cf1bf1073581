"""A digest of code that changes with what the code does and not with how it is laid out.

The digest covers the syntax trees of a module and, transitively, of the modules it imports from its own
top-level package and from this project's packages (so a plugin's key notices a change in what it builds on).
Sources are found on disk; nothing is imported.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from bench.errors import StoreError
from bench.store.faults import disk

OURS = frozenset({"bench", "featurizers", "tasks", "leaderboard"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_digest(obj: type | ModuleType) -> str:
    """Return the sha256 over the syntax trees of the code behind a class or a module.

    Comments, docstrings, blank lines and line numbers do not count; constants and names do. Imports count
    wherever they stand in a file, in functions too; a package's ``__init__`` counts when a name is imported
    from it. Modules that a program names only at run time (``import_module(text)``) are not followed.

    Raises
    ------
    StoreError
        When the module's source cannot be found or parsed.
    """
    bases = obj.__mro__ if isinstance(obj, type) else (obj,)
    start = [m.__name__ if isinstance(m, ModuleType) else m.__module__ for m in bases]
    own = start[0].partition(".")[0]
    followed = OURS | {own}
    queue = [name for name in start if name.partition(".")[0] in followed]
    seen: dict[str, str] = {}
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        path = _source(name)
        if path is None:
            if name == start[0]:
                msg = f"the source of module {name!r} was not found: define {obj!r} in a file"
                raise StoreError(msg)
            continue
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        seen[name], imported = _read(path, package)
        queue += [module for module in _modules(imported) if module.partition(".")[0] in followed]
    lines = "".join(f"{name} {seen[name]}\n" for name in sorted(seen))
    return hashlib.sha256(lines.encode()).hexdigest()


def _source(name: str) -> Path | None:
    """Return the file that defines module ``name`` without importing it, or None."""
    loaded = sys.modules.get(name)
    file = getattr(loaded, "__file__", None)
    if file is not None:
        return Path(file) if file.endswith(".py") else None
    search: list[str] | None = None
    parts = name.split(".")
    for i, part in enumerate(parts):
        parent = sys.modules.get(".".join(parts[:i]))
        if parent is not None:
            search = list(getattr(parent, "__path__", []))
        spec = PathFinder.find_spec(part if search is None else ".".join(parts[: i + 1]), search)
        if spec is None:
            return None
        if i == len(parts) - 1:
            return Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
        search = list(spec.submodule_search_locations or [])
    return None


def _read(path: Path, package: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the digest of a file's syntax tree and what it imports, as :func:`_imports` gives it."""
    with disk(path, "read"):
        raw = path.read_bytes()
    return _parsed(raw, path, package)


@functools.lru_cache(maxsize=2048)  # one session asks for the code of many entrants and tasks
def _parsed(raw: bytes, path: Path, package: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    try:
        tree = ast.parse(raw, filename=str(path))
    except (SyntaxError, ValueError) as error:
        msg = f"{path} cannot be parsed ({error}): correct it, so that the code has a key"
        raise StoreError(msg) from error
    text = "".join(_tokens(tree)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest(), tuple(_imports(tree, package))


def _imports(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for ``from module import name`` and (module, "") for ``import module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            head = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (head, node.module) if part)
            yield from ((base, "" if alias.name == "*" else alias.name) for alias in node.names)


def _modules(imported: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Yield the modules that may be imported: ``from a import b`` gives ``a.b`` if a module, else ``a``."""
    for base, name in imported:
        inner = f"{base}.{name}"
        yield inner if name and _source(inner) is not None else base


def _tokens(node: object) -> Iterator[str]:
    """Yield a text of the tree that is the same in every Python version: no positions, no empty fields."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(node, _DOCUMENTED):
                value = _without_docstring(value)
            if value is None or value == [] or field in {"kind", "type_comment"}:
                continue
            yield f" {field}="
            yield from _tokens(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _tokens(item)
            yield ","
        yield "]"
    else:
        yield repr(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return body[1:] if documented else body
