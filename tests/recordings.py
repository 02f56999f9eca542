"""Recordings for the tests: flows as mitmproxy saves them, and HAR files as browsers do."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mitmproxy import http
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow


@dataclass(frozen=True, slots=True)
class Sent:
    """One request that was recorded."""

    path: str
    time: float
    headers: Sequence[tuple[str, str]] = ()
    method: str = "GET"
    body: bytes = b""

    def flow(self) -> http.HTTPFlow:
        """As mitmproxy has it, with an answer."""
        flow = tflow.tflow(resp=True)
        flow.request.method, flow.request.path = self.method, self.path
        flow.request.raw_content = self.body
        flow.request.headers = http.Headers([(name.encode(), value.encode()) for name, value in self.headers])
        flow.request.timestamp_start = self.time
        return flow

    def entry(self) -> dict[str, Any]:
        """As a browser has it."""
        request: dict[str, Any] = {
            "method": self.method,
            "url": f"https://api.example{self.path}",
            "httpVersion": "HTTP/2",
            "headers": [
                {"name": ":authority", "value": "api.example"},
                *({"name": name, "value": value} for name, value in self.headers),
            ],
            "bodySize": len(self.body),
        }
        if self.body:
            request["postData"] = {"mimeType": "application/json", "text": self.body.decode()}
        return {"startedDateTime": datetime.fromtimestamp(self.time, UTC).isoformat(), "time": 1, "request": request}


def flow_file(requests: Iterable[Sent]) -> bytes:
    """A file as `mitmdump -w` writes it."""
    file = io.BytesIO()
    writer = FlowWriter(file)
    for request in requests:
        writer.add(request.flow())
    return file.getvalue()


def har_file(requests: Iterable[Sent]) -> bytes:
    """A file as browsers export it."""
    log = {"version": "1.2", "creator": {"name": "t"}, "pages": [], "entries": [each.entry() for each in requests]}
    return json.dumps({"log": log}, indent=1).encode()
