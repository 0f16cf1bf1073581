"""The harness: datasets in, feature store, planning, execution and the command line."""

__version__ = "0.1.0"
