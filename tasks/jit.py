"""Compile kernels of plain loops over arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return ``function`` compiled by Numba, its machine code kept on disk where that is possible.

    ``options`` are those of ``numba.njit``. It lets go of the interpreter while it runs.
    """
    import numba  # type: ignore[import-untyped]  # seconds to import: only who has much to do does

    try:
        return cast("Callable[..., Any]", numba.njit(cache=True, nogil=True, **options)(function))
    except RuntimeError:  # nowhere to keep it (a read-only installation): compile anew in each process
        return cast("Callable[..., Any]", numba.njit(nogil=True, **options)(function))
