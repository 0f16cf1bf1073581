"""Folder names of the store: ``name=value`` segments of plain ASCII that any tool can read back."""

from __future__ import annotations

import re
from urllib.parse import unquote

from bench.errors import StoreError

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})(?:[A-Za-z0-9._=-]|%[0-9A-F]{2})*")


def escape(value: str) -> str:
    """Percent-escape every UTF-8 byte of ``value`` but ASCII letters, digits, ``.``, ``_`` and ``-``.

    Raises
    ------
    StoreError
        When ``value`` is not text that UTF-8 can hold (a lone surrogate).
    """
    try:
        raw = value.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = (
            f"{value!r} cannot name a folder, as it is not valid Unicode: correct it in the dataset's tables"
        )
        raise StoreError(msg) from error
    return "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in raw)


def unescape(text: str) -> str:
    """Undo :func:`escape`."""
    return unquote(text, encoding="utf-8", errors="strict")


def partitions(folder: str) -> dict[str, str]:
    """Return the ``name=value`` segments of ``folder`` in order, values unescaped."""
    pairs = (segment.partition("=") for segment in folder.split("/"))
    return {name: unescape(value) for name, equals, value in pairs if equals}


def check_folder(folder: str) -> str:
    """Return ``folder`` if each of its segments is a safe name, else raise :class:`StoreError`."""
    if not all(_SEGMENT.fullmatch(segment) for segment in folder.split("/")):
        msg = (
            f"{folder!r} is no folder of a store: use relative segments of ASCII letters, digits and ._=-, "
            "with values passed through bench.store.escape"
        )
        raise StoreError(msg)
    return folder
