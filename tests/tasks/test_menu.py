"""What heads share when they choose: a loss that is no number never wins, and no prediction is never free."""

import numpy as np

from tasks.heads.menu import pick, squared_error

NAN = np.nan


def test_the_squared_error_is_summed_over_observed_rows():
    y = np.array([[1.0, 2.0], [3.0, NAN], [5.0, 6.0]])
    p = np.array([[0.0, 2.0], [3.0, 7.0], [7.0, 3.0]])
    np.testing.assert_array_equal(squared_error(y, p, ~np.isnan(y)), [5.0, 9.0])


def test_a_missing_prediction_of_an_observed_row_costs_everything():
    y = np.zeros((3, 3))
    p = np.array([[0.0, NAN, 1.0], [NAN, 0.0, 1.0], [0.0, 0.0, 1.0]])
    mask = np.array([[True, True, True], [False, True, True], [True, True, True]])
    np.testing.assert_array_equal(squared_error(y, p, mask), [0.0, np.inf, 3.0])


def test_a_missing_prediction_of_an_unobserved_row_costs_nothing():
    assert squared_error(np.array([[NAN]]), np.array([[NAN]]), np.array([[False]])) == 0.0


def test_a_member_that_predicts_nothing_is_not_chosen():
    loss = np.array([[NAN, NAN, np.inf], [2.0, NAN, 3.0], [2.0, 4.0, np.inf], [5.0, 5.0, 5.0]])
    best, own = pick(loss, np.ones(3, bool), 0.0)
    np.testing.assert_array_equal(best, [2, 2, 1])  # of equal losses the plainest
    np.testing.assert_array_equal(own, [2.0, 4.0, 3.0])


def test_a_readout_without_an_inner_fold_gets_the_mean_and_no_loss():
    best, own = pick(np.array([[1.0], [2.0]]), np.zeros(1, bool), 0.0)
    assert best == 1
    assert np.isnan(own)
