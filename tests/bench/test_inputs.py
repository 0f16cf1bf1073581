"""Targets from images, omics and both, and retrieval, through the harness on a screen of profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from bench import entries, inputs
from bench import problem as problems
from bench.datasets import load
from bench.datasets.importing import import_profiles
from bench.entrants import known
from bench.errors import BenchError, UsageError
from bench.forecast import forecast
from bench.settings import Settings
from bench.start import pose, start
from bench.store import Store
from leaderboard import Leaderboard
from tasks.protocol import load as load_protocol
from tests.bench.small import QUICK, dataset_toml, layer

if TYPE_CHECKING:
    from bench.start import Done
    from leaderboard import Board

COMPOUNDS = 20
DATASET = dataset_toml(
    layer("proteome", scale="log"), layer("targets", "target", scale="z", dose_rule="mean")
)
PROTOCOL = QUICK.replace('["fold"]', '["fold", "plate-standardise"]').replace("num = 2", "num = 3")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 compounds in two wells each; the images know target ``seen``, the proteome ``bound``."""
    root: Path = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    names = [f"c{i:02d}" for i in range(COMPOUNDS)]
    seen, bound = np.arange(COMPOUNDS) % 2, (np.arange(COMPOUNDS) // 2) % 2
    rows, X = [], []
    for replicate in range(2):
        for i, name in enumerate(names):
            rows.append(("P1", f"{chr(65 + replicate)}{i + 1:02d}", "trt", name, 1.0, f"m{seen[i]}"))
            X.append(np.r_[5.0 * seen[i], np.zeros(7)] + rng.normal(size=8))
    for i in range(6):
        rows.append(("P1", f"C{i + 1:02d}", "negcon", "DMSO", None, None))
        X.append(rng.normal(size=8))
    columns = ["Plate", "Well", "pert_type", "Compound", "Concentration", "MOA"]
    wells = pd.DataFrame(rows, columns=["Metadata_" + c for c in columns])
    wells.to_csv(root / "wells.csv", index=False)
    features = pd.DataFrame(np.array(X), columns=[f"f{j}" for j in range(8)])
    pd.concat([wells.iloc[:, :2], features], axis=1).to_parquet(root / "profiles.parquet", index=False)
    proteome = rng.normal(size=(COMPOUNDS, 9))
    proteome[:, 0] += 6.0 * bound
    proteome[2, 3] = np.nan
    table = pd.DataFrame(proteome, columns=[f"p{j}" for j in range(9)])
    table.insert(0, "Metadata_Compound", names)
    table.iloc[:-2].to_csv(root / "proteome.csv", index=False)
    once = (np.arange(COMPOUNDS) == 3).astype(int)
    answers = pd.DataFrame({"Metadata_Compound": names, "seen": seen, "bound": bound, "once": once})
    answers.to_csv(root / "targets.csv", index=False)
    (root / "dataset.toml").write_text(DATASET, encoding="utf-8")
    (root / "quick.toml").write_text(PROTOCOL, encoding="utf-8")
    import_profiles(str(root / "profiles.parquet"), name="profiles", root=root, store=root / "store")
    return root


def settings(root: Path, **changes: Any) -> Settings:
    plain = Settings(
        dataset=str(root),
        store=str(root / "store"),
        featurizers=("profiles",),
        tasks=("target",),
        protocol=str(root / "quick.toml"),
        controls="none",
        processes=0,
    )
    return replace(plain, **changes)


def run(root: Path, **changes: Any) -> tuple[Done, list[Board]]:
    done = start(settings(root, **changes), lambda *_: None)
    loaded = [entries.load_entry(done.store, run) for run in done.report.runs]
    return done, Leaderboard(loaded).boards


def test_image_omics_and_both_meet_on_one_board_and_each_knows_what_it_should(screen: Path) -> None:
    done, (board,) = run(screen, inputs=inputs.INPUTS)
    assert not done.report.failures
    assert board.metric == "ROC AUC"
    rows = board.rows.set_index("label")
    assert set(rows.index[rows["role"] == "entrant"]) == {"profiles", "proteome", "profiles + proteome"}
    assert sum(rows["role"] == "permuted") == 3
    assert (rows["coverage"] == 1).all()
    score = {e.label: e.scores.set_index("readout")["roc_auc"] for e in board.entries}
    assert score["profiles"]["seen"] > 0.85 > 0.7 > score["proteome"]["seen"]
    assert score["proteome"]["bound"] > 0.85 > 0.7 > score["profiles"]["bound"]
    both = score["profiles + proteome"]
    assert both["seen"] > score["proteome"]["seen"]
    assert both["bound"] > score["profiles"]["bound"]
    assert score["profiles"].isna().to_dict() == {"seen": False, "bound": False, "once": True}
    notes = " ".join(board.notes)
    assert "once (1 hit, 17 not)" in notes
    assert "2 units have no proteome and take no part, among them all of 2 perturbations: c18, c19." in notes
    record = {e.label: e.facts["card"] for e in board.entries}
    assert record["proteome"]["fit_scope"] == "pretrained"
    for identifier in done.report.runs:
        assert entries.verify(done.store, identifier)["verified"]


def test_the_same_command_again_computes_nothing_and_a_dry_run_says_so(screen: Path) -> None:
    run(screen, inputs=inputs.INPUTS)
    before = sorted(Store(screen / "store").list(""))
    run(screen, inputs=inputs.INPUTS)
    assert sorted(Store(screen / "store").list("")) == before
    found = forecast(settings(screen, inputs=inputs.INPUTS)).steps[-1]
    assert (found.stored, found.missing) == (7, 0)


def test_without_omics_every_unit_takes_part_on_a_board_of_its_own(screen: Path) -> None:
    _, (board,) = run(screen)
    assert set(board.rows["label"]) == {"profiles", "profiles, permuted labels", "training mean"}
    assert board.rows["perturbations"].max() == COMPOUNDS


def test_omics_alone_need_no_featurizer(screen: Path) -> None:
    done, (board,) = run(screen, featurizers=(), inputs=("omics",))
    assert set(board.rows["label"]) == {"proteome", "proteome, permuted labels", "training mean"}
    assert not done.report.failures


def test_a_missing_value_of_the_omics_is_kept_missing_and_the_wells_of_a_compound_share_its_row(
    screen: Path,
) -> None:
    block = inputs.omics(settings(screen, inputs=("omics",)), load(screen))
    assert block is not None
    assert block.X.shape == (46, 9)
    assert block.present.sum() == 36
    np.testing.assert_array_equal(block.X[0], block.X[20])
    assert np.isnan(block.X[2]).sum() == 1


def test_inputs_that_a_task_cannot_take_are_refused(screen: Path) -> None:
    with pytest.raises(UsageError, match="regression predicts from image, not from 'omics'"):
        run(screen, tasks=("regression",), inputs=("omics",))
    with pytest.raises(UsageError, match="did you mean 'omics'"):
        run(screen, inputs=("omic",))
    with pytest.raises(UsageError, match="no abundance layer 'targets'"):
        run(screen, inputs=("omics",), omics="targets")


def test_several_layers_of_abundances_are_listed_and_none_is_said(screen: Path) -> None:
    dataset = load(screen)
    twice = replace(dataset, layers=(*dataset.layers, replace(dataset.layers[0], name="rna")))
    with pytest.raises(UsageError, match=r"several abundance layers \(proteome, rna\).*--omics"):
        inputs.omics(settings(screen, inputs=("omics",)), twice)
    none = replace(dataset, layers=dataset.layers[1:])
    with pytest.raises(BenchError, match="no abundance layer"):
        inputs.omics(settings(screen, inputs=("omics",)), none)


def test_too_few_compounds_per_target_is_one_sentence(screen: Path) -> None:
    few = screen / "few"
    few.mkdir(exist_ok=True)
    for name in ("wells.csv", "proteome.csv", "profiles.parquet", "dataset.toml"):
        (few / name).write_bytes((screen / name).read_bytes())
    table = pd.read_csv(screen / "targets.csv")
    table[["seen", "bound"]] = 0
    table.loc[:2, "bound"] = 1
    table.to_csv(few / "targets.csv", index=False)
    with pytest.raises(ValueError, match=r"too few perturbations per target.*'bound', is hit by 3"):
        run(screen, dataset=str(few))


def test_retrieval_runs_without_a_head_beside_chance_and_is_verified(screen: Path) -> None:
    done, boards = run(screen, tasks=("retrieval",), protocol="nested-cv")
    assert not done.report.failures
    by_layer = {board.entries[0].layer: board for board in boards}
    assert set(by_layer) == {
        "wells:activity",
        "Metadata_MOA:1-nn",
        "Metadata_MOA:consistency",
        "targets:1-nn",
        "targets:consistency",
    }
    near = by_layer["Metadata_MOA:1-nn"]
    assert near.metric == "1-NN accuracy"
    rows = near.rows.set_index("label")
    assert rows.loc["chance", "skill"] == pytest.approx(9 / 19, abs=1e-6)
    assert rows.loc["profiles", "skill"] > 0.7
    assert rows.loc["profiles", "head"] == "none"
    assert rows["skill_low"].isna().all()
    assert set(by_layer["wells:activity"].rows["role"]) == {"entrant", "floor"}  # nothing to permute
    assert any("random orders" in note for note in by_layer["wells:activity"].notes)
    for identifier in done.report.runs:
        assert entries.verify(done.store, identifier)["verified"]


def test_labels_may_come_from_any_column_of_the_wells(screen: Path) -> None:
    found, failures = pose(
        settings(screen, tasks=("retrieval",), labels=("Metadata_Well", "Metadata_MOA")),
        load(screen),
        None,
        load_protocol("nested-cv"),
    )
    assert {problem.data.layer for _, problem in found} == {"targets:1-nn", "targets:consistency"}
    assert "treatment 'c00 @ 1' is 'A01' in one well and 'B01' in another" in failures[0].reason
    found, failures = pose(
        settings(screen, tasks=("retrieval",), labels=("Metadata_MOA",)),
        load(screen),
        None,
        load_protocol("nested-cv"),
    )
    assert "Metadata_MOA:1-nn" in {problem.data.layer for _, problem in found}
    assert not failures


def test_one_shot_transfer_and_target_genes_run_through_the_store(screen: Path, tmp_path: Path) -> None:
    for name in ("proteome.csv", "targets.csv", "profiles.parquet", "dataset.toml"):
        (tmp_path / name).write_bytes((screen / name).read_bytes())
    wells = pd.read_csv(screen / "wells.csv", dtype=str, keep_default_na=False)
    number = wells["Metadata_Compound"].str.removeprefix("c")
    gene = number.isin([f"{i:02d}" for i in range(10)])
    wells["Metadata_Gene"] = ("G" + number).where(gene, "")
    wells["Metadata_Target"] = ("G0" + number.str[-1:]).where(
        ~gene & (wells["Metadata_pert_type"] == "trt"), ""
    )
    wells.to_csv(tmp_path / "wells.csv", index=False)
    import_profiles(
        str(tmp_path / "profiles.parquet"), name="profiles", root=tmp_path, store=tmp_path / "store"
    )
    done, boards = run(tmp_path, tasks=("one-shot", "target-gene"), protocol="nested-cv")
    assert not done.report.failures
    by_task = {board.entries[0].task: board for board in boards}
    shot, genes = by_task["one-shot"], by_task["target-gene"]
    assert shot.metric == "top-1 accuracy"
    assert shot.rows.set_index("label").loc["chance", "skill"] == pytest.approx(1 / 4)
    assert set(shot.rows["role"]) == {"entrant", "floor"}
    assert set(genes.rows["role"]) == {"entrant", "floor", "permuted"}
    assert genes.rows["readouts"].max() == 10
    for identifier in done.report.runs:
        assert entries.verify(done.store, identifier)["verified"]


def test_a_task_that_knows_no_omics_keeps_its_units_and_images_beside_one_that_does(screen: Path) -> None:
    wanted = settings(
        screen, tasks=("target", "regression"), layers=("targets", "proteome"), inputs=("omics",)
    )
    inputs.check(wanted)
    dataset = load(screen)
    block = inputs.omics(wanted, dataset)
    posed, failures = pose(wanted, dataset, None, load_protocol(wanted.protocol), block)
    assert not failures
    units = {task: len(set(problem.data.groups)) for task, problem in posed}
    assert units == {"target": 18, "regression": 18}
    said = {task: " ".join(problem.data.notes) for task, problem in posed}
    assert "take no part" in said["target"]
    assert "take no part" not in said["regression"]  # its layer has 18 compounds
    everything, _ = pose(replace(wanted, inputs=("image",)), dataset, None, load_protocol(wanted.protocol))
    assert {task: len(set(p.data.groups)) for task, p in everything} == {"target": 20, "regression": 18}
    regression = known(()).get("tasks", "regression")
    assert inputs.asked(wanted, regression) == ("image",)


def test_layers_that_lack_other_units_of_the_same_perturbation_are_other_problems(screen: Path) -> None:
    block = inputs.omics(settings(screen, inputs=("omics",)), load(screen))
    assert block is not None
    dataset, task, protocol = (
        load(screen),
        known(()).get("tasks", "target")(),
        load_protocol(screen / "quick.toml"),
    )
    layer = replace(dataset.layer("targets"), join="broadcast")  # a unit per well: rows 0 and 20 are of c00
    keys, hashes = set(), set()
    for lacking in (0, 20):
        X = np.ones_like(block.X)
        X[lacking] = np.nan
        own = replace(block, X=X, folder=f"inputs/key={lacking}")
        (posed,) = problems.make(None, dataset, layer, task, protocol, own)
        keys.add(posed.key)
        hashes.add(posed.folds_hash)
    assert len(hashes) == 1
    assert len(keys) == 2
