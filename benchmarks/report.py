"""Time, memory and size of a report: 8 entrants x 26,000 readouts x 3 tasks, and how soon a browser answers.

    python benchmarks/report.py [--entrants 8] [--readouts 26000] [--tasks 3] [--chromium CHROMIUM]

Entrants see half of the readouts through noise; squared errors are over 5 repeats of 80 perturbations.
Figures are in docs/report.md.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from leaderboard import Entry, Leaderboard

REPEATS, FOLDS, PERTURBATIONS, HIDDEN = 5, 5, 80, 0.6


def entries(entrants: int, readouts: int, tasks: int) -> list[Entry]:
    found = []
    for task in range(tasks):
        rng = np.random.default_rng(task)
        folds = np.stack([rng.permutation(np.arange(PERTURBATIONS) % FOLDS) for _ in range(REPEATS)])
        state = rng.normal(size=(PERTURBATIONS, 8)).astype(np.float32)
        load = (rng.normal(size=(8, readouts)) / np.sqrt(8)).astype(np.float32)
        load[:, readouts // 2 :] = 0.0
        signal = state @ load
        truth = signal + HIDDEN * rng.standard_normal(signal.shape, np.float32)
        e0 = np.broadcast_to(truth**2, (REPEATS, *truth.shape))
        shared = {
            "task": "regression",
            "layer": f"layer {task + 1}",
            "dataset": "synthetic",
            "dataset_version": "1",
            "protocol": "nested-cv",
            "protocol_hash": "p",
            "folds_hash": f"f{task}",
            "readouts": tuple(f"ENSG{i:011d}" for i in range(readouts)),
            "perturbations": tuple(f"compound {i}" for i in range(PERTURBATIONS)),
            "e0": e0,
            "folds": folds.astype(np.int16),
            "scores": pd.DataFrame(),
        }
        for number in range(entrants):
            noise = 0.2 + 0.05 * number
            e = np.empty((REPEATS, *truth.shape), np.float32)
            own = noise * rng.standard_normal(truth.shape, np.float32)
            for repeat in range(REPEATS):
                once = 0.05 * rng.standard_normal(truth.shape, np.float32)
                e[repeat] = (truth - 0.6 * signal - own - once) ** 2
            name = f"entrant-{number + 1}"
            found.append(
                Entry(
                    run=f"{task}-{name}",
                    name=name,
                    label=name,
                    role="entrant",
                    head="ridge",
                    e=e,
                    seconds=10.0 * (number + 1),
                    peak_memory_mb=500.0,
                    **shared,
                )
            )
        found.append(
            Entry(
                run=f"{task}-mean",
                name="mean",
                label="training mean",
                role="floor",
                head="mean",
                e=e0,
                **shared,
            )
        )
    return found


def interactive(path: Path, chromium: str) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")

        def busy() -> float:
            found = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
            return found["TaskDuration"]

        started = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
        ready, busy_ready = time.perf_counter() - started, busy()
        page.wait_for_selector("html[data-figures=drawn]", state="attached", timeout=120_000)
        drawn = time.perf_counter() - started
        started = time.perf_counter()
        page.fill("#q-text", "00001")
        page.wait_for_function("!document.querySelector('#q-count').textContent.startsWith('26000')")
        search = time.perf_counter() - started
        browser.close()
    return {
        "interactive": ready,
        "of which the page was at work": busy_ready,
        "all figures": drawn,
        "search": search,
    }


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entrants", type=int, default=8)
    parser.add_argument("--readouts", type=int, default=26_000)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--chromium", default="")
    given = parser.parse_args()
    runs = entries(given.entrants, given.readouts, given.tasks)
    print(f"input: {len(runs)} runs, {peak_mb():.0f} MB before")
    started = time.process_time(), time.perf_counter()
    ranked = Leaderboard(runs)
    boards = time.process_time() - started[0], time.perf_counter() - started[1]
    print(
        f"boards: {boards[0]:.1f} s of one core ({boards[1]:.1f} s by the clock), {peak_mb():.0f} MB at most"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        started = time.process_time(), time.perf_counter()
        written = ranked.report(path)
        spent = time.process_time() - started[0], time.perf_counter() - started[1]
        print(
            f"report: {spent[0]:.1f} s of one core ({spent[1]:.1f} s by the clock), {peak_mb():.0f} MB in all"
        )
        print(f"file: {written.size / 1e6:.2f} MB, {written.figures} figures, {written.tables} tables")
        if given.chromium:
            for name, value in interactive(path, given.chromium).items():
                print(f"{name}: {value:.2f} s")


if __name__ == "__main__":
    main()
