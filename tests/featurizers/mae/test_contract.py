"""The conformance suite of the package itself, on a small masked autoencoder and on the untrained control."""

from __future__ import annotations

from featurizers.conformance import check_featurizer, failures
from featurizers.mae import Mae
from featurizers.untrained import Untrained


def test_mae_keeps_the_contract(config):
    results = check_featurizer(lambda: Mae(config))
    assert failures(results) == []
    assert {"resume", "fit-deterministic", "batch-invariant"} <= {
        r.name for r in results if r.status == "passed"
    }


def test_untrained_keeps_the_contract():
    assert failures(check_featurizer(Untrained)) == []
