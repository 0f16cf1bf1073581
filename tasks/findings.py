"""What the leakage audit returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["banner", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the audit: ``code`` names the check, ``figure`` is the number behind the message."""

    severity: Severity
    code: str
    message: str
    figure: float
