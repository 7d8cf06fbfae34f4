"""An energy prints its parts, and shows a known potential."""

import popdyn


def test_parts_with_formulas_and_errors():
    energy = popdyn.FreeEnergy("double_well", "morse", 0.25)
    lines = str(energy).splitlines()
    assert [line[:3] for line in lines] == ["V  ", "W  ", "β  "]
    assert lines[0].startswith("V  double_well = ")
    assert lines[2] == "β  0.25"
    energy.diffusivity_standard_error = 0.0123
    assert str(energy).endswith("β  0.25 ± 0.012")
    assert str(popdyn.FreeEnergy()) == "V  0\nW  0\nβ  0"
    assert repr(energy).startswith("FreeEnergy(V=double_well, W=morse")


def test_what_is_more_than_a_gradient_flow():
    turning = popdyn.Dynamics(popdyn.FreeEnergy("quadratic"), circulation="rotation")
    assert str(turning).splitlines()[-2:] == ["β  0", "circulation  rotation"]
    assert "circulation  rotation</pre><img" in turning._repr_html_()


def test_html_has_a_map_of_what_is_known_in_the_plane():
    assert "<img alt=" in popdyn.FreeEnergy("styblinski_tang")._repr_html_()
    assert "<img" not in popdyn.FreeEnergy("moving_well")._repr_html_()  # at no time in particular
    assert "<img" not in popdyn.FreeEnergy(lambda x: x.sum(-1))._repr_html_()
    assert popdyn.FreeEnergy()._repr_html_() == "<pre>V  0\nW  0\nβ  0</pre>"


def test_learned_ones_say_what_they_are(small_data):
    network = popdyn.fit(small_data, model="network", learn="potential", steps=2, hidden=(8, 4))
    assert str(network.energy).startswith("V  network of widths 8, 4\n")
    features = popdyn.fit(small_data, learner="weak_form", ensemble=2)
    assert str(features.energy).startswith("V  mean of 2, the first: linear in ")
