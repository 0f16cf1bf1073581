"""What stood in the wells: platemaps, treatments and readouts from tables; shared by all adapters.

Plain form: one table with a row per well (``--wells``). JUMP form: ``barcode_platemap.csv`` names the
platemap of each plate, ``platemap/{name}.txt`` beside it has ``well_position`` and ``broad_sample``
(``--barcodes``). Tables of compounds, genes and controls (``--annotate``) are joined on the columns they
share with the wells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.datasets.model import JOINS, KINDS, SCALES
from bench.datasets.places import absolute, below, folder_of
from bench.datasets.tables import (
    DOSE,
    DOSE_UNIT,
    PERT_TYPE,
    PLATE,
    PREFIX,
    WELL,
    column_names,
    normalise_well,
    read_frame,
    shorten,
)
from bench.errors import DatasetError, UsageError

DEFAULT_PLATE = "plate-1"
CONTROL_TYPE = "Metadata_control_type"
JUMP_CONTROLS = {
    "JCP2022_033924": "negcon",  # DMSO
    "JCP2022_800001": "negcon",  # no guide
    "JCP2022_800002": "negcon",  # non-targeting guide
    "JCP2022_999999": "empty",
}
"""Perturbations of the JUMP consortium that are controls (its ``perturbation_control.csv``)."""

_JUMP_COLUMNS = {
    "well_position": WELL,
    "mmoles_per_liter": DOSE,
    "InChIKey": "Metadata_InChIKey",
    "SMILES": "Metadata_SMILES",
    "smiles": "Metadata_SMILES",
}


def _colrow(text: str) -> str:
    match = re.fullmatch(r"0*([1-9][0-9]?)([A-Za-z]{1,2})", text)
    return normalise_well(match[2] + match[1]) if match else text


WELL_RULES: dict[str, Callable[[str], str]] = {"rowcol": normalise_well, "colrow": _colrow}
"""How a table writes a well: ``rowcol`` is ``B1`` or ``b01``, ``colrow`` is ``01B``."""


@dataclass(frozen=True)
class ReadoutTable:
    """A readout table to be listed as a layer; ``key`` holds metadata columns after renaming."""

    table: Path
    name: str
    kind: str = "abundance"
    scale: str = "z"
    key: tuple[str, ...] = (PLATE, WELL)
    join: str = "aggregate"
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class About:
    """What is told about a screen besides its images.

    Parameters
    ----------
    nucleus
        The channel that segmentation starts from; empty for none.
    imaging
        Segmentation method; empty for the default.
    wells
        Plain platemap; its columns are renamed by ``rename`` and joined to the wells found. Without a plate
        column it is the platemap of every plate.
    barcodes
        ``barcode_platemap.csv`` of the JUMP form.
    annotate
        Tables of treatments, each joined on the ``Metadata_`` columns it shares with the wells.
    well_rule
        How the tables write a well, a key of :data:`WELL_RULES`.
    negative
        Values of the perturbation column that are negative controls.
    """

    name: str
    perturbation: str = "Metadata_Compound"
    nucleus: str = ""
    plate: str = DEFAULT_PLATE
    imaging: str = ""
    wells: str | Path | None = None
    barcodes: str | Path | None = None
    annotate: tuple[str | Path, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    well_rule: str = "rowcol"
    negative: tuple[str, ...] = ()
    readouts: tuple[ReadoutTable, ...] = ()


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Return ``OLD=NEW`` words as a mapping."""
    out = {}
    for word in words:
        old, sign, new = word.rpartition("=")
        if not (sign and old and new):
            raise UsageError(f"{option} {word!r}: write OLD=NEW, e.g. treatment=Metadata_Compound")
        out[old] = new
    return out


def sound(about: About) -> None:
    """Raise a :class:`bench.errors.UsageError` for an option that no table can make right."""
    if about.well_rule not in WELL_RULES:
        raise UsageError(f"well rule {about.well_rule!r} is none of {', '.join(WELL_RULES)}")
    if about.wells is not None and about.barcodes is not None:
        raise UsageError("--wells and --barcodes are two ways to say the same; give one")
    for table in about.readouts:
        for value, allowed, what in (
            (table.kind, KINDS, "kind"),
            (table.scale, SCALES, "scale"),
            (table.join, JOINS, "join"),
        ):
            if value not in allowed:
                raise UsageError(f"readouts {table.name!r}: {what} {value!r} is none of {', '.join(allowed)}")
    given = [about.wells, about.barcodes, *about.annotate, *(t.table for t in about.readouts)]
    columns = {n for path in given if path is not None for n in column_names(absolute(path))}
    unused = [old for old in about.rename if old not in columns]
    if unused:
        raise UsageError(
            f"--map: no table has a column {shorten(unused)}; there are {shorten(sorted(columns))}"
        )


def readout_frame(table: ReadoutTable, about: About, plates: Sequence[str]) -> pd.DataFrame:
    """Return a readout table with columns renamed, wells normalised and, if it has none, the plate."""
    frame = _table(table.table, about, needs_well=WELL in table.key)
    if WELL in frame.columns and PLATE not in frame.columns:
        if PLATE in table.key and len(plates) != 1:
            raise DatasetError(
                f"{table.table}: no column {PLATE} and {len(plates)} plates; add it, or a --key without it"
            )
        frame.insert(0, PLATE, plates[0])
    return frame


def wells_of(
    about: About, images: pd.DataFrame, known: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the wells table, and the wells with images that the platemap does not have.

    Plates without images are left out of it. Controls are, in this order: what ``control_type`` of an
    annotation says (``negcon``, ``poscon…``), what ``pert_type`` says, JUMP's own controls, a solvent that
    stands alone in a JUMP platemap; the perturbations named as negative are so in any case.

    Parameters
    ----------
    known
        What the index says of each well, by plate and well; its other columns go along.
    """
    found = images[[PLATE, WELL]].drop_duplicates(ignore_index=True)
    plates = list(dict.fromkeys(found[PLATE]))
    solvents: set[str] = set()
    if about.wells is not None:
        frame = _plain(about, plates)
    elif about.barcodes is not None:
        frame, solvents = _assigned(about, plates)
    else:
        frame = found
    if known is not None:
        new = [c for c in known.columns if c not in frame.columns]
        frame = frame.merge(known[[PLATE, WELL, *new]], on=[PLATE, WELL], how="left")
        frame[new] = frame[new].fillna("")
    for table in about.annotate:
        frame = _annotated(frame, table, about)
    mapped = about.wells is not None or about.barcodes is not None or about.annotate
    if about.perturbation not in frame.columns:
        if mapped:
            source = about.wells or about.barcodes or about.annotate[0]
            example = next((c for c in frame.columns if c not in (PLATE, WELL)), frame.columns[-1])
            hint = "" if about.wells is None else f" or --map treatment={about.perturbation}"
            raise DatasetError(
                f"{source}: no column {about.perturbation}; say which column is the perturbation, "
                f"e.g. --perturbation {example}{hint}"
            )
        frame = frame.assign(**{about.perturbation: ""})
    frame = frame.assign(**{PERT_TYPE: _types(frame, about, solvents)})
    have = set(zip(frame[PLATE], frame[WELL], strict=True))
    places = list(zip(found[PLATE], found[WELL], strict=True))
    return frame, tuple(f"{p}/{w}" for p, w in places if (p, w) not in have)


def _types(frame: pd.DataFrame, about: About, solvents: set[str]) -> list[str]:
    negative = {*about.negative, *solvents}
    controls = frame[CONTROL_TYPE] if CONTROL_TYPE in frame.columns else [""] * len(frame)
    said = frame[PERT_TYPE] if PERT_TYPE in frame.columns else [""] * len(frame)
    out = []
    for name, control, kind in zip(frame[about.perturbation], controls, said, strict=True):
        by_control = next((k for k in ("negcon", "poscon") if control.startswith(k)), "")
        out.append(
            "negcon" if name in negative else by_control or kind or JUMP_CONTROLS.get(str(name), "trt")
        )
    return out


def _table(path: str | Path, about: About, *, needs_well: bool, prefix: str = "") -> pd.DataFrame:
    """Read a table with columns renamed (in the JUMP form also prefixed) and wells normalised."""
    uri = absolute(path)
    names = column_names(uri)
    rename = {k: v for k, v in about.rename.items() if k in names}
    if prefix:
        rename |= {
            n: _JUMP_COLUMNS.get(n, prefix + n) for n in names if n not in rename and not n.startswith(prefix)
        }
    else:  # who is a control is never left aside
        bare = {c.removeprefix(PREFIX): c for c in (PERT_TYPE, CONTROL_TYPE) if c not in names}
        rename |= {n: bare[n] for n in names if n in bare and n not in rename}
    frame = read_frame(uri, rename=rename)
    if needs_well and WELL not in frame.columns:
        raise DatasetError(
            f"{path}: no column {WELL}; say which column is the well, e.g. --map {frame.columns[0]}={WELL}"
        )
    if WELL in frame.columns:
        frame[WELL] = [WELL_RULES[about.well_rule](w) for w in frame[WELL]]
    return frame


def _plain(about: About, plates: Sequence[str]) -> pd.DataFrame:
    assert about.wells is not None
    frame = _table(about.wells, about, needs_well=True)
    frame = frame[[c for c in frame.columns if c.startswith(PREFIX)]]
    if PLATE not in frame.columns:
        copies = [frame.assign(**{PLATE: plate}) for plate in plates]
        frame = pd.concat(copies, ignore_index=True)
        return frame[[PLATE, *(c for c in frame.columns if c != PLATE)]]
    imaged = frame[frame[PLATE].isin(plates)].reset_index(drop=True)
    if imaged.empty:
        raise DatasetError(
            f"{about.wells}: its plates ({shorten(dict.fromkeys(frame[PLATE]), 3)}) are none of those with "
            f"images ({shorten(plates, 3)}); make the names agree"
        )
    return imaged


def _assigned(about: About, plates: Sequence[str]) -> tuple[pd.DataFrame, set[str]]:
    """Return the JUMP form's wells, and the solvents that stand alone in some."""
    assert about.barcodes is not None
    file = absolute(about.barcodes)
    table = read_frame(file, text=("Assay_Plate_Barcode", "Plate_Map_Name"))
    for column in ("Assay_Plate_Barcode", "Plate_Map_Name"):
        if column not in table.columns:
            raise DatasetError(f"{file}: no column {column}; it has {shorten(table.columns)}")
    maps = dict(zip(table["Assay_Plate_Barcode"], table["Plate_Map_Name"], strict=True))
    frames, read = [], {}
    for plate in (p for p in plates if p in maps):
        name = maps[plate]
        if name not in read:
            path = below(folder_of(file), f"platemap/{name}.txt")
            read[name] = _table(path, about, needs_well=True, prefix=PREFIX)
        frames.append(read[name].assign(**{PLATE: plate}))
    if not frames:
        raise DatasetError(
            f"{file}: its plates ({shorten(maps, 3)}) are none of those with images ({shorten(plates, 3)}); "
            "make the names agree"
        )
    frame: pd.DataFrame = pd.concat(frames, ignore_index=True)
    text = [c for c in frame.columns if c != DOSE]
    frame[text] = frame[text].fillna("")
    frame = frame[[PLATE, WELL, *(c for c in frame.columns if c not in (PLATE, WELL))]]
    if DOSE in frame.columns and DOSE_UNIT not in frame.columns:
        frame[DOSE_UNIT] = "mM"
    solvents: set[str] = set()
    sample, solvent = "Metadata_broad_sample", "Metadata_solvent"
    if sample in frame.columns and solvent in frame.columns:
        alone = (frame[sample] == "") & (frame[solvent] != "")
        frame.loc[alone, sample] = frame.loc[alone, solvent]
        solvents = set(frame.loc[alone, solvent])
    return frame, solvents


def _annotated(frame: pd.DataFrame, table: str | Path, about: About) -> pd.DataFrame:
    """Return the wells with the columns of a table of treatments, one row per value of what they share."""
    notes = _table(table, about, needs_well=False, prefix=PREFIX)
    keys = [c for c in notes.columns if c in frame.columns and c not in (PERT_TYPE, DOSE)]
    if not keys:
        raise DatasetError(
            f"{table}: shares no column with the wells ({shorten(frame.columns)}); it has "
            f"{shorten(notes.columns)}; --map one to the other"
        )
    new = [c for c in notes.columns if c not in frame.columns or c == PERT_TYPE]
    notes = notes[[*keys, *new]].drop_duplicates(ignore_index=True)
    twice = notes.duplicated(keys)
    if twice.any():
        what = "/".join(str(v) for v in notes.loc[twice, keys].iloc[0])
        raise DatasetError(f"{table}: {what} has several rows that differ; keep one per {shorten(keys)}")
    kept = frame.rename(columns={PERT_TYPE: "_type"}) if PERT_TYPE in new else frame
    out = kept.merge(notes, on=keys, how="left", indicator="_side")
    if not (out.pop("_side") == "both").any():
        theirs, ours = (shorten(dict.fromkeys(f[keys[0]]), 3) or "nothing" for f in (notes, frame))
        raise DatasetError(
            f"{table}: none of its {shorten(keys)} is in the wells (it has {theirs}, they have {ours}); "
            "make the two agree"
        )
    text = [c for c in new if c != DOSE]
    out[text] = out[text].fillna("")
    if "_type" in out.columns:
        out[PERT_TYPE] = [b or a for a, b in zip(out.pop("_type"), out[PERT_TYPE], strict=True)]
    return out
