"""Heads: vectors to many readouts at once, each with its own choice of hyper-parameters in grouped inner folds."""
