"""Bowls for popdyn: a potential, a score and a learner."""
