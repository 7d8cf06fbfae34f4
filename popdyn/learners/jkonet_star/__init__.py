"""JKOnet*: least squares on the first-order condition of a JKO step, over optimal couplings."""

from popdyn.learners.jkonet_star.fit import fit_jkonet_star

__all__ = ["fit_jkonet_star"]
