"""An upstream for those who have none at hand: it answers what arrived."""

import http.server
import json
from typing import Any

__all__ = ["EchoHandler"]


class EchoHandler(http.server.BaseHTTPRequestHandler):
    """Answers each request with what arrived, as JSON."""

    protocol_version = "HTTP/1.1"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _echo(self) -> None:
        seen: dict[str, Any] = {
            "upstream": "echo",
            "method": self.command,
            "path": self.path,
            "headers": list(map(list, self.headers.items())),
            "body": self._body().decode("utf-8", "replace"),
        }
        octets = json.dumps(seen, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(octets)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._echo
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the gate's log is the one to read."""
