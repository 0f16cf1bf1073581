"""One thing is not several."""

import pytest

from bench.words import count


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((1, "problem"), "1 problem"),
        ((0, "problem"), "0 problems"),
        ((2, "well", "have"), "2 wells have"),
        ((1, "well", "have"), "1 well has"),
        ((1, "image", "are"), "1 image is"),
        ((1, "treated well", "name"), "1 treated well names"),
        ((3, "row of readouts", "have"), "3 rows of readouts have"),
        ((3, "well with features"), "3 wells with features"),
    ],
)
def test_nouns_and_verbs_follow_the_number(given, text):
    assert count(*given) == text
