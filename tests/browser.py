"""Chromium without a window, driven through the DevTools protocol."""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request

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

    def save(self, path):
        """Write the page, from top to bottom, as a picture."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "scale": 1,
            "width": size["width"],
            "height": min(size["height"], 6000),
        }
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def column(self, table, index):
        """Texts of a column, top to bottom."""
        return self.js(
            f"Array.from(document.querySelectorAll('#{table} tbody tr'))"
            f".map(r => r.cells[{index}].textContent.trim())"
        )


@contextlib.contextmanager
def chromium(profile):
    """Yield a page of a browser whose profile is a new folder; skip where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    profile.mkdir()
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
