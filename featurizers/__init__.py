"""Images to vectors: one room per method, one contract in :mod:`featurizers.base`."""
