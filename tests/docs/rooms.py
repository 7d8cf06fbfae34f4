"""The rooms of popdyn whose names are public."""

ROOMS = (
    "popdyn",
    "popdyn.benchmark",
    "popdyn.dynamics",
    "popdyn.estimation",
    "popdyn.learners",
    "popdyn.plots",
    "popdyn.scores",
    "popdyn.simulation",
    "popdyn.snapshots",
)
