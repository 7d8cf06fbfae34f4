"""``popdyn list``: every registry, and one name of any."""

import pytest

from popdyn.cli.list_ import KINDS, registry_of


def test_every_kind_and_every_name_is_there(run_popdyn):
    shown = run_popdyn("list", "--json")
    assert shown.code == 0, shown.err
    assert {k: [e["name"] for e in v] for k, v in shown.json.items()} == {
        kind: list(registry_of(kind)) for kind in KINDS
    }
    assert all(entry["summary"] for entries in shown.json.values() for entry in entries)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ("styblinski_tang",),
            ("styblinski_tang (potential): ", "formula: ½ Σ (v⁴", "scale = 1.0"),
        ),
        (("learners", "ijkonet"), ("(learner): ", "[one of auto, features, network]")),
        (("jko15",), ("jko15 (suite): ", "learners: zero, ijkonet", "flowers: ")),
        (("skill",), ("skill (score): ", "formula: 1 − ", "avoid: where the truth is 0")),
        (("h5ad",), ("h5ad (format): ", "suffixes: .h5ad")),
        (("landscape",), ("landscape (figure): ",)),
        # A potential and an interaction have this name.
        (
            ("quadratic",),
            ("quadratic (potential): ", "quadratic (interaction): ", "strength = 1.0"),
        ),
    ],
)
def test_one_name_alone(run_popdyn, words, lines):
    shown = run_popdyn("list", *words)
    assert shown.code == 0, shown.err
    for line in lines:
        assert line in shown.out


def test_wrong_names_say_what_is_near(run_popdyn):
    wrong = run_popdyn("list", "muller_brawn")
    assert wrong.code == 2
    assert "unknown name 'muller_brawn': did you mean muller_brown?" in wrong.last_line
    wrong = run_popdyn("list", "potential", "flat")
    assert wrong.code == 2
    assert "unknown kind 'potential': did you mean potentials" in wrong.last_line
