"""The report in real headless Chromium: it sorts, its links work, it logs no error."""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.request
from html.parser import HTMLParser

import pytest
from tornado.websocket import websocket_connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-port=0"),
]
WIDTHS = {"screen": (1280, 900), "phone": (390, 844)}


class Page:
    """One tab, driven through the DevTools protocol."""

    def __init__(self, socket, loop):
        self.socket, self.loop, self.numbers = socket, loop, itertools.count(1)
        self.events = []

    def call(self, method, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        self.loop.run_until_complete(self.socket.write_message(json.dumps(message)))
        while True:
            answer = json.loads(self.loop.run_until_complete(self.socket.read_message()))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def js(self, expression):
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, path, width="screen", scheme="light"):
        w, h = WIDTHS[width]
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=w,
            height=h,
            deviceScaleFactor=1,
            mobile=width == "phone",
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 60
        while self.js("document.readyState") != "complete" or not self.js(
            f"location.href.startsWith({json.dumps(path.as_uri())})"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def key(self, key, code=None, text=None):
        named = {"key": key, "code": code or key}
        named |= {"windowsVirtualKeyCode": {"Enter": 13, "Tab": 9, " ": 32}[key]}
        down = {"type": "keyDown", **named} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def click(self, selector):
        x, y = self.js(
            f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center"}});
            const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2];
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def column(self, table, index):
        """Texts of a column, top to bottom."""
        return self.js(
            f"Array.from(document.querySelectorAll('#{table} tbody tr'))"
            f".map(r => r.cells[{index}].textContent.trim())"
        )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    profile = tmp_path_factory.mktemp("profile")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    try:
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < deadline, "chromium did not start"
            assert browser.poll() is None, "chromium ended"
            time.sleep(0.1)
        port = int(port_file.read_text().splitlines()[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            tab = next(t for t in json.load(answer) if t["type"] == "page")
        asyncio.set_event_loop(loop)

        async def connect():
            return await websocket_connect(tab["webSocketDebuggerUrl"], max_message_size=2**27)

        found = Page(loop.run_until_complete(connect()), loop)
        for domain in ("Page", "Runtime", "Log", "Network"):
            found.call(f"{domain}.enable")
        yield found
        found.socket.close()
    finally:
        browser.terminate()
        browser.wait(timeout=20)
        loop.close()


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
