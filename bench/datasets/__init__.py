"""Datasets: a folder with ``dataset.toml``, tables of images, wells and readouts, and how the two meet."""

from __future__ import annotations

from bench.datasets.checks import Finding, check
from bench.datasets.joins import JoinReport, join, join_report, join_with_report
from bench.datasets.load import load
from bench.datasets.manifest import image_manifest
from bench.datasets.model import Dataset, Layer, ProfileTable

__all__ = [
    "Dataset",
    "Finding",
    "JoinReport",
    "Layer",
    "ProfileTable",
    "check",
    "image_manifest",
    "join",
    "join_report",
    "join_with_report",
    "load",
]
