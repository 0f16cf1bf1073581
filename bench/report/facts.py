"""What a methods section needs: protocol, preparation, audit, versions, citations, commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import problem as problems

if TYPE_CHECKING:
    import pandas as pd

    from bench.problem import Problem
    from bench.store import Store
    from leaderboard import Board

FINDING = ("severity", "about", "code", "message", "figure")


def protocol(record: Mapping[str, Any], problem: Problem) -> dict[str, str]:
    """Return the protocol's settings and the size of the problem, as text."""
    settings = record["protocol"]["settings"]
    found = {f"protocol: {name.replace('_', ' ')}": _text(value) for name, value in settings.items()}
    data = problem.data
    found |= {
        "units": f"{len(data.units)} ({int(data.control.sum())} negative controls)",
        "wells": str(len(data.wells)),
        "perturbations": str(len(set(data.groups[~data.control]))),
        "readouts": str(len(data.readouts)),
        "scale of the layer": data.scale,
        "problem": problem.key,
    }
    return found


def preparation(store: Store, record: Mapping[str, Any]) -> list[str]:
    """Return what was done to the readouts before, and how units met them."""
    manifest = store.manifest(problems.folder(record["problem"]))
    prepared = str(manifest.get("prepared") or "").strip()
    sentences = [f"Values as delivered: {prepared}."] if prepared else []
    return [*sentences, *(str(s) for s in manifest.get("joined", []))]


def audit(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the findings of all runs of a board, equal ones once."""
    import pandas as pd

    rows = [{name: f.get(name, "") for name in FINDING} for record in records for f in record["audit"]]
    frame = pd.DataFrame(rows, columns=list(FINDING))
    frame["about"] = frame["about"].replace("", "the dataset")
    frame["figure"] = [f"{v:.3g}" if isinstance(v, float | int) and v == v else "" for v in frame["figure"]]
    return frame.drop_duplicates(ignore_index=True)


def versions(store: Store, records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return versions of data and software, and when the runs were recorded."""
    found: dict[str, dict[str, None]] = {}
    times = []
    for record in records:
        spent = store.manifest(f"runs/run={record['run']}")["provenance"]
        dataset = record["dataset"]
        times.append(str(spent["time"]))
        found.setdefault("dataset", {})[f"{dataset['name']} {dataset['version']}"] = None
        found.setdefault("Python", {})[str(spent["python"])] = None
        found.setdefault("machine", {})[str(spent["machine"])] = None
        for name, version in spent["libraries"].items():
            found.setdefault(name, {})[str(version)] = None
    return [("runs recorded", f"{min(times)} to {max(times)}"), ("runs", str(len(records)))] + [
        (name, ", ".join(values)) for name, values in found.items()
    ]


def citations(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what every entrant's card asks to be cited, and what it was trained on."""
    found = {}
    for record in records:
        card = record.get("card") or {}
        if record["role"] == "permuted" or not card.get("citation"):
            continue
        trained = f" Trained on: {card['trained_on']}." if card.get("trained_on") else ""
        found[str(record["label"])] = (
            f"{card['citation']}{trained} Licence: {card.get('licence', 'not stated')}."
        )
    return found


def commands(
    store: Store, boards: Sequence[Board], by_run: Mapping[str, Any], report: str
) -> list[tuple[str, str]]:
    """Return the commands that recompute and remake what the report shows."""
    root = shlex.quote(str(store.root))
    found = [
        ("Build this report again from the store", report),
        ("Recompute every score from the stored predictions", f"bench verify all --store {root}"),
        ("The boards as data", f"bench leaderboard --all --format json --store {root}"),
    ]
    for board in boards:
        first = by_run[board.entries[0].run]
        own = [by_run[e.run] for e in board.entries if e.role == "entrant"]
        if not own:
            continue
        words = ["bench", "run"]
        for name in dict.fromkeys(_entrant(r) for r in own if r.get("inputs", "image") != "omics"):
            words += ["-f", name]
        words += ["--task", first["task"]]
        if first["head"] != "none":  # a task on features as they are asks of labels, not of one layer
            words += ["--layer", first["layer"].partition(":")[0], *_inputs(own)]
            words += [word for head in dict.fromkeys(r["head"] for r in own) for word in ("--head", head)]
        words += ["--protocol", first["protocol"]["name"], "--dataset", "DATASET"]
        again = shlex.join(words)
        if again not in dict(found).values():
            found.append((f"Run again: {board.title}", again))
        once_more = f"bench reproduce {own[0]['run']} --store {root}"
        found.append((f"Make {own[0]['label']} again and compare: {board.title}", once_more))
    return found


def _entrant(record: Mapping[str, Any]) -> str:
    """Return what names an entrant on the command line."""
    name = str(record["name"])
    return name if record["preset"] == "default" else f"{name}:{record['preset']}"


def _inputs(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the options that say what is predicted from, where it is not images alone."""
    asked = dict.fromkeys(str(record.get("inputs", "image")) for record in records)
    if set(asked) == {"image"}:
        return []
    layer = next(str(r["label"]).rpartition(" + ")[2] for r in records if r.get("inputs", "image") != "image")
    return [*(word for name in asked for word in ("--inputs", name)), "--omics", layer]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return json.dumps(value)
