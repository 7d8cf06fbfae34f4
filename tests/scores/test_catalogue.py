"""Every score of the registry keeps what its page promises."""

import re
from pathlib import Path

import numpy as np
import pytest

from popdyn.scores import SCORES
from popdyn.scores.catalogue import scores_of

PAGES = Path(__file__).parents[2] / "docs" / "scores"
HEADINGS = (
    "What it measures",
    "What minimises it",
    "Perfect value",
    "Bias at finite N",
    "When not to use it",
)

each = pytest.mark.parametrize("score", SCORES.values(), ids=list(SCORES))
each_distance = pytest.mark.parametrize(
    "score", scores_of("distribution"), ids=[s.name for s in scores_of("distribution")]
)


@each
def test_has_a_page(score):
    text = (PAGES / f"{score.name}.md").read_text()
    assert text.startswith(f"# {score.name}\n")
    found = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert found[: len(HEADINGS)] == list(HEADINGS)
    perfect = text.split("## Perfect value\n")[1].strip()
    assert perfect.startswith(f"{score.perfect:g}")
    index = (PAGES.parent / "scores.md").read_text()
    assert f"(scores/{score.name}.md)" in index


@each
def test_says_everything_in_one_line(score):
    for text in (score.formula, score.summary, score.minimised_by, score.bias, score.avoid):
        assert text
        assert "\n" not in text


@each_distance
def test_a_distance_is_perfect_on_equal_samples_alone(score):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    for weights in (None, np.full(60, 1 / 60)):
        assert score.function(x, x, weights, None) == pytest.approx(score.perfect, abs=1e-13)
    near, far = score.function(x + 0.5, x, None, None), score.function(x + 2.0, x, None, None)
    assert score.perfect < near < far


@each_distance
def test_a_distance_does_not_depend_on_order_or_position(score):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 2)), rng.normal(0.5, 1.5, size=(50, 2))
    value = score.function(x, y, None, None)
    assert score.function(x[::-1], y[::-1], None, None) == pytest.approx(value, rel=1e-9)
    assert score.function(x + 3.0, y + 3.0, None, None) == pytest.approx(value, rel=1e-9)


@each_distance
def test_a_distance_is_biased_upwards_and_less_so_with_more_points(score):
    def mean(n):
        rng = np.random.default_rng(2)
        pairs = [rng.normal(size=(2, n, 2)) for _ in range(20)]
        return np.mean([score.function(x, y, None, None) for x, y in pairs])

    # The slowest of them, W₂ of a law with tails, falls as N^(−1/4) at the worst: by 1.4.
    few, many = mean(25), mean(100)
    assert few > 1.3 * many > 0
