"""What a sample says of dynamics that someone else estimated."""

from popdyn.estimation.two_sample import LEAST, Comparison, carried, compare
from popdyn.estimation.verdict import REFUTED, VERDICTS, Sample, Verdict, judge, told_apart

__all__ = [
    "LEAST",
    "REFUTED",
    "VERDICTS",
    "Comparison",
    "Sample",
    "Verdict",
    "carried",
    "compare",
    "judge",
    "told_apart",
]
