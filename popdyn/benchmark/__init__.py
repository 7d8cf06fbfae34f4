"""Suites, the leaderboard, the report."""

from popdyn.benchmark.suite import Entry, Suite
from popdyn.benchmark.suites import SUITES, load_suite, read_suite

__all__ = ["SUITES", "Entry", "Suite", "load_suite", "read_suite"]
