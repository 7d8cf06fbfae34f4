"""The snapshot format: make, write, read, validate, import, export, inspect."""

from popdyn.snapshots.store import open_snapshots, write
from popdyn.snapshots.tree import counts, dimension, make_tree, positions, times

__all__ = ["counts", "dimension", "make_tree", "open_snapshots", "positions", "times", "write"]
