"""Numbers of things in sentences."""

from __future__ import annotations

import re


def count(number: int, noun: str, verb: str = "") -> str:
    """Return ``2 wells have`` or ``1 well has`` of the singular ``noun`` and the plural ``verb``.

    A noun may go on with "of …" or "with …", which stays as it is.
    """
    if number != 1:
        noun = re.sub(r"(?= of | with |$)", "s", noun, count=1)
    elif verb:
        verb = {"are": "is", "have": "has"}.get(verb, f"{verb}s")
    return f"{number} {noun} {verb}".rstrip()
