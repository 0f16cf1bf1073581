"""A model folder holds what was written and nothing else; a dataset of images meets it by the rules of a
run."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.entrants import known
from bench.errors import BenchError
from bench.models import evidence
from bench.models.folder import Saved, read, write
from tasks.final import Model, Stratum
from tasks.heads.ridge import Ridge
from tasks.protocol import Selection
from tests.bench.small import dataset_toml, profiles

SAVED = Saved(
    run="0" * 16, label="intensity", entrant="intensity", fit_scope="pretrained", spec=None, weights=None,
    fold=None, task="regression", metric="skill", layer="proteins", dataset={"name": "demo", "version": "1"},
    protocol={"name": "nested-cv", "hash": "0", "settings": {}}, head="ridge", channels=[],
)  # fmt: skip


def heads(name):
    return known(()).get("heads", name)


def model(n=30, D=4, T=3):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, D))
    Y = X @ rng.normal(size=(D, T))
    head = Ridge().fit(X, Y, np.ones(Y.shape, bool), np.array([f"g{i // 2}" for i in range(n)]))
    stratum = Stratum(X, head, np.sort(rng.random(n)))
    names = tuple(f"gene{t}" for t in range(T))
    return Model("fold", "none", Selection(), tuple(f"f{d}" for d in range(D)), names, (), {"all": stratum})


def readouts(established=(True, False, True)):
    frame = pd.DataFrame({"readout": ["gene0", "gene1", "gene2"], "skill": [0.5, -0.1, 0.2]})
    return frame.assign(low=0.1, high=0.6, p=0.01, q=0.02, established=list(established))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "model", SAVED, model(), readouts(), None)
    return tmp_path / "model"


def wells(n):
    return pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": [f"A{i + 1:02d}" for i in range(n)]})


def test_what_was_written_is_read_back_and_predicts_the_same(folder):
    opened = read(folder, heads)
    X = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    before = model().predict(wells(5), np.zeros(5, bool), X)
    after = opened.model.predict(wells(5), np.zeros(5, bool), X)
    assert before[0].tobytes() == after[0].tobytes()
    assert before[1].tobytes() == after[1].tobytes()
    assert opened.saved == SAVED
    pd.testing.assert_frame_equal(opened.readouts, readouts(), check_dtype=False)
    assert opened.weights is None


def test_the_folder_holds_no_pickle_and_is_whole_or_absent(folder, tmp_path):
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} == {".json", ".safetensors", ".parquet"}
    with pytest.raises(BenchError, match="cannot be written"):
        write(folder, SAVED, model(), readouts(), None)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("stratum-0/head.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\0"), "was changed"),
        ("stratum-0/head.json", lambda p: p.unlink(), "is missing"),
        ("stratum-0/extra.bin", lambda p: p.write_bytes(b"?"), "does not belong"),
        ("model.json", lambda p: p.write_text("[]"), "not a model that this version reads"),
        ("model.json", lambda p: p.write_text("{"), "cannot be read"),
        ("model.json", lambda p: p.unlink(), "is no model"),
    ],
)  # fmt: skip
def test_a_file_that_is_missing_changed_or_strange_is_named(folder, name, damage, says):
    damage(folder / name)
    with pytest.raises(BenchError, match=says) as raised:
        read(folder, heads)
    assert name.partition("/")[2] in str(raised.value) or "model" in str(raised.value)


def test_an_unknown_entry_of_the_document_is_refused(folder):
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(document | {"callback": "os.system"}))
    with pytest.raises(BenchError, match="callback"):
        read(folder, heads)


def dataset(tmp_path, n=6, strange=False):
    """A dataset with a table of ready-made profiles, controls, and no readouts."""
    from bench.datasets import load

    rng = np.random.default_rng(3)
    own = wells(n)
    own.assign(Metadata_Compound="x", Metadata_pert_type="trt").to_csv(tmp_path / "wells.csv", index=False)
    values = rng.normal(size=(n, 4)) + (50 if strange else 0)
    features = pd.concat([own, pd.DataFrame(values, columns=[f"f{d}" for d in range(4)])], axis=1)
    features.to_parquet(tmp_path / "profiles.parquet", index=False)
    text = dataset_toml(profiles("intensity", "profiles.parquet"), name="new")
    (tmp_path / "dataset.toml").write_text(text)
    return load(tmp_path)


def test_only_established_readouts_are_predicted_unless_all_are_asked_for(folder, tmp_path):
    from bench.models.predict import predict
    from bench.settings import Settings
    from bench.store import Store

    new = tmp_path / "new"
    new.mkdir()
    given = (folder, dataset(new), Store(tmp_path / "store"), Settings(), lambda *_: None)
    found = predict(*given)
    assert [c for c in found.wells.columns if c.startswith("gene")] == ["gene0", "gene2"]
    assert list(found.readouts["readout"]) == ["gene0", "gene2"]
    assert found.withheld == ("gene1",)
    X = pd.read_parquet(new / "profiles.parquet")[[f"f{d}" for d in range(4)]].to_numpy(np.float32)
    expected = model().predict(wells(6), np.zeros(6, bool), X)[0]
    np.testing.assert_allclose(found.wells[["gene0", "gene2"]], expected[:, [0, 2]])
    everything = predict(*given, all_readouts=True)
    assert [c for c in everything.wells.columns if c.startswith("gene")] == ["gene0", "gene1", "gene2"]
    assert everything.withheld == ()


def test_wells_unlike_any_that_were_fitted_are_flagged(folder, tmp_path):
    from bench.models.predict import predict
    from bench.settings import Settings
    from bench.store import Store

    new = tmp_path / "new"
    new.mkdir()
    found = predict(
        folder, dataset(new, strange=True), Store(tmp_path / "store"), Settings(), lambda *_: None
    )
    assert found.wells["out_of_domain"].all()


def test_nothing_is_predicted_when_nothing_is_established(tmp_path):
    from bench.models.predict import predict
    from bench.settings import Settings
    from bench.store import Store

    write(tmp_path / "model", SAVED, model(), readouts((False, False, False)), None)
    new = tmp_path / "new"
    new.mkdir()
    given = (tmp_path / "model", dataset(new), Store(tmp_path / "store"), Settings(), lambda *_: None)
    with pytest.raises(BenchError, match="--all-readouts"):
        predict(*given)


def entry(optimistic=False):
    from leaderboard.schema import Entry

    rng = np.random.default_rng(0)
    e0 = rng.chisquare(3, size=(5, 40, 3)).astype(np.float32)
    gain = np.array([0.5, 1.0, 1.2], np.float32)
    e = (e0 * gain * rng.uniform(0.8, 1.2, size=e0.shape)).astype(np.float32)
    folds = np.stack([rng.permutation(40) % 5 for _ in range(5)]).astype(np.int16)
    names = ("gene0", "gene1", "gene2")
    scores = pd.DataFrame({"readout": names, "stratum": "all", "r2": 1 - e.sum((0, 1)) / e0.sum((0, 1))})
    return Entry(
        run="r", name="a", label="a", role="entrant", task="regression", head="ridge", layer="l", dataset="d",
        dataset_version="1", protocol="p", protocol_hash="h", folds_hash="f", readouts=names,
        perturbations=tuple(f"c{i:02d}" for i in range(40)), e=e, e0=e0, folds=folds, scores=scores,
        optimistic=optimistic,
    )  # fmt: skip


def test_the_evidence_is_skill_with_its_interval_and_the_test_against_the_floor(monkeypatch):
    from leaderboard.decide import skill_interval
    from leaderboard.summands import summands

    own = entry()
    monkeypatch.setattr(evidence, "load_entry", lambda *_: own)
    found = evidence.readouts(None, "r")
    for t in range(3):
        interval = skill_interval(summands(own.e[:, :, [t]], own.e0[:, :, [t]], own.folds))
        row = found.iloc[t]
        np.testing.assert_allclose(
            [row.skill, row.low, row.high], [interval.estimate, interval.low, interval.high]
        )
    assert list(found["established"]) == [True, False, False]
    assert found.attrs["metric"] == "skill"
    monkeypatch.setattr(evidence, "load_entry", lambda *_: entry(optimistic=True))
    assert not evidence.readouts(None, "r")["established"].any()
