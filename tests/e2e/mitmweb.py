"""mitmweb as a script has it: what the page in the browser calls."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e import gates

_XSRF = "ab" * 16


@dataclass(slots=True)
class Web:
    """One mitmweb."""

    gate: gates.Gate
    url: str
    token: str

    def call(self, path: str, data: object = None, method: str | None = None) -> Any:
        """One call of its API; None for an empty answer."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            # Its protection against other sites' pages wants the same in both.
            "Cookie": f"_mitmproxy_xsrf={_XSRF}",
            "X-XSRFToken": _XSRF,
            "Content-Type": "application/json",
        }
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def flow(self, path: str) -> dict[str, Any]:
        """The last flow with this path."""
        found: dict[str, Any] = [flow for flow in self.call("/flows") if flow["request"]["path"] == path][-1]
        return found

    def command(self, name: str, *arguments: str) -> Any:
        """The value of a command, or its error as text."""
        answer = self.call(f"/commands/{name}", {"arguments": arguments})
        return answer["error"] if "error" in answer else answer["value"]

    def until(self, path: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """A flow, once it is so."""
        deadline = time.monotonic() + 5
        while not holds(flow := self.flow(path)):
            assert time.monotonic() < deadline, flow
            time.sleep(0.05)
        return flow
