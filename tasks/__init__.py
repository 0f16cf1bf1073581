"""Vectors and readouts to out-of-fold predictions, scores and summands, over plain arrays and frames."""
