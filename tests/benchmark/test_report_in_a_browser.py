"""The report in real headless Chromium: it sorts, its links work, it logs no error."""

import json
import re
import time
from html.parser import HTMLParser

import pytest

from tests.browser import WIDTHS, chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture(scope="module")
def report(small_bench):
    return small_bench[1] / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_screen_and_logs_no_error(page, report, width, scheme):
    page.open(report, width, scheme)
    page.js("document.getElementById('open-all').click()")
    assert page.js("document.documentElement.scrollWidth") <= WIDTHS[width][0]
    shown = page.js(
        "Array.from(document.querySelectorAll('figure svg')).map(s => {"
        "const b = s.getBoundingClientRect(); return [b.width, b.height]; })"
    )
    assert len(shown) >= 10
    assert all(w > 200 and h > 150 for w, h in shown)
    black, white = page.js(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (black, white)]
    assert light[0] < 150 < 600 < light[1] if scheme == "light" else light[0] > 600 > 150 > light[1]
    ink = page.js("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert ink == black  # the figures follow the page
    logged = [
        e for e in page.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert logged == []
    asked = [e for e in page.events if e["method"] == "Network.requestWillBeSent"]
    addresses = {e["params"]["request"]["url"].split(":")[0] for e in asked}
    assert addresses <= {"file", "data"}


def test_it_sorts_by_click_and_by_key(page, report):
    page.open(report)
    names = page.column("board-1", 0)
    assert names[0] == "oracle"
    heads = page.column("board-1", 0) and page.js(
        "Array.from(document.querySelectorAll('#board-1 thead th')).map(h => h.textContent)"
    )
    skill = heads.index("skill ∇V")

    def state():
        return page.js(
            f"document.querySelectorAll('#board-1 thead th')[{skill}].getAttribute('aria-sort')"
        )

    def values():
        texts = [t.split(" ")[0].replace("−", "-") for t in page.column("board-1", skill)]
        known = [float(t) for t in texts if t != "–"]
        assert texts[: len(known)] == [t for t in texts if t != "–"]  # what has no value is last
        return known

    button = f"#board-1 thead th:nth-child({skill + 1}) button"
    page.click(button)
    assert state() == "descending"
    assert values() == sorted(values(), reverse=True)
    assert len(values()) == 3
    page.click(button)
    assert state() == "ascending"
    assert values() == sorted(values())
    page.js(f"document.querySelector({json.dumps(button)}).focus()")
    page.key("Enter", text="\r")
    assert state() == "descending"
    assert values() == sorted(values(), reverse=True)
    page.js("document.querySelector('#board-1 thead th button').focus()")
    page.key(" ", "Space", text=" ")
    assert page.column("board-1", 0) == sorted(names)
    assert state() == "none"
    assert page.js("document.getElementById('status').textContent").startswith("sorted by name")
    # From one heading the next is a Tab away.
    page.key("Tab")
    assert page.js("document.activeElement.textContent") == heads[1]


def test_its_links_work(page, report):
    page.open(report)
    targets = page.js("Array.from(document.querySelectorAll('a')).map(a => a.getAttribute('href'))")
    assert len(targets) >= 5
    for target in targets:
        assert target.startswith("#")
        assert page.js(f"document.getElementById({json.dumps(target[1:])}) !== null"), target
    assert page.js("document.getElementById('entry-still').open") is False
    page.click("a[href='#entry-still']")
    deadline = time.monotonic() + 5
    while not page.js("document.getElementById('entry-still').open"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    top = page.js("document.getElementById('entry-still').getBoundingClientRect().top")
    assert -5 <= top < 900
    assert page.js("document.activeElement.tagName") == "SUMMARY"
    page.key("Enter", text="\r")
    assert page.js("document.getElementById('entry-still').open") is False
    page.js("document.getElementById('open-all').click()")
    assert page.js("document.querySelectorAll('details.entry:not([open])').length") == 0
    page.js("document.getElementById('close-all').click()")
    assert page.js("document.querySelectorAll('details.entry[open]').length") == 0


def test_commands_can_be_copied(page, report):
    page.open(report)
    page.click(".copy")
    deadline = time.monotonic() + 5
    while page.js("document.querySelector('.copy').textContent") == "Copy":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    said = page.js("document.querySelector('.copy').textContent")
    assert said in ("Copied", "Selected")
    code = page.js("document.querySelector('.command code').textContent")
    assert code.startswith("popdyn bench ")
    if said == "Selected":
        assert page.js("getSelection().toString()") == code


class _Outline(HTMLParser):
    """Ids, texts and outside addresses of a page."""

    def __init__(self):
        super().__init__()
        self.ids, self.outside, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given:
            self.ids.append(given["id"])
        for name in ("src", "href", "xlink:href", "action"):
            address = given.get(name) or ""
            if address and not address.startswith(("#", "data:")):
                self.outside.append((tag, address))

    def handle_data(self, data):
        self.text.append(data)


def test_the_file_needs_nothing_else(report):
    text = report.read_text(encoding="utf-8")
    outline = _Outline()
    outline.feed(text)
    assert outline.outside == []
    assert len(outline.ids) == len(set(outline.ids))
    assert "url(http" not in text
    assert "@import" not in text
    shown = " ".join(outline.text)
    assert "a skill has no meaning <here> & now" in shown  # escaped in the file
    for word in ("floor", "copy_previous", "popdyn train bowl-seed0.zarr", "inner residual"):
        assert word in shown, word
    assert len(text) < 2_000_000
