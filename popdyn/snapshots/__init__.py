"""The snapshot format: make, write, read, validate, import, export, inspect."""

from popdyn.snapshots.blocks import BlockWriter
from popdyn.snapshots.experiments import import_experiments
from popdyn.snapshots.export import export
from popdyn.snapshots.import_ import import_data
from popdyn.snapshots.inspect_ import inspect
from popdyn.snapshots.layout import Block, block_rows
from popdyn.snapshots.memory import from_anndata, from_arrays, from_frame
from popdyn.snapshots.reader import open_snapshots, opened
from popdyn.snapshots.standardize import standardization
from popdyn.snapshots.store import write
from popdyn.snapshots.tree import counts, dimension, make_tree, positions, times
from popdyn.snapshots.validate import Breach, validate
from popdyn.snapshots.writer import StoreWriter

__all__ = [
    "Block",
    "BlockWriter",
    "Breach",
    "StoreWriter",
    "block_rows",
    "counts",
    "dimension",
    "export",
    "from_anndata",
    "from_arrays",
    "from_frame",
    "import_data",
    "import_experiments",
    "inspect",
    "make_tree",
    "open_snapshots",
    "opened",
    "positions",
    "standardization",
    "times",
    "validate",
    "write",
]
