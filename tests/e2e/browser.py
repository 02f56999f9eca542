"""A real browser without a window: Chromium, steered by its DevTools protocol, for what a page shows and where."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

SECONDS = 30.0


def chromium() -> str:
    """Its program; without it a test is skipped, but fails where the tests decide over a change."""
    found = shutil.which("chromium")
    if found is None:
        message = "needs chromium (Debian package chromium)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


class Page:
    """One page."""

    def __init__(self, runner: asyncio.Runner, connection: WebSocketClientConnection) -> None:
        self._runner = runner
        self._connection = connection
        self._numbers = itertools.count(1)

    def call(self, method: str, **parameters: object) -> Any:
        """One call of the protocol."""
        return self._runner.run(self._call(next(self._numbers), method, parameters))

    async def _call(self, number: int, method: str, parameters: object) -> Any:
        await self._connection.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(SECONDS):
            while (text := await self._connection.read_message()) is not None:
                answer = json.loads(text)
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return answer["result"]
        raise AssertionError(f"the browser ended in {method}")

    def evaluate(self, script: str) -> Any:
        """The value of an expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def show(self, url: str, width: int, height: int, until: str) -> None:
        """Open a page in a window of this size, and wait until an expression is true of it."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )  # fmt: skip
        for each in ("about:blank", url):  # pages do not look at a fragment that changes
            self.call("Page.navigate", url=each)
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(f"document.body !== null && ({until})"):
            assert time.monotonic() < deadline, self.evaluate("document.body.innerText")
            time.sleep(0.05)

    def visible_lines(self, selector: str) -> list[str]:
        """The texts of elements, of each what can be seen: nothing that is cut off, or below the window."""
        found: list[str] = self.evaluate(_VISIBLE % json.dumps(selector))
        return found

    def picture(self, path: Path) -> None:
        """Save what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


_VISIBLE = """
[...document.querySelectorAll(%s)].map((element) => {
  const range = document.createRange(), walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let text = "";
  while (walker.nextNode()) {
    const node = walker.currentNode;
    for (let index = 0; index < node.length; index++) {
      range.setStart(node, index);
      range.setEnd(node, index + 1);
      const box = range.getBoundingClientRect();
      let seen = box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight;
      for (let over = node.parentElement; seen && over; over = over.parentElement) {
        if (getComputedStyle(over).overflow !== "visible") {
          const edge = over.getBoundingClientRect();
          seen = box.right <= edge.right + 1 && box.bottom <= edge.bottom + 1;
        }
      }
      if (seen) text += node.data[index];
    }
  }
  return text;
})
"""
"""Of a text that ends in an ellipsis, this has some characters more than are painted."""


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with one empty page; `folder` is for its files."""
    argv = [
        *(chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
        *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
    ]
    with (
        subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        asyncio.Runner() as runner,
    ):
        try:
            connection = runner.run(_connect(process, folder / "DevToolsActivePort"))
            try:
                yield Page(runner, connection)
            finally:
                runner.run(_close(connection))
        finally:
            process.terminate()


async def _close(connection: WebSocketClientConnection) -> None:
    connection.close()
    async with asyncio.timeout(SECONDS):
        while await connection.read_message() is not None:
            pass


async def _connect(process: subprocess.Popen[bytes], told: Path) -> WebSocketClientConnection:
    deadline = time.monotonic() + SECONDS
    while not told.exists() or "\n" not in told.read_text():
        assert process.poll() is None, "the browser ended"
        assert time.monotonic() < deadline, "the browser does not start"
        await asyncio.sleep(0.05)
    url = f"http://127.0.0.1:{told.read_text().splitlines()[0]}/json/list"
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        (page,) = [each for each in json.loads(answer.read()) if each["type"] == "page"]
    return await websocket_connect(page["webSocketDebuggerUrl"])
