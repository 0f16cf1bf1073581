"""Simulated screens with known truth, through real cross-validation and real decisions: do rates hold?"""

from __future__ import annotations
