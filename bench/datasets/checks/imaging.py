"""Checks of ``[imaging]``: settings, channels, and the files that masks, weights and flat fields need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.datasets.checks.finding import Finding, finding
from bench.datasets.settings import FILE
from bench.datasets.tables import PLATE, is_remote, shorten
from bench.errors import DatasetError
from bench.words import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset

PIECES = 3
"""A mask with one id in at least so many pieces is probably no label image but a foreground."""
_STEPS = ("illumination", "standardise", "quality")


def check_imaging(
    dataset: Dataset, pixels: Literal["read", "skip"], report: Callable[[str, int, int], None]
) -> list[Finding]:
    """Return what of ``[imaging]`` and of the illumination functions cannot work with these images.

    Parameters
    ----------
    pixels
        ``read`` also opens masks, weights and functions and compares them with the images' size; ``skip``
        only looks whether they are there.
    report
        Called with stage, done and total while masks are read.
    """
    from bench.imaging import settings

    if dataset.images is None:
        return []
    out = _settings(dataset)
    if out:
        return out
    imaging = settings.read(dataset.imaging)
    shapes = _shapes(dataset) if pixels == "read" else {}
    out += _segmentation(dataset, imaging.segmentation, pixels, report)
    out += _functions(dataset, shapes)
    if imaging.illumination is not None:
        out += _windows(dataset, imaging.illumination, shapes)
    return out + _controls(dataset, imaging.standardise)


def _settings(dataset: Dataset) -> list[Finding]:
    """Return the faults of each step's settings, so that one does not hide another."""
    from bench.imaging import settings

    given = dict(dataset.imaging)
    parts: list[Mapping[str, Any]] = [{step: given.pop(step)} for step in _STEPS if step in given]
    return [f for part in (*parts, given) if (f := _said(dataset, partial(settings.read, part)))]


def _said(dataset: Dataset, work: Callable[[], Any], code: str = "imaging-settings") -> Finding | None:
    """Return the sentence with which ``work`` fails as a finding, None where it does not."""
    try:
        work()
    except DatasetError as error:
        what = str(error).removeprefix(f"{FILE} ")
        return finding("error", code, str(dataset.root / FILE), what, "correct [imaging]")
    return None


def _segmentation(
    dataset: Dataset, config: Any, pixels: Literal["read", "skip"], report: Callable[[str, int, int], None]
) -> list[Finding]:
    from bench.imaging import fields, segment_cellpose, segment_masks

    file = str(dataset.root / FILE)
    try:
        fields.check_segmentation(dataset, config)
        if isinstance(config, segment_cellpose.Cellpose) and pixels == "read":
            segment_cellpose.check_weights(config, dataset.root)
    except DatasetError as error:
        what = str(error).removeprefix(f"{FILE} ")
        if "method" in dataset.imaging:
            return [finding("error", "no-segmentation", file, what, "correct [imaging]")]
        remedy = "nothing, if no featurizer needs cells"
        return [finding("warning", "no-segmentation", file, what, remedy)]
    if not isinstance(config, segment_masks.Masks):
        return []
    return _masks(dataset, config, report if pixels == "read" else None)


@dataclass(frozen=True)
class _Field:
    """One field: its masks' files, and the image (URI, region) whose size they have."""

    masks: Mapping[str, str]
    image: tuple[str, str]


def _fields(dataset: Dataset, config: Any) -> Iterator[_Field]:
    from bench.datasets.tables import SITE, WELL
    from bench.imaging import segment_masks
    from bench.imaging.planes import Job, in_order
    from bench.imaging.stored import planes_of

    names = tuple(c.name for c in dataset.channels)
    planes = planes_of(dataset)
    for place in in_order(planes):
        stored = [planes[place].get(name) for name in names]
        job = Job(dict(zip((PLATE, WELL, SITE), place, strict=True)), tuple(stored))
        try:
            files = segment_masks.files(config, job, names, dataset.root)
        except DatasetError:
            continue  # a channel without a row is a finding of the image table
        first = next(s for s in stored if s is not None)
        yield _Field(files, (first.uri, first.region))


def _masks(dataset: Dataset, config: Any, report: Callable[[str, int, int], None] | None) -> list[Finding]:
    """Return masks that are missing and, with ``report``, those that cannot be used when they are read."""
    from bench.imaging import segment_masks

    file, out = str(dataset.root / FILE), []
    missing: list[str] = []
    wrong: list[str] = []
    single: list[str] = []
    fields = list(_fields(dataset, config))
    for done, one in enumerate(fields):
        gone = [f for f in one.masks.values() if not is_remote(f) and not Path(f).is_file()]
        missing += gone
        if report is None or gone:
            continue
        report("masks", done, len(fields))
        shape = _shape(*one.image)
        try:
            if shape is not None:
                found = segment_masks.masks(one.masks, shape, config)
                first = next(iter(one.masks))
                if len(found.ids) == 1 and _pieces(found.masks[first]) >= PIECES:
                    single.append(one.masks[first])
        except DatasetError as error:
            wrong.append(str(error))
    if missing:
        what = f"{count(len(missing), 'mask', 'are')} missing: {shorten(map(_name(dataset), missing), 5)}"
        out.append(finding("error", "missing-mask", file, what, "add them, or correct the pattern"))
    if single:
        what = f"{count(len(single), 'mask')} with one id for {PIECES} or more separate pieces: "
        remedy = "if each piece is an object, set labels = 'binary'; otherwise nothing"
        named = shorten(map(_name(dataset), single), 3)
        out.append(finding("warning", "one-object-masks", file, what + named, remedy))
    if wrong:
        what = f"{count(len(wrong), 'field')} with a mask that cannot be used: " + "; ".join(wrong[:3])
        what += f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        out.append(finding("error", "wrong-mask", file, what, "export these masks again"))
    return out


def _pieces(labels: NDArray[Any]) -> int:
    from scipy import ndimage

    return int(ndimage.label(labels)[1])


def _functions(dataset: Dataset, shapes: Mapping[str, tuple[int, int]]) -> list[Finding]:
    """Return illumination functions that are missing or do not fit, and channels that have none."""
    from bench.imaging import stored

    table = dataset.illumination
    if table is None:
        return []
    file, out = dataset.files["illumination"], []
    gone = [i for i, u in enumerate(table["URI"]) if not is_remote(u) and not Path(u).is_file()]
    if gone:
        named = shorten(map(_name(dataset), table["URI"].iloc[gone]), 5)
        what = f"{count(len(gone), 'illumination function', 'are')} missing: {named}"
        out.append(finding("error", "missing-function", file, what, "restore them or correct URI", gone))
    assert dataset.images is not None
    has = set(zip(table[PLATE], table["Channel"], strict=True))
    wanted = set(zip(dataset.images[PLATE], dataset.images["Channel"], strict=True))
    bare = sorted("/".join(place) for place in wanted - has)
    if bare:
        what = f"{count(len(bare), 'channel')} of a plate without an illumination function: {shorten(bare)}"
        out.append(finding("warning", "no-function", file, what, "nothing, if that is meant"))
    unfit: dict[int, str] = {}
    for i, (plate, uri) in enumerate(zip(table[PLATE], table["URI"], strict=True)):
        if i not in gone and plate in shapes:
            try:
                stored.check_function(uri, shapes[plate], f"plate {plate}")
            except DatasetError as error:
                unfit[i] = str(error)
    if unfit:
        what = "; ".join(list(unfit.values())[:3]) + (
            f"; and {len(unfit) - 3} more" if len(unfit) > 3 else ""
        )
        out.append(finding("error", "wrong-function", file, what, "compute them again", unfit))
    return out


def _windows(dataset: Dataset, config: Any, shapes: Mapping[str, tuple[int, int]]) -> list[Finding]:
    """Return plates whose fields are too small for the flat field's window where it may not shrink."""
    from bench.imaging import illumination

    sizes = sorted(set(shapes.values()))
    found = [
        _said(dataset, partial(illumination.windows, size, config), "window-too-large") for size in sizes
    ]
    return [f for f in found if f is not None]


def _controls(dataset: Dataset, config: Any) -> list[Finding]:
    """Return plates that cannot be standardised by their negative controls because they image none."""
    from bench.datasets.tables import WELL
    from bench.imaging import plates, standardise

    assert dataset.images is not None
    if not isinstance(config, standardise.ByControls):
        return []
    pictured = set(zip(dataset.images[PLATE], dataset.images[WELL], strict=True))
    having = {plate for plate, well in plates.negative_controls(dataset) if (plate, well) in pictured}
    without = sorted(set(dataset.images[PLATE]) - having)
    if not without:
        return []
    what = (
        f"standardise = 'negcon', and {count(len(without), 'plate', 'have')} no image of a negative control: "
    )
    remedy = "mark wells negcon, or set standardise = 'field'"
    return [finding("error", "no-control-pixels", dataset.files["wells"], what + shorten(without), remedy)]


def _shapes(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Return (H, W) of the first image of each plate whose header can be read."""
    assert dataset.images is not None
    out: dict[str, tuple[int, int]] = {}
    images = dataset.images
    parts = images["Region"] if "Region" in images.columns else [""] * len(images)
    for plate, uri, region in zip(images[PLATE], images["URI"], parts, strict=True):
        if plate not in out and (shape := _shape(uri, region)) is not None:
            out[plate] = shape
    return out


def _shape(uri: str, region: str) -> tuple[int, int] | None:
    """Return (H, W) by the file's header; None where it cannot be read, which is a finding of its own."""
    from bench.imaging.stored import shape_of

    try:
        return shape_of(uri, region)
    except DatasetError:
        return None


def _name(dataset: Dataset) -> Callable[[str], str]:
    def short(uri: str) -> str:
        inside = not is_remote(uri) and Path(uri).is_relative_to(dataset.root)
        return Path(uri).relative_to(dataset.root).as_posix() if inside else uri

    return short
