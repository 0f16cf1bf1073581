"""Where heads compute: NumPy on the processor or torch on a named device, and blocks of readouts in threads.

A kernel that is written against the array interface both have (``array_api_compat``) takes either; ``put``
brings an array to its device and ``host`` back. The device ``cpu`` is NumPy. Every other name is torch's:
``cuda``, ``cuda:1``, and ``cpu:0`` for torch on the processor, which says whether the two agree.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from array_api_compat import array_namespace as namespace
from array_api_compat import device

from tasks.base import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

__all__ = ["device", "each", "eigh", "host", "namespace", "put"]

A = TypeVar("A")
B = TypeVar("B")


def put(array: NDArray[Any], where: str) -> Any:
    """Return ``array`` itself for the device ``cpu``, else a copy as a torch tensor there.

    Raises
    ------
    TaskError
        When torch does not have the device.
    """
    if where == "cpu":
        return array
    import torch

    try:
        return torch.tensor(np.ascontiguousarray(array), device=where)
    except (RuntimeError, AssertionError) as error:
        raise TaskError(
            f"device {where!r} cannot be used ({str(error).splitlines()[0]}); choose cpu or another"
        ) from error


def host(array: Any) -> NDArray[Any]:
    """Return a NumPy array of what :func:`put` or a kernel made."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.cpu().numpy())


def eigh(gram: Any) -> tuple[Any, Any]:
    """Eigenvalues, ascending, and vectors of a symmetric matrix.

    NumPy's on the processor, because it lets go of the interpreter: SciPy's ``eigh`` holds it, so that
    decompositions in threads stand in line.
    """
    values, vectors = namespace(gram).linalg.eigh(gram)
    return values, vectors


def each(function: Callable[[A], B], items: Iterable[A], *, threaded: bool = True) -> list[B]:
    """Return ``function`` of every item, in as many threads as the linear algebra has.

    That number is what ``OMP_NUM_THREADS`` or the harness allows. Within them a product takes one thread, so
    that what is computed here is the same bytes for any number of them, which products elsewhere need not
    be; and what is not a product keeps every core busy too.

    Parameters
    ----------
    threaded
        False calls one after the other, as for work on another device.
    """
    todo = list(items)
    if not threaded or len(todo) < 2:
        return [function(item) for item in todo]
    from threadpoolctl import ThreadpoolController

    pools = ThreadpoolController().select(user_api="blas")
    threads = min(len(todo), max((own["num_threads"] for own in pools.info()), default=1))
    if threads == 1:
        return [function(item) for item in todo]
    with pools.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, todo))
