"""The one door to Numba: how every kernel of this package is compiled.

Importing Numba takes seconds, so only modules with kernels import this one, and the featurizer imports them
when it measures, not before. Kernels are compiled once per machine and kept in Numba's cache (beside the
source, else in the user's cache folder, or where ``NUMBA_CACHE_DIR`` says). ``fastmath`` stays off: bins,
ranks and the r² > 1 cut of the Zernike polynomials depend on plain IEEE rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba  # type: ignore[import-untyped]

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` on its first call, keeping the machine code on disk where that is possible.

    Division follows NumPy (x/0 is inf or NaN, no exception).
    """
    try:
        compiled = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    except RuntimeError:  # nowhere to keep it (a read-only installation): compile anew in each process
        compiled = numba.njit(error_model="numpy", nogil=True)(function)
    return cast("Callable[P, R]", compiled)
