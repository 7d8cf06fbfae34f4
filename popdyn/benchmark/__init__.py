"""Suites, the leaderboard, the report."""
