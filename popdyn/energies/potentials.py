"""The registry of potentials: the field's benchmark and those that people know."""

from popdyn.energies.potentials_benchmark import BENCHMARK
from popdyn.energies.potentials_classic import CLASSIC
from popdyn.energies.terms import Entry

__all__ = ["POTENTIALS"]

POTENTIALS: dict[str, Entry] = {**BENCHMARK, **CLASSIC}
