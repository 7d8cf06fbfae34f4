"""iJKOnet: inverse optimization meets the JKO scheme."""

from popdyn.learners.ijkonet.fit import fit_ijkonet

__all__ = ["fit_ijkonet"]
