"""The site: built without a warning, every link inside leads somewhere, readable on a phone."""

import importlib
import importlib.util
import os
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import WIDTHS, chromium
from tests.docs.rooms import ROOMS

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
SHOWN = ("docs/index", "docs/guide/verdict", "docs/reference/learners", "docs/gallery/growth")

pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """What a page asks for, and the places that it has."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.places = [], {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.places |= {given[key] for key in ("id", "name") if given.get(key)}
        self.targets += [given[key] for key in ("href", "src") if given.get(key)]


@pytest.fixture(scope="module")
def site():
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed: pip install -e '.[docs]'")
    done = subprocess.run(
        [ROOT / "scripts" / "docs", "-E"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING:" not in done.stderr
    return SITE


def test_every_link_inside_leads_somewhere(site):
    pages = {page.resolve(): Links(page) for page in site.rglob("*.html")}
    assert len(pages) > 80
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            there = urlsplit(target)
            if there.scheme or there.netloc or target.startswith(("data:", "mailto:")):
                continue
            path = page if not there.path else (page.parent / unquote(there.path)).resolve()
            has = not there.fragment or path not in pages
            if not path.exists() or not (has or unquote(there.fragment) in pages[path].places):
                broken.append((str(page.relative_to(site.resolve())), target))
    assert broken == []


def test_every_public_name_has_its_place(site):
    from sphinx.util.inventory import InventoryFile

    found = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    names = {name for kind, entries in found.items() if kind.startswith("py:") for name in entries}
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            home = f"{getattr(thing, '__module__', room)}.{getattr(thing, '__qualname__', name)}"
            shown = {f"{room}.{name}", home, f"popdyn.{name}"}
            # A class of a room's own may stand on the page of the room that uses it.
            assert shown & names or any(n.endswith(f".{name}") for n in names), f"{room}.{name}"


def test_a_notebook_shows_scores_once(site):
    page = (site / "docs" / "gallery" / "recover_a_potential.html").read_text()
    assert page.count("energy, against the truth") == 1


def test_no_page_is_empty(site):
    for page in (site / "docs" / "reference").rglob("*.html"):
        text = page.read_text()
        body = text[text.index("<article") : text.index("</article")]
        assert len(body) > 1500, page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SHOWN)
def test_it_fits_the_screen_and_logs_no_error(site, page, name, width, scheme):
    page.open(site / f"{name}.html", width, scheme)
    assert page.js("document.documentElement.scrollWidth") <= WIDTHS[width][0]
    black, white = page.js(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light, dark = (sum(map(int, c[c.index("(") + 1 : -1].split(",")[:3])) for c in (black, white))
    assert (light < dark) == (scheme == "light")
    assert page.js("Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
    logged = [e for e in page.events if e["method"] == "Runtime.exceptionThrown"]
    assert logged == []
    if folder := os.environ.get("POPDYN_SCREENSHOTS"):
        page.save(Path(folder) / f"{name.replace('/', '-')}-{width}-{scheme}.png")
