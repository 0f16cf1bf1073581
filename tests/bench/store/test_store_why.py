"""What differs between two keys, and finding a key by its start."""

from __future__ import annotations

import pytest

from bench.errors import StoreError
from bench.store import Difference, digest, find
from bench.store.why import why

A = {"entrant": "mae", "config": {"steps": 2000, "lr": 0.1, "layers": [1, 2]}, "channels": ["DNA"]}
B = A | {"config": {"steps": 2000, "lr": 1e-4, "layers": [1]}, "code": "ff"}


def commit(store, folder, document=None):
    store.commit(folder, lambda _: None, {} if document is None else {"key_document": document})


def test_the_differences_are_the_paths_that_differ(store):
    for document in (A, B):
        commit(store, f"features/dataset=d/featurizer=mae/key={digest(document)}/plate=P1", document)
    assert why(store, digest(A), digest(B)) == [
        Difference("code", "(absent)", "ff"),
        Difference("config.layers[1]", 2, "(absent)"),
        Difference("config.lr", 0.1, 0.0001),
    ]
    assert why(store, digest(A)[:8], digest(A)[:10]) == []
    assert [str(d) for d in why(store, digest(B), digest(A))][-1] == "config.lr: 0.0001 vs 0.1"


def test_one_and_one_point_zero_and_true_differ_as_they_do_in_keys(store):
    documents = [{"x": 1}, {"x": 1.0}, {"x": True}, {"x": None}, {}]
    for document in documents:
        commit(store, f"runs/run={digest(document)}", document)
    for a in documents:
        for b in documents:
            assert bool(why(store, digest(a), digest(b))) == (digest(a) != digest(b))


def test_runs_and_folders_name_a_document_too(store):
    commit(store, "runs/run=abc", A)
    commit(store, "predictions/run=abc/fold=0")
    commit(store, "runs/run=abd", B)
    assert find(store, "abc") == ["predictions/run=abc/fold=0", "runs/run=abc"]
    assert find(store, "runs") == ["runs/run=abc", "runs/run=abd"]
    assert find(store, "runs/run=abc/") == ["runs/run=abc"]
    assert why(store, "abc", "runs/run=abd")
    with pytest.raises(StoreError, match="keeps no key document"):
        why(store, "predictions/run=abc/fold=0", "abd")


def test_an_unknown_or_ambiguous_key_is_said_with_what_could_be_meant(store):
    commit(store, "runs/run=abc123")
    commit(store, "runs/run=abd456")
    with pytest.raises(StoreError, match=r"2 keys .* start with 'ab' \(abc123, abd456\): give more"):
        find(store, "ab")
    with pytest.raises(StoreError, match="did you mean abc123"):
        find(store, "abc132")
    with pytest.raises(StoreError, match="bench store ls"):
        find(store, "zzzzzz")
    with pytest.raises(StoreError):
        find(store, "")


def test_a_key_that_starts_another_means_itself(store):
    commit(store, "runs/run=abc")
    commit(store, "runs/run=abcd")
    assert find(store, "abc") == ["runs/run=abc"]
