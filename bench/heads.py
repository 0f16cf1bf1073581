"""Which heads run on which task: each on the tasks that it fits, what it does not fit in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.entrants import known
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.entrants import Entrant
    from bench.settings import Settings


def of_task(settings: Settings, about: Any) -> tuple[str, ...]:
    """Return the heads that are run on a task: the named ones that fit it, its default if none is named."""
    if not settings.heads:
        return (about.default_head,)
    return tuple(name for name in settings.heads if _fits(_head(settings, name), about))


def check(settings: Settings) -> None:
    """Refuse unknown tasks and heads, and a head that fits none of the tasks that take one."""
    tasks = _tasks(settings)
    for name in settings.heads:
        head = _head(settings, name)
        if tasks and not any(_fits(head, about) for about in tasks.values()):
            task, about = next(iter(tasks.items()))
            raise UsageError(f"head {name} takes readouts of 0 and 1, and {_wanted(task, about)}")


def skipped(settings: Settings) -> list[str]:
    """Return a sentence per head about the tasks that it does not fit and is not run on.

    A head that fits none of them is left to :func:`check`, which refuses it.
    """
    said = []
    tasks = _tasks(settings)
    for name in settings.heads:
        head = _head(settings, name)
        left = [task for task, about in tasks.items() if not _fits(head, about)]
        if 0 < len(left) < len(tasks):
            one = len(left) == 1
            said.append(
                f"Head {name} takes readouts of 0 and 1, so it is not run on task{'s' * (not one)} "
                f"{', '.join(left)}, which predict{'s' * one} values."
            )
    return said


def remarks(settings: Settings) -> list[str]:
    """Return what is said before anything is computed: where a head is not run, what a dear one costs."""
    costs = [(name, _head(settings, name).cost) for name in settings.heads]
    return [*skipped(settings), *(f"Head {name} {cost}." for name, cost in costs if cost)]


def without(settings: Settings, entrants: Sequence[Entrant]) -> dict[str, str]:
    """Return the tasks that none of the named heads fits, and why; none where a predictor needs no head."""
    if any(entrant.is_predictor for entrant in entrants):
        return {}
    return {
        task: f"of the heads named, {', '.join(settings.heads)}, each takes readouts of 0 and 1, and "
        + _wanted(task, about)
        for task, about in _tasks(settings).items()
        if not of_task(settings, about)
    }


def _wanted(task: str, about: Any) -> str:
    return f"task {task} predicts values: name a head for it, such as --head {about.default_head}"


def _tasks(settings: Settings) -> dict[str, Any]:
    """Return the tasks that take a head."""
    registry = known(settings.plugins)
    found = {name: registry.get("tasks", name) for name in settings.tasks}
    return {name: about for name, about in found.items() if about.needs_head}


def _head(settings: Settings, name: str) -> Any:
    return known(settings.plugins).get("heads", name)


def _fits(head: Any, about: Any) -> bool:
    return about.predicts_calls or not head.calls_only
