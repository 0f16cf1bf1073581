"""Annotation of readouts from files: subcellular locations (Human Protein Atlas) and pathways (GMT)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from leaderboard.schema import BoardError

RELIABLE = ("Enhanced", "Validated", "Supported", "Approved")
"""Reliability of a location in the Atlas that counts; ``Uncertain`` does not. (Image2Omics took Approved.)"""


def read_locations(path: str | Path, reliability: tuple[str, ...] = RELIABLE) -> pd.DataFrame:
    """Read locations: one row per readout and location, ``readout`` and ``location``.

    Takes the Human Protein Atlas's ``subcellular_location.tsv`` of any release (``Main location``, or one
    column per reliability), by gene name and by Ensembl identifier, or a CSV or TSV with the columns
    ``readout`` and ``location``; several locations in a cell are separated by semicolons.

    Raises
    ------
    BoardError
        When the file cannot be read or has none of these columns.
    """
    path = Path(path)
    frame = _table(path)
    if {"readout", "location"} <= set(frame.columns):
        pairs = frame[["readout", "location"]]
    elif "Gene" in frame.columns and "Main location" in frame.columns:
        kept = frame[frame["Reliability"].isin(reliability)] if "Reliability" in frame else frame
        pairs = _by_gene(kept, kept["Main location"])
    elif "Gene" in frame.columns and set(RELIABLE) & set(frame.columns):
        columns = [name for name in reliability if name in frame.columns]
        pairs = pd.concat([_by_gene(frame, frame[name]) for name in columns])
    else:
        raise BoardError(
            f"{path}: has the columns {', '.join(map(str, frame.columns[:8]))}; give readout and location, "
            "or the Human Protein Atlas's subcellular_location.tsv"
        )
    listed = pairs["location"].fillna("").astype(str).str.split(";")
    pairs = pairs.assign(location=listed).explode("location")
    pairs["location"] = pairs["location"].str.strip()
    pairs["readout"] = pairs["readout"].fillna("").astype(str)
    return pairs[(pairs["location"] != "") & (pairs["readout"] != "")].drop_duplicates(ignore_index=True)


def read_pathways(path: str | Path) -> dict[str, frozenset[str]]:
    """Read gene sets from a GMT file: name, description, then genes, separated by tabulators.

    Raises
    ------
    BoardError
        When the file cannot be read, a line has no gene, or a name stands twice.
    """
    path = Path(path)
    found: dict[str, frozenset[str]] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = frozenset(gene.strip() for gene in rest[1:] if gene.strip())
        if not genes:
            raise BoardError(
                f"{path}, line {number}: the pathway {name!r} has no gene; a line is name, description and "
                "genes, separated by tabulators"
            )
        if name in found:
            raise BoardError(f"{path}, line {number}: the pathway {name!r} stands twice; remove one")
        found[name] = genes
    if not found:
        raise BoardError(f"{path}: has no pathway; a line is name, description and genes")
    return found


def _by_gene(frame: pd.DataFrame, location: pd.Series) -> pd.DataFrame:
    """Location by gene name and by Ensembl identifier, for readouts may be named by either."""
    names = [frame[c] for c in ("Gene name", "Gene") if c in frame.columns]
    return pd.concat([pd.DataFrame({"readout": name, "location": location}) for name in names])


def _table(path: Path) -> pd.DataFrame:
    separator = "\t" if path.name.lower().split(".")[1:2] in (["tsv"], ["txt"]) else ","
    try:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except OSError as error:
        raise BoardError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise BoardError(f"{path}: is no table of text ({reason})") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BoardError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BoardError(f"{path}: is not UTF-8 text; save it as such") from error
