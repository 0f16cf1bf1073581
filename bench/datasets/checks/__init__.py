"""Everything that is wrong with a dataset, in one pass: tables, images, imaging, readouts, profiles.

A check returns findings and never raises for what it was made to find.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from bench.datasets.checks.finding import Finding
from bench.datasets.checks.images import check_images, check_pixels
from bench.datasets.checks.imaging import check_imaging
from bench.datasets.checks.readouts import check_layer, check_profiles
from bench.datasets.checks.wells import check_wells
from bench.datasets.tables import PLATE, WELL

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.datasets.model import Dataset

__all__ = ["Finding", "check"]


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def check(
    dataset: Dataset,
    pixels: Literal["read", "skip"] = "read",
    report: Callable[[str, int, int], None] = silent,
) -> list[Finding]:
    """Return every finding, errors first, else in the order wells, images, imaging, layers, profiles.

    Parameters
    ----------
    pixels
        ``read`` decodes every image plane once (a truncated file shows no other way); ``skip`` only looks
        whether the files are there.
    report
        Called with stage, done and total while images are read.
    """
    findings = check_wells(dataset)
    findings += check_images(dataset)
    if pixels == "read":
        findings += check_pixels(dataset, report)
    findings += check_imaging(dataset, pixels, report)
    # Duplicate wells are reported above; they must not hide what else is wrong with the layers.
    single = replace(dataset, wells=dataset.wells.drop_duplicates([PLATE, WELL]))
    for layer in dataset.layers:
        findings += check_layer(single, layer)
    for table in dataset.features:
        findings += check_profiles(single, table)
    return sorted(findings, key=lambda f: f.severity != "error")
