"""One screen through the nested cross-validation of ``tasks`` and the decisions of ``leaderboard``."""

from __future__ import annotations

import time
from functools import cache, partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bench.selfcheck.screens import simulate
from leaderboard import decide as deciding
from leaderboard.adjust import hierarchical
from leaderboard.folded import against_chance, between_runs, fold_summands
from leaderboard.predictable import against_entry, against_floor
from leaderboard.ranks import rank
from leaderboard.rules import Rules
from leaderboard.summands import Summands, summands
from tasks import evaluate, protocol
from tasks import folds as draw
from tasks.classification import Classification
from tasks.heads.ridge import Ridge, RidgeConfig
from tasks.layout import confounding, shifted
from tasks.protocol import LogGrid
from tasks.regression import Regression

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.selfcheck.designs import Design
    from leaderboard.predictable import PerReadout
    from tasks.base import FoldId, Scored
    from tasks.protocol import Protocol

PENALTIES = LogGrid(1e-2, 1e4, 8)
"""A coarser grid than the protocol's, to spare time: its neighbours differ by a factor of 7."""

EVERY = 4
"""The worse entrant C is fitted in every so-many-th screen: it serves power, which needs fewer screens."""

Record = dict[str, float]


def examine(design: Design, seed: int, rules: Rules | None = None) -> Record:
    """Simulate a screen, cross-validate its entrants, decide, and say what was decided.

    Returns
    -------
    dict
        Flat numbers, of which :func:`bench.selfcheck.rates.rates` makes rates; what does not apply is absent.
    """
    started = time.process_time()
    rules = rules or Rules()
    settings = _protocol(design)
    screen = simulate(design, seed)
    folds = _folds(design)
    names = "ABC" if seed % EVERY == 0 else "AB"
    task = Regression() if design.kind == "abundance" else Classification()
    scored: dict[str, Scored] = {}
    for name in names:
        supply = partial(_features, screen.features[name])
        results = evaluate.run(screen.data, supply, settings, folds, lambda: _head(settings))
        scored[name] = task.score(screen.data, folds, results)
    losses = {name: _summands(own) for name, own in scored.items()}
    record = {"seed": float(seed), **_overall(losses, settings.margin, rules)}
    record |= _readouts(scored, losses, screen.linked, rules)
    if design.plate_effect:
        record["warned"] = float(bool(confounding(screen.data) + shifted(screen.data)))
    return record | {"seconds": time.process_time() - started}


@cache
def _protocol(design: Design) -> Protocol:
    name = "scaffold" if design.split == "scaffold" else "nested-cv"
    return protocol.load(name).with_settings(normalisation=design.normalisation, penalties=PENALTIES)


@cache
def _folds(design: Design) -> pd.DataFrame:
    """Folds depend on the names of perturbations, which are the same in every screen of a design."""
    return draw.make(simulate(design, 0).data, _protocol(design))


def _head(settings: Protocol) -> Ridge:
    """Ridge with the protocol's menu; few readouts are quicker in float64."""
    return Ridge(RidgeConfig(settings.penalties, settings.inner_folds, settings.seed, products="float64"))


def _features(X: NDArray[np.float32], _: FoldId) -> NDArray[np.float32]:
    return X


def _summands(scored: Scored) -> Summands:
    if scored.fold_values is not None:
        return fold_summands(scored.fold_values, scored.folds)
    return summands(scored.e, scored.e0, scored.folds)


def _overall(losses: dict[str, Summands], margin: float, rules: Rules) -> Record:
    """D1, D2, D4 and the posterior."""
    pairs = {
        pair: deciding.decide(losses[pair[0]], losses[pair[1]], margin=margin, level=rules.level)
        for pair in combinations(losses, 2)
    }
    own = deciding.skill_interval(losses["A"], rules.level)
    record = {"skill": own.estimate, "skill_low": own.low, "skill_high": own.high}
    for pair, found in pairs.items():
        if pair == ("B", "C"):
            continue
        name = "".join(pair).lower()
        record |= {
            f"{name}_difference": found.difference,
            f"{name}_low": found.low,
            f"{name}_high": found.high,
            f"{name}_error": found.standard_error,
            f"{name}_df": found.df,
            f"{name}_resolved": float(abs(found.difference) > found.high - found.difference),
            f"{name}_better": float(found.verdict == "better"),
            f"{name}_worse": float(found.verdict == "worse"),
            f"{name}_p_better": found.p_better,
            f"{name}_p_worse": found.p_worse,
        }
    # Ranks as on a board without a margin, which is the hardest case: any wrong or tied pair declared.
    numbered = {(i, j): pairs[a, b] for (i, a), (j, b) in combinations(enumerate(losses), 2)}
    beats = rank(len(losses), numbered, margin=0.0, level=rules.level).beats
    record["false_order"] = float(beats[0, 1] or beats[1, 0] or beats[2:].any())
    return record


def _readouts(
    scored: dict[str, Scored], losses: dict[str, Summands], linked: NDArray[np.bool_], rules: Rules
) -> Record:
    """D3 against the floor, between A and B, and hierarchically over readouts and entrants."""
    first = scored["A"]
    if first.fold_values is not None and scored["B"].fold_values is not None:
        tests = [_auc_test(own) for own in scored.values()]
        between = between_runs(first.fold_values, scored["B"].fold_values, first.folds)
        return _found(tests, between, linked, rules)
    tests = [against_floor(s.e, s.e0, s.folds, losses[k].defined, rules) for k, s in scored.items()]
    between = against_entry(first.e, scored["B"].e, first.folds, losses["A"].defined, rules)
    return _found(tests, between, linked, rules)


def _auc_test(scored: Scored) -> PerReadout:
    """D3 against chance, with the numbers of both classes that the scores state."""
    assert scored.fold_values is not None
    counts = scored.scores[scored.scores["stratum"] == "all"]
    return against_chance(scored.fold_values, counts["n_pos"].to_numpy(), counts["n_neg"].to_numpy())


def _found(tests: list[PerReadout], between: PerReadout, linked: NDArray[np.bool_], rules: Rules) -> Record:
    called = tests[0].significant(rules.q)
    record = {
        "found": float(called.sum()),
        "false_share": _share(called & ~linked, called),
        "null_p05": float((tests[0].p[~linked] < 0.05).mean()) if not linked.all() else np.nan,
        "between_any": float((between.q < rules.q).any()),
    }
    if linked.any():
        record["power"] = float(called[linked].mean())
    rejected = hierarchical(np.stack([test.p for test in tests]), rules.q)
    selected = np.asarray(rejected.any(axis=0))
    record["families_false_share"] = _share(selected & ~linked, selected)
    return record


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part.sum() / max(whole.sum(), 1))
