"""What an inductive featurizer is given to learn from; permuted runs learn from permuted readouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from bench import learning, weights
from bench import problem as problems
from bench.datasets import load
from bench.entrants import frame_digest
from bench.errors import BenchError, UsageError
from bench.execute import Executor
from bench.settings import Settings
from bench.start import start
from featurizers.base import Card
from tasks import folds as draw
from tasks.one_shot import OneShot
from tasks.protocol import load as load_protocol
from tasks.regression import Regression
from tests.bench.small import QUICK, dataset_toml, layer

DATASET = dataset_toml(
    layer("rna", scale="log", key=("Metadata_Plate", "Metadata_Well")),
    layer("proteome", scale="log", dose_rule="mean"),
)
PLUGIN = '''
import json
from dataclasses import dataclass

import numpy as np

from featurizers.base import Card, Embedding, Featurizer


@dataclass(frozen=True)
class Config:
    pass


class Learner(Featurizer):
    """Remembers what it was given to learn from."""

    card = Card(
        name="learner", version="1", title="remembers its table", citation="none", licence="none",
        channel_rule="any", input_size="any", trained_on="training perturbations",
        needs=("position",), fit_scope="inductive", learns_from=("readouts",),
    )
    Config = Config
    presets = {"default": Config()}
    trainable = True

    def columns(self, channels):
        return ("Row",)

    def fit(self, fields, table, context):
        own = table[~table["control"]]
        self.seen = {
            "given": dict(zip(own["Metadata_Well"], own.iloc[:, -2].astype(float))),
            "drugs": dict(zip(own["Metadata_Well"], own["perturbation"])),
            "columns": list(table.columns),
        }

    def save(self, folder):
        (folder / "seen.json").write_text(json.dumps(self.seen))

    def load(self, folder):
        self.seen = json.loads((folder / "seen.json").read_text())

    def embed(self, fields):
        values = [[float(np.nansum([*self.seen["given"].values()])) + i] for i in range(len(fields))]
        return Embedding(np.array(values, np.float32), np.arange(len(fields)))
'''
READS = Card("c", "1", "t", "c", "l", "r", "i", "t", learns_from=("readouts",))
UNPAIRED = replace(READS, images="all")


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    """Ten compounds with a structure in two wells each on two plates, three controls on each."""
    rng = np.random.default_rng(0)
    rows = []
    for plate in ("P1", "P2"):
        rows += [(plate, f"A{i + 1:02d}", "trt", f"c{i}", "C" * (i + 1)) for i in range(10)]
        rows += [(plate, f"B{i + 1:02d}", "negcon", "DMSO", "") for i in range(3)]
    columns = ["Metadata_" + c for c in ("Plate", "Well", "pert_type", "Compound", "SMILES")]
    wells = pd.DataFrame(rows, columns=columns)
    wells.to_csv(tmp_path / "wells.csv", index=False)
    rna = wells.iloc[:, :2].assign(**{f"g{k}": rng.normal(size=len(wells)) for k in range(3)})
    rna.to_csv(tmp_path / "rna.csv", index=False)
    names = [f"c{i}" for i in range(10)] + ["DMSO"]
    proteome = pd.DataFrame({"Metadata_Compound": names, "p0": np.arange(11.0), "p1": rng.normal(size=11)})
    proteome.to_csv(tmp_path / "proteome.csv", index=False)
    (tmp_path / "dataset.toml").write_text(DATASET)
    (tmp_path / "quick.toml").write_text(QUICK)
    (tmp_path / "learner.py").write_text(PLUGIN)
    return tmp_path


def posed(screen: Path, named: str):
    dataset = load(screen / "dataset.toml")
    protocol = load_protocol(str(screen / "quick.toml"))
    (problem,) = problems.make(None, dataset, dataset.layer(named), Regression(), protocol)
    return dataset, problem


def one_shot(screen: Path):
    dataset = load(screen / "dataset.toml")
    protocol = load_protocol(str(screen / "quick.toml"))
    (problem,) = problems.make_from_wells(None, dataset, OneShot(), protocol, ())
    return dataset, problem


@pytest.mark.parametrize(("layer", "named"), [("rna", ""), ("proteome", "rna"), ("rna", "proteome")])
def test_nothing_of_a_tested_perturbation_is_in_the_table(screen: Path, layer: str, named: str) -> None:
    """Poisoned structures and readouts of tested perturbations, in every layer, leave the table as it is."""
    dataset, problem = posed(screen, layer)
    tested = set(problem.data.groups[draw.split(problem.folds, 0, 1)[0]])
    table = learning.training_table(problem, 0, 1, learning.paired(READS, dataset, problem, named))
    treated = table[~table["control"]]
    assert tested.isdisjoint(treated["perturbation"])
    assert set(treated["perturbation"]) | tested == {f"c{i}" for i in range(10)}
    assert not table.iloc[:, -1].isna().any()
    wells = pd.read_csv(screen / "wells.csv").set_index(["Metadata_Plate", "Metadata_Well"])
    for name, value in (("wells.csv", "N"), ("rna.csv", "1e9"), ("proteome.csv", "1e9")):
        frame = pd.read_csv(screen / name, dtype=str, keep_default_na=False)
        if "Metadata_Compound" in frame:
            who = frame["Metadata_Compound"]
        else:
            who = wells.loc[list(zip(frame.iloc[:, 0], frame.iloc[:, 1], strict=True)), "Metadata_Compound"]
        poison = who.isin(tested).to_numpy()
        assert poison.any()
        frame.loc[poison, "Metadata_SMILES" if name == "wells.csv" else frame.columns[-1]] = value
        frame.to_csv(screen / name, index=False)
    poisoned, again = posed(screen, layer)
    other = learning.training_table(again, 0, 1, learning.paired(READS, poisoned, again, named))
    assert frame_digest(other) == frame_digest(table)


def test_readouts_are_those_of_the_scored_layer_unless_another_is_named(screen: Path) -> None:
    dataset, problem = posed(screen, "proteome")
    own = learning.paired(READS, dataset, problem, "")
    assert (own.layer, own.scored, own.columns) == ("proteome", True, ("p0", "p1"))
    table = learning.training_table(problem, 0, 0, own)
    for _, row in table[~table["control"]].iterrows():
        assert row["p0"] == float(row["perturbation"].removeprefix("c"))
    other = learning.paired(READS, dataset, problem, "rna")
    assert (other.layer, other.scored) == ("rna", False)
    table = learning.training_table(problem, 0, 0, other)
    rna = pd.read_csv(screen / "rna.csv").set_index(["Metadata_Plate", "Metadata_Well"])
    for _, row in table.iterrows():
        assert row["g2"] == np.float32(rna.loc[(row["Metadata_Plate"], row["Metadata_Well"]), "g2"])


def test_negative_controls_of_the_training_plates_come_with_the_readouts(screen: Path) -> None:
    dataset, problem = posed(screen, "proteome")
    for named, value in (("", 10.0), ("rna", None)):
        table = learning.training_table(problem, 0, 0, learning.paired(READS, dataset, problem, named))
        control = table[table["control"]]
        assert len(control) == 6
        assert control["perturbation"].isna().all()
        if value is not None:
            assert (control["p0"] == value).all()
    assert not learning.training_table(problem, 0, 0)["Metadata_pert_type"].eq("negcon").any()


def test_who_does_not_name_readouts_is_given_none(screen: Path) -> None:
    dataset, problem = posed(screen, "rna")
    card = replace(READS, learns_from=("perturbations", "structures"))
    assert learning.paired(card, dataset, problem, "rna") is None
    assert list(learning.training_table(problem, 0, 0).columns)[-1] == "perturbation"


def test_a_task_without_readouts_takes_the_layer_that_is_named(screen: Path) -> None:
    dataset, problem = one_shot(screen)
    with pytest.raises(BenchError, match=r"several abundance layers \(rna, proteome\); name .* --omics"):
        learning.paired(READS, dataset, problem, "")
    with pytest.raises(UsageError, match="did you mean 'rna'"):
        learning.paired(READS, dataset, problem, "rnas")
    found = learning.paired(READS, dataset, problem, "rna")
    assert (found.layer, found.scored) == ("rna", False)
    assert frame_digest(learning.training_table(problem, 0, 0, found))
    only = replace(dataset, layers=dataset.layers[1:])
    assert learning.paired(READS, only, problem, "").layer == "proteome"
    assert learning.paired(READS, replace(dataset, layers=()), problem, "") is None


def test_permuted_readouts_are_those_that_the_permuted_run_is_scored_on(screen: Path) -> None:
    from tasks.evaluate import permuted

    dataset, problem = posed(screen, "proteome")
    own = learning.paired(READS, dataset, problem, "").permuted(problem.data, 3)
    np.testing.assert_array_equal(own.values, permuted(problem.data, 3).Y)
    assert not np.array_equal(own.values, problem.data.Y)
    other = learning.paired(READS, dataset, problem, "rna")
    assert other.permuted(problem.data, 3) is other


def without_readouts(screen: Path) -> None:
    """Take the readouts of two compounds from the proteome, and from rna those of a well of each compound."""
    proteome = pd.read_csv(screen / "proteome.csv")
    proteome[~proteome["Metadata_Compound"].isin(["c3", "c7"])].to_csv(screen / "proteome.csv", index=False)
    rna = pd.read_csv(screen / "rna.csv")
    treated = (rna["Metadata_Plate"] == "P2") & rna["Metadata_Well"].str.startswith("A")
    rna[~treated].to_csv(screen / "rna.csv", index=False)


def test_images_of_a_perturbation_that_no_fold_tests_are_given_without_its_name(screen: Path) -> None:
    without_readouts(screen)
    dataset, problem = posed(screen, "proteome")
    for named in ("", "rna"):
        own = learning.paired(UNPAIRED, dataset, problem, named)
        usual = learning.paired(READS, dataset, problem, named)
        for make in (
            lambda given: learning.training_table(problem, 0, 0, given),
            lambda given: learning.training_table(problem, 0, 1, given),
            lambda given: learning.paired_table(problem, given),
        ):
            table, other = make(own), make(usual)
            count = len(other)
            assert frame_digest(table[:count]) == frame_digest(other), "what is paired stays as it is"
            assert set(table["Metadata_Compound"][count:]) == {"c3", "c7"}
            assert len(table) == count + 4, "both of its wells"
            assert table["perturbation"][count:].isna().all()
            assert not table["control"][count:].any()
            assert table[list(own.columns)][count:].isna().all(axis=None)
            assert list(table.dtypes) == list(other.dtypes)
            assert frame_digest(table) != frame_digest(other), "it enters the key of the weights"


def test_an_unpaired_well_enters_only_where_its_perturbation_is_trained_on(screen: Path) -> None:
    without_readouts(screen)
    dataset, problem = posed(screen, "rna")
    own = learning.paired(UNPAIRED, dataset, problem, "")
    everyone = {f"c{i}" for i in range(10)}
    for fold in (0, 1):
        tested = set(problem.data.groups[draw.split(problem.folds, 0, fold)[0]])
        assert tested
        assert tested < everyone
        table = learning.training_table(problem, 0, fold, own)
        unpaired = table[table["Metadata_Plate"].eq("P2") & ~table["control"]]
        assert set(unpaired["perturbation"]) == everyone - tested
        assert tested.isdisjoint(table["Metadata_Compound"])
        assert unpaired[["g0", "g1", "g2"]].isna().all(axis=None)
    assert set(learning.paired_table(problem, own)["perturbation"].dropna()) == everyone


def test_a_perturbation_that_is_trained_on_and_tested_has_no_unpaired_well(screen: Path) -> None:
    """As with folds of random units, where one unit of a perturbation is tested and another trained on."""
    without_readouts(screen)
    dataset, problem = posed(screen, "rna")
    twice = replace(
        problem.data,
        units=pd.concat([problem.data.units] * 2, ignore_index=True),
        members=sparse.vstack([problem.data.members] * 2).tocsr(),
        Y=np.concatenate([problem.data.Y] * 2),
        groups=np.concatenate([problem.data.groups] * 2),
        control=np.concatenate([problem.data.control] * 2),
    )
    unit = np.flatnonzero(~twice.control)
    half = (unit >= len(problem.data.units)).astype(np.int16)
    folds = pd.DataFrame(
        {"repeat": np.int16(0), "fold": half, "unit": unit, "perturbation": twice.groups[unit]}
    )
    mixed = replace(problem, data=twice, folds=folds)
    own = learning.paired(UNPAIRED, dataset, mixed, "")
    assert len(set(own.beside)) == 11, "ten compounds, and no name"
    table = learning.training_table(mixed, 0, 0, own)
    assert not (table["Metadata_Plate"].eq("P2") & ~table["control"]).any()


def test_wells_without_a_name_and_folds_that_leave_out_a_block_give_no_unpaired_image(screen: Path) -> None:
    without_readouts(screen)
    wells = pd.read_csv(screen / "wells.csv", dtype=str, keep_default_na=False)
    wells.loc[wells["Metadata_Compound"] == "c7", "Metadata_Compound"] = ""
    wells.to_csv(screen / "wells.csv", index=False)
    dataset, problem = posed(screen, "proteome")
    own = learning.paired(UNPAIRED, dataset, problem, "")
    assert set(own.beside) == {"", "c3"}
    assert "c3" in set(learning.training_table(problem, 0, 0, own)["Metadata_Compound"])
    blocks = replace(problem, folds=problem.folds.assign(block=problem.folds["fold"]))
    assert "c3" not in set(learning.training_table(blocks, 0, 0, own)["Metadata_Compound"])


def test_weights_of_paired_images_are_not_those_of_all_images(screen: Path) -> None:
    """The same entrant, before and after its card asks for unpaired images: each has a key of its own."""
    without_readouts(screen)
    settings = Settings(
        dataset=str(screen), store=str(screen / "store"), featurizers=("learner",), layers=("proteome",),
        plugins=(str(screen / "learner.py"),), protocol=str(screen / "quick.toml"), controls="none",
        permuted="none", processes=0,
    )  # fmt: skip
    seen = []
    for plugin in (PLUGIN, PLUGIN.replace('("readouts",),', '("readouts",), images="all",')):
        path = screen / f"learner_{len(seen)}.py"
        path.write_text(plugin)
        done = start(replace(settings, plugins=(str(path),)), lambda *_: None)
        assert done.report.failures == []
        fits = [json.loads(p.read_text()) for p in (screen / "store").glob("weights/key=*/seen.json")]
        seen.append([set(fit["drugs"]) for fit in fits])
    assert [len(own) for own in seen] == [2, 4]
    assert sum({"A04", "A08"} <= wells for wells in seen[1]) == 2, "in both folds of the second"
    assert not any({"A04", "A08"} & wells for wells in seen[0])


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ((), "perturbation labels"),
        (("readouts",), "readouts"),
        (("perturbations", "structures", "readouts"), "perturbation labels, structures and readouts"),
    ],
)
def test_who_learns_is_refused_once_where_every_perturbation_is_tested(
    screen: Path, sources: tuple[str, ...], named: str
) -> None:
    plugin = screen / "learner.py"
    plugin.write_text(PLUGIN.replace('("readouts",)', repr(sources)))
    wells = pd.read_csv(screen / "wells.csv", dtype=str, keep_default_na=False)
    wells["Metadata_MOA"] = [f"m{len(smiles) % 2}" if smiles else "" for smiles in wells["Metadata_SMILES"]]
    wells.to_csv(screen / "wells.csv", index=False)
    settings = Settings(
        dataset=str(screen), store=str(screen / "store"), featurizers=("learner",), tasks=("retrieval",),
        plugins=(str(plugin),), omics="rna", protocol=str(screen / "quick.toml"), controls="none",
        processes=0,
    )  # fmt: skip
    done = start(settings, lambda *_: None)
    assert len(done.report.runs) > 1, "the floor of several boards"
    (failure,) = done.report.failures
    assert failure.what == "learner"
    assert failure.reason == (
        f"it learns from {named}, and task 'retrieval' tests every perturbation at once, so that none is "
        "left to learn from; run it on a task with folds, such as regression"
    )


def test_nothing_else_computes_while_a_training_runs(screen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the threads of a training and the worker processes would share the cores."""
    working, beside = [False], []
    fit, spread = weights._fit, Executor.map

    def watched(self, units):
        working[0] = True
        yield from spread(self, units)
        working[0] = False

    def noted(*arguments):
        beside.append(working[0])
        return fit(*arguments)

    monkeypatch.setattr(Executor, "map", watched)
    monkeypatch.setattr(weights, "_fit", noted)
    settings = Settings(
        dataset=str(screen), store=str(screen / "store"), featurizers=("learner",), layers=("proteome",),
        plugins=(str(screen / "learner.py"),), protocol=str(screen / "quick.toml"), controls="none",
        permuted="none", processes=0,
    )  # fmt: skip
    assert start(settings, lambda *_: None).report.failures == []
    assert beside == [False, False], "two folds, the second after the plates of the first"


@pytest.mark.slow
def test_a_permuted_run_is_of_a_featurizer_that_learned_from_permuted_readouts(
    screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(screen)
    settings = Settings(
        dataset=str(screen / "dataset.toml"), store=str(screen / "store"), featurizers=("learner",),
        plugins=(str(screen / "learner.py"),), layers=("proteome",), protocol=str(screen / "quick.toml"),
        controls="none", processes=1,
    )  # fmt: skip
    done = start(settings, lambda *_: None)
    assert done.report.failures == []
    fits = [json.loads(p.read_text()) for p in (screen / "store").glob("weights/key=*/seen.json")]
    assert len(fits) == 4, "two folds, with measured and with permuted readouts"
    measured = [all(v == float(fit["drugs"][w][1:]) for w, v in fit["given"].items()) for fit in fits]
    assert sorted(measured) == [False, False, True, True]
    records = [json.loads(p.read_text()) for p in (screen / "store").glob("runs/run=*/record.json")]
    by_role = {r["role"]: r for r in records}
    assert by_role["entrant"]["learned"] == by_role["permuted"]["learned"] == "proteome"
    keys = {
        role: json.loads((screen / "store" / "runs" / f"run={r['run']}" / "manifest.json").read_text())
        for role, r in by_role.items()
    }
    parts = [keys[role]["key_document"]["features"]["key"] for role in ("entrant", "permuted")]
    assert parts[0] != parts[1]
    other = start(replace(settings, omics="rna", store=str(screen / "other")), lambda *_: None)
    assert other.report.failures == []
    fits = [json.loads(p.read_text()) for p in (screen / "other").glob("weights/key=*/seen.json")]
    assert len(fits) == 2, "another layer is not permuted"
    assert all(fit["columns"][-3:] == ["g0", "g1", "g2"] for fit in fits)
