"""Scores and per-perturbation summands to intervals, comparisons, ranks and tables, over plain arrays and frames."""
