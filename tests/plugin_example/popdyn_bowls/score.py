"""A score."""

import numpy as np

from popdyn.scores.catalogue import score_of


@score_of(
    "distribution",
    formula="|med x − med y|",
    summary="distance of the medians",
    minimised_by="every law with the observed medians",
    perfect=0.0,
    bias="upwards, by about N^(−1/2)",
    avoid="to see anything but the location",
)
def median_shift(x, y, a, b):
    """Return the distance of the medians of each component; weights are not used."""
    return float(np.linalg.norm(np.median(x, 0) - np.median(y, 0)))
