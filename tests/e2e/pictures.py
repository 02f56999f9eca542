"""Makes docs/mitmweb.png and docs/mitmweb-detail.png: a real mitmweb with the gate, as headless Chromium shows it.

    PYTHONPATH=tests .venv/bin/python -m e2e.pictures [FOLDER]

Needs the Debian packages chromium, fonts-dejavu-core and fonts-noto-color-emoji, and the ports 8081, 8445 and 9000.
"""

from __future__ import annotations

import http.server
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from e2e import gates, http_client
from e2e.browser import browser
from e2e.mitmweb import Web
from jwsgate.echo import EchoHandler
from jwsgate.testing.applications import ClientApplication, portal_export

POLICY = """\
routes:
  - {name: orders, path: "/orders/**", claims: {required: [exp, iat]}}
  - {name: once, path: /payments, single_use: true}
  - {name: health, path: /health, open: true}
"""
LIST = 1500, 550
DETAIL = 1500, 950


def requests(gate: gates.Gate, shop: ClientApplication, bare: ClientApplication) -> None:
    """One of most kinds, and as the last one the request that explains itself."""
    host = ("Host", f"127.0.0.1:{gate.port}")
    now = int(time.time())

    def call(method: str, path: str, *headers: http_client.Header, client: ClientApplication | None = shop) -> None:
        known = [("X-IBM-Client-Id", client.client_id)] if client else []
        http_client.exchange(gate.port, method, path, [host, *known, *headers])

    paid = ("jwt", shop.sign({"jti": "a1", "iat": now, "exp": now + 60}))
    call("GET", "/health", client=None)
    call("GET", "/orders/17", ("jwt", shop.sign()))
    call("GET", "/orders/18")
    call("GET", "/orders/18", client=None)
    call("GET", "/orders/18", ("jwt", "Bearer " + shop.sign()))
    call("GET", "/orders/18", ("jwt", bare.sign()))
    call("GET", "/orders/18", ("jwt", bare.sign()), client=bare)
    call("POST", "/payments", paid)
    call("POST", "/payments", paid)
    call("GET", "/customers/3", ("jwt", shop.sign()))
    call("GET", "/orders/19", ("jwt", shop.sign({"iat": now - 7500, "exp": now - 7200, "sub": "me"})))


def make(folder: Path, port: int, upstream: int, page: int) -> None:
    """Write both pictures; raises AssertionError where the page does not show what they are for."""
    shop, bare = ClientApplication.make("shop"), ClientApplication.make("newcomer").without_certificate()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        (place / "portal.yaml").write_text(portal_export([shop, bare]))
        (place / "policy.yaml").write_text(POLICY)
        argv = gates.command(
            "jwsgate run",
            upstream=f"http://127.0.0.1:{upstream}",
            port=port,
            portal=place / "portal.yaml",
            policy=place / "policy.yaml",
            options=[f"web_port={page}", "web_open_browser=false", "web_password=secret"],
            arguments=["--ui", "web"],
        )
        with (
            http.server.ThreadingHTTPServer(("127.0.0.1", upstream), EchoHandler) as server,
            gates.running(
                lambda _: argv, env=gates.environment(place), directory=place, name="mitmweb", wait=False
            ) as gate,
            browser(place / "browser") as shown,
        ):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            while not gates.listening(gate.process, port):
                assert gate.process.poll() is None, gate.log()
                time.sleep(0.05)
            requests(replace(gate, port=port), shop, bare)
            web = Web(gate, f"http://127.0.0.1:{page}", "secret")
            shown.show(
                f"{web.url}/?token=secret#/flows",
                *LIST,
                until="document.querySelectorAll('td.col-comment').length == 11",
            )
            shown.picture(folder / "mitmweb.png")
            detail = f"{web.url}/?token=secret#/flows/{web.flow('/orders/19')['id']}/response"
            shown.show(detail, *DETAIL, until="document.body.innerText.includes('Claims (verified)')")
            shown.picture(folder / "mitmweb-detail.png")
            server.shutdown()


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else gates.ROOT / "docs", 8445, 9000, 8081)
