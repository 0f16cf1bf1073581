"""A new dataset folder: a commented ``dataset.toml`` and empty tables with the right headers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.settings import FILE, quoted
from bench.errors import DatasetError

if TYPE_CHECKING:
    from bench.datasets.platemap import About
    from bench.datasets.writer import Screen

_TEMPLATE = """\
schema_version = 1
name = {name}
version = "1"             # raise it when images or wells change
bit_depth = 16            # significant bits per grey level: 8, 10, 12, 14, 16; 32 for floats in [0, 1]
# pixel_size_um = 0.65
perturbation = "Metadata_Compound"   # the wells column that folds must not split

[[channels]]
name = "DNA"
stain = "Hoechst"
role = "nucleus"          # segmentation starts here

[images]                  # leave out for a dataset of ready-made profiles
table = "images.csv"      # one row per image plane; URI relative to this folder, absolute, or s3://…

[wells]
table = "wells.csv"       # Metadata_pert_type: trt, negcon or poscon

# [imaging]
# method = "otsu-log"

# [[layers]]              # measured readouts: .csv, .tsv, .parquet or .h5ad
# name = "rna"
# table = "rna.parquet"
# kind = "abundance"      # or regulation (-1, 0, 1), target (0, 1)
# scale = "log"           # counts, log, ratio or z
# key = ["Metadata_Compound", "Metadata_Concentration"]
# join = "aggregate"      # or broadcast
# dose_rule = "each"      # where the key lacks dose: each, mean or top
# prepared = "counts per million, log2(x + 1)"
"""

_HEADERS = {
    "images.csv": "Metadata_Plate,Metadata_Well,Metadata_Site,Channel,URI,Plane\n",
    "wells.csv": "Metadata_Plate,Metadata_Well,Metadata_pert_type,Metadata_Compound,"
    "Metadata_Concentration,Metadata_Concentration_unit\n",
}


def new(folder: Path) -> list[Path]:
    """Write a commented ``dataset.toml`` and table headers into a new or empty folder; return the files."""
    fresh(folder)
    texts = {FILE: _TEMPLATE.format(name=quoted(folder.absolute().name)), **_HEADERS}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def fresh(folder: Path) -> None:
    """Make ``folder``; refuse one that holds files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(p.name for p in folder.iterdir())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    if held:
        raise DatasetError(
            f"{folder}: not empty (it holds {held[0]}); choose a new folder, nothing was written"
        )


def write_toml(folder: Path, screen: Screen, about: About) -> None:
    """Write the ``dataset.toml`` of :func:`bench.datasets.writer.write`."""
    lines = [
        "schema_version = 1",
        f"name = {quoted(about.name)}",
        'version = "1"',
        f"bit_depth = {screen.bit_depth}",
        *([f"pixel_size_um = {screen.pixel_size_um!r}"] if screen.pixel_size_um else []),
        f"perturbation = {quoted(about.perturbation)}",
        "",
        f"# {screen.origin}".replace("\n", " "),
    ]
    for channel in screen.channels:
        lines += ["", "[[channels]]", f"name = {quoted(channel.name)}"]
        lines += [f"stain = {quoted(channel.stain)}"] if channel.stain else []
        lines += [f"role = {quoted(channel.role)}"] if channel.role else []
    lines += ["", "[images]", 'table = "images.csv"']
    lines += [f"projection = {quoted(screen.projection)}"] if screen.projection else []
    lines += ["", "[wells]", 'table = "wells.csv"']
    if screen.illumination is not None:
        lines += ["", "[illumination]", 'table = "illumination.csv"']
    if about.imaging:
        lines += ["", "[imaging]", f"method = {quoted(about.imaging)}"]
    for layer in about.readouts:
        lines += [
            "",
            "[[layers]]",
            f"name = {quoted(layer.name)}",
            f"table = {quoted(layer.name + '.csv')}",
        ]
        lines += [f"kind = {quoted(layer.kind)}", f"scale = {quoted(layer.scale)}"]
        lines += [f"key = {_list(layer.key)}", f"join = {quoted(layer.join)}"]
        lines += [f"exclude = {_list(layer.exclude)}"] if layer.exclude else []
    for own in screen.measured:
        lines += ["", "[[layers]]", f"name = {quoted(own.name)}", f"table = {quoted(own.name + '.parquet')}"]
        lines += [f"kind = {quoted(own.kind)}", f"scale = {quoted(own.scale)}", f"key = {_list(own.key)}"]
        lines += [f"prepared = {quoted(own.prepared)}"]
    (folder / FILE).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(quoted(v) for v in values) + "]"
