"""Errors that a user can act on: one sentence with the file, the row and the remedy."""

from __future__ import annotations


class BenchError(Exception):
    """A wrong input or setting; the command line prints it as one sentence and exits with ``exit_code``."""

    exit_code = 1


class UsageError(BenchError):
    """The command itself is wrong (an unknown name, options that exclude each other)."""

    exit_code = 2


class DatasetError(BenchError):
    """A dataset's file, table or setting is wrong."""


class StoreError(BenchError):
    """The store holds something it should not, or cannot be read or written."""


class SidecarError(BenchError):
    """CellProfiler's own environment is missing, cannot be made, or its run failed."""
