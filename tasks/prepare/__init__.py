"""Preparation of a readout layer before any split: named steps with plain settings, each said in a sentence.

>>> from tasks.prepare import build, prepare
>>> steps = [build("size-factors", {}), build("log", {})]
"""

from __future__ import annotations

from tasks.prepare.readouts import Readouts, Step
from tasks.prepare.steps import STEPS, build, prepare

__all__ = ["STEPS", "Readouts", "Step", "build", "prepare"]
