"""Runs as one archive for others: written from a store, read with suspicion, re-scored where it is merged."""
