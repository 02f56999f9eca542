"""Serves the application under test on loopback, in a thread of the test process."""

import contextlib
import http.server
import inspect
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from jwsgate.echo import EchoHandler

__all__ = ["App", "serve"]

type App = str | Callable[..., Any] | None
"""What stands behind the gate: the URL of a server, a WSGI or ASGI callable, or None for an upstream that echoes."""

_START_SECONDS: Final = 20.0


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Silent: what the gate decided is what a test asks about."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the DNS for a name, and may wait for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]
        self.setup_environ()


def _is_asgi(app: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(type(app), "__call__", None))  # noqa: B004 - asked what kind it is


@contextlib.contextmanager
def _http_server(server: socketserver.BaseServer, port: int) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="jwsgate upstream", daemon=True)
    with server:
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _asgi_server(app: Callable[..., Any]) -> Iterator[str]:
    try:
        import uvicorn  # noqa: PLC0415 - an extra, and only this needs it
    except ImportError:
        raise RuntimeError("an ASGI application is served by uvicorn: pip install 'jwsgate[testing]'") from None
    # Of the two WebSocket libraries that it knows, this one comes with mitmproxy.
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="wsproto"))

    def run() -> None:
        # It exits when the application does not start.
        with contextlib.suppress(SystemExit):
            server.run([listener])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, name="jwsgate upstream", daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not server.started:
                if not thread.is_alive() or time.monotonic() > deadline:
                    raise RuntimeError("the ASGI application did not start; its log says why")
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_START_SECONDS)


def serve(app: App) -> contextlib.AbstractContextManager[str]:
    """Serve an application as long as the context is open, which gives its URL; a URL is given back.

    A WSGI callable is served by the standard library's server, which reads bodies of a known length only; an ASGI one
    by uvicorn.

    Raises:
        RuntimeError: uvicorn is needed and not there, or the ASGI application does not start.
    """
    if isinstance(app, str):
        return contextlib.nullcontext(app)
    if app is None:
        echo = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EchoHandler)
        return _http_server(echo, echo.server_port)
    if _is_asgi(app):
        return _asgi_server(app)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.set_app(app)
    return _http_server(server, server.server_port)
