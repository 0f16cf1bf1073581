"""Does a featurizer keep the contract of :mod:`featurizers.base`? One call, one result per promise.

In the spirit of scikit-learn's ``check_estimator``: it ships with the package, so that a featurizer that
lives elsewhere can be tested there::

    from featurizers.conformance import check_featurizer, failures

    def test_the_contract_is_kept():
        assert failures(check_featurizer(MyFeaturizer)) == []

``check_predictor`` does the same for a predictor.
"""

from featurizers.conformance.prediction import check_predictor
from featurizers.conformance.subject import CheckResult
from featurizers.conformance.suite import CHECKS, check_featurizer, failures

__all__ = ["CHECKS", "CheckResult", "check_featurizer", "check_predictor", "failures"]
