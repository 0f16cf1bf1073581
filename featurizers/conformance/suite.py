"""The list of checks, in order, and the loop that runs them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from featurizers.base import Channel, Featurizer, FeaturizerError
from featurizers.conformance import embedding, static, training
from featurizers.conformance.subject import CheckResult, NotApplicable, Status, Subject, Violation, quiet
from featurizers.synthetic import PAINTING


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the contract.

    Parameters
    ----------
    run
        Returns what it measured; raises :class:`Violation` or :class:`NotApplicable`.
    after
        Checks without which this one says nothing; when one of them did not pass, it is skipped.
    """

    name: str
    run: Callable[[Subject], str]
    after: tuple[str, ...] = ()
    trainable_only: bool = False


CHECKS: tuple[Check, ...] = (
    Check("card", static.card),
    Check("config", static.config),
    Check("presets", static.presets, ("config",)),
    Check("import", static.cheap_import),
    Check("embeds", embedding.embeds),
    Check("columns", static.columns, ("embeds",)),
    Check("form", embedding.form, ("embeds",)),
    Check("finite", embedding.finite, ("form",)),
    Check("deterministic", embedding.deterministic, ("form",)),
    Check("empty-field", embedding.empty_field, ("finite",)),
    Check("batch-invariant", embedding.batch_invariant, ("deterministic", "empty-field")),
    Check("pure", embedding.pure, ("embeds",)),
    Check("blind", embedding.blind, ("deterministic",)),
    Check("constant-channel", embedding.constant_channel, ("finite",)),
    Check("bad-pixels", embedding.bad_pixels, ("finite",)),
    Check("save-load", training.saved, ("deterministic",), trainable_only=True),
    Check("strict-load", training.strict_load, ("save-load",), trainable_only=True),
    Check("fit-deterministic", training.fit_deterministic, ("save-load",), trainable_only=True),
    Check("resume", training.resume, ("fit-deterministic",), trainable_only=True),
)
"""What is checked, in order; the docstring of ``run`` is the promise in a sentence."""


def check_featurizer(
    featurizer: type[Featurizer] | Callable[[], Featurizer],
    *,
    channels: Sequence[Channel] | None = None,
    device: str = "cpu",
) -> list[CheckResult]:
    """Return one result per check of the contract, on small synthetic fields.

    Parameters
    ----------
    featurizer
        A class, tested with its default preset, or a function that returns a new instance: give one with a
        tiny config for a trainable featurizer, which is trained four times on eight fields of 96 × 128.
    channels
        Channels of the images. None tries the first, the first two, and all five of Cell Painting, and the
        five alone for a trainable featurizer; the channel rule may refuse all but the last set (a
        FeaturizerError from ``columns``).
    device
        Where to train; embedding runs where the featurizer puts it.

    Returns
    -------
    In the order of :data:`CHECKS`; nothing is raised for what the featurizer does.
    """
    sets = (tuple(channels),) if channels is not None else embedding.channel_sets(5, PAINTING)
    try:
        with quiet():
            cls: type[Featurizer] = featurizer if isinstance(featurizer, type) else type(featurizer())
    except Exception as error:  # noqa: BLE001  # a factory may raise anything; it is the result
        return [CheckResult("card", "failed", f"it cannot be made: {_brief(error)}")]
    subject = Subject(featurizer, cls, sets[-1:] if cls.trainable else sets, device)
    results: dict[str, CheckResult] = {}
    try:
        for check in CHECKS:
            results[check.name] = _result(check, subject, results)
    finally:
        shutil.rmtree(subject.folder, ignore_errors=True)
    return list(results.values())


def failures(results: Iterable[CheckResult]) -> list[str]:
    """Return ``"check: message"`` of every failed check; an empty list is a featurizer that conforms."""
    return [f"{r.name}: {r.message}" for r in results if r.status == "failed"]


def _result(check: Check, subject: Subject, before: dict[str, CheckResult]) -> CheckResult:
    if check.trainable_only and not subject.cls.trainable:
        return CheckResult(check.name, "skipped", "it is not trainable")
    missing = [name for name in check.after if before[name].status != "passed"]
    if missing:
        return CheckResult(check.name, "skipped", f"says nothing before {', '.join(missing)} passes")
    status: Status = "passed"
    try:
        with quiet():
            message = check.run(subject)
    except NotApplicable as error:
        status, message = "skipped", str(error)
    except Violation as error:
        status, message = "failed", str(error)
    except FeaturizerError as error:
        status, message = "failed", f"refused with: {error}"
    except Exception as error:  # noqa: BLE001  # a featurizer under test may raise anything; it is the result
        status, message = (
            "failed",
            f"raised {_brief(error)}; refuse a wrong input with FeaturizerError",
        )
    return CheckResult(check.name, status, message)


def _brief(error: Exception) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame is not None else ""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}{where}"
