"""From a store to the report: boards, and all that stands beside them."""

from bench.report.collect import Request, collect

__all__ = ["Request", "collect"]
