"""Real CellProfiler beside us: an environment of its own, made here and driven over its command line.

CellProfiler 4.2.8 cannot live in this environment (NumPy < 2, packages that do not build on Python 3.11), so
it is a sidecar: :mod:`install` makes the environment, :mod:`places` finds it, :mod:`run` runs a pipeline.
"""

from bench.sidecar.install import Step, setup, steps
from bench.sidecar.places import environment, installed_version, interpreter
from bench.sidecar.run import Done, run_pipeline

__all__ = [
    "Done",
    "Step",
    "environment",
    "installed_version",
    "interpreter",
    "run_pipeline",
    "setup",
    "steps",
]
