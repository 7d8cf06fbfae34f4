"""Faults on purpose: what a try is, and the kinds of tries."""
