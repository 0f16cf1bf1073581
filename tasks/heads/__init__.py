"""Heads: vectors to many readouts at once, each tuned in grouped inner folds."""
