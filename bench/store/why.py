"""Why two keys differ: every keyed folder keeps the document that its key is the digest of."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.errors import StoreError
from bench.store.names import partitions
from bench.store.store import Store

ABSENT = "(absent)"
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two key documents differ; a side without such an entry is ``(absent)``."""

    path: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.a!r} vs {self.b!r}"


def why(store: Store, key_a: str, key_b: str) -> list[Difference]:
    """Return where the key documents of two keys differ, ordered by path; empty when they are the same key.

    Parameters
    ----------
    key_a, key_b
        A key or run, the start of one, or a committed folder.

    Raises
    ------
    StoreError
        When a key is unknown or ambiguous, or its folder keeps no document.
    """
    return differences(_document(store, key_a), _document(store, key_b))


def differences(a: Any, b: Any) -> list[Difference]:
    """Return where two plain documents differ, ordered by path."""
    return list(_differences("", a, b))


def find(store: Store, text: str) -> list[str]:
    """Return the committed folders that ``text`` means: a folder, a folder above, a key or run, or its start.

    Raises
    ------
    StoreError
        When nothing matches (with the closest names) or several keys start with it.
    """
    folders = store.list()
    below = [f for f in folders if f"{f}/".startswith(text.rstrip("/") + "/")]
    if below:
        return below
    keys: dict[str, list[str]] = {}
    for folder in folders:
        names = partitions(folder)
        for name in ("key", "run"):
            if name in names:
                keys.setdefault(names[name], []).append(folder)
    matches = [text] if text in keys else sorted(key for key in keys if text and key.startswith(text))
    if len(matches) == 1:
        return keys[matches[0]]
    if matches:
        shown = ", ".join(key[: max(_SHOWN, len(text) + 4)] for key in matches[:5])
        msg = f"{len(matches)} keys in {store.root} start with {text!r} ({shown}): give more of it"
        raise StoreError(msg)
    close = difflib.get_close_matches(
        text, [*keys, *(key[:_SHOWN] for key in keys), *folders], n=3, cutoff=0.5
    )
    hint = f"did you mean {' or '.join(close)}?" if close else "bench store ls shows what there is"
    msg = f"nothing in {store.root} has the key or folder {text!r}: {hint}"
    raise StoreError(msg)


def _document(store: Store, text: str) -> dict[str, Any]:
    folders = find(store, text)
    for folder in folders:
        document: dict[str, Any] | None = store.manifest(folder).get("key_document")
        if document is not None:
            return document
    msg = f"{store.root / folders[0]} keeps no key document to compare: name another folder"
    raise StoreError(msg)


def _differences(path: str, a: Any, b: Any) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            inner = f"{path}.{name}" if path else name
            yield from _differences(inner, a.get(name, ABSENT), b.get(name, ABSENT))
    elif isinstance(a, list) and isinstance(b, list):
        for i in range(max(len(a), len(b))):
            inner = f"{path}[{i}]"
            yield from _differences(inner, a[i] if i < len(a) else ABSENT, b[i] if i < len(b) else ABSENT)
    elif type(a) is not type(b) or a != b:
        yield Difference(path, a, b)
