"""Fitted heads as files: the same predictions, and nothing else is read."""

import json

import numpy as np
import pytest

from tasks.base import TaskError
from tasks.heads.elastic_net import ElasticNet, ElasticNetConfig
from tasks.heads.knn import Knn
from tasks.heads.lightgbm import Lightgbm, LightgbmConfig
from tasks.heads.linear import Linear
from tasks.heads.logistic import Logistic
from tasks.heads.mean import Mean
from tasks.heads.mlp import Mlp, MlpConfig
from tasks.heads.ridge import Ridge
from tasks.heads.saved import ARRAYS, PLAIN, load, save
from tasks.protocol import LogGrid

HEADS = {
    "mean": (Mean, Mean),
    "ridge": (Ridge, Ridge),
    "logistic": (Logistic, Logistic),
    "linear": (Linear, Linear),
    "knn": (Knn, Knn),
    "elastic-net": (ElasticNet, lambda: ElasticNet(ElasticNetConfig(LogGrid(0.05, 0.5, 2), (0.5,)))),
    "mlp": (Mlp, lambda: Mlp(MlpConfig(width=8, layers=2, steps=60, check=20, rate=1e-2))),
    "lightgbm": (Lightgbm, lambda: Lightgbm(LightgbmConfig(trees=5, panel=3))),
}


def fitted(make, calls):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    Y = X @ rng.normal(size=(4, 5)) + 0.3 * rng.normal(size=(60, 5))
    Y = (Y > 0).astype(float) if calls else Y
    mask = rng.random(Y.shape) > 0.1
    mask[:, 4] = False
    return X, make().fit(X, Y, mask, np.array([f"g{i // 3}" for i in range(60)]))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("calls", [False, True], ids=["values", "calls"])
def test_a_head_that_was_read_back_predicts_the_same_bytes(name, calls, tmp_path):
    if name == "logistic" and not calls:
        calls = True
    cls, make = HEADS[name]
    X, head = fitted(make, calls)
    save(head, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([ARRAYS, PLAIN])
    assert load(cls, tmp_path).predict(X).tobytes() == head.predict(X).tobytes()


def test_another_head_another_version_and_other_names_are_refused(tmp_path):
    _, head = fitted(Ridge, False)
    save(head, tmp_path)
    with pytest.raises(TaskError, match="is of head 'ridge'"):
        load(Linear, tmp_path)
    document = json.loads((tmp_path / PLAIN).read_text())
    (tmp_path / PLAIN).write_text(json.dumps(document | {"values": {"block": 3}}))
    with pytest.raises(TaskError, match="block missing or unknown"):
        load(Ridge, tmp_path)
    (tmp_path / PLAIN).write_text("{")
    with pytest.raises(TaskError, match="cannot be read"):
        load(Ridge, tmp_path)


def test_a_damaged_file_of_arrays_is_refused(tmp_path):
    _, head = fitted(Ridge, False)
    save(head, tmp_path)
    (tmp_path / ARRAYS).write_bytes(b"no arrays")
    with pytest.raises(TaskError, match="cannot be read"):
        load(Ridge, tmp_path)


def test_a_head_that_does_not_say_what_it_rests_on_is_refused(tmp_path):
    class Own(Ridge):
        name = "own"
        saved = ()

    with pytest.raises(TaskError, match="cannot be saved"):
        save(Own(), tmp_path)
