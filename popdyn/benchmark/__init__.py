"""Suites, the leaderboard, the report."""

from popdyn.benchmark.bench import bench
from popdyn.benchmark.folder import check_bench
from popdyn.benchmark.stores import make_store, make_suite
from popdyn.benchmark.suite import Entry, Suite
from popdyn.benchmark.suites import SUITES, load_suite, read_suite

__all__ = [
    "SUITES",
    "Entry",
    "Suite",
    "bench",
    "check_bench",
    "load_suite",
    "make_store",
    "make_suite",
    "read_suite",
]
