"""Scores: gradients against the truth, predictions against snapshots, and the reference rows."""

from popdyn.scores.catalogue import SCORES, Score
from popdyn.scores.prediction import Support
from popdyn.scores.result import Scores
from popdyn.scores.scoring import reference_rows, score

__all__ = ["SCORES", "Score", "Scores", "Support", "reference_rows", "score"]
