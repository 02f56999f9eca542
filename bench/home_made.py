#!/usr/bin/env python
"""A gate as many teams write one: aiohttp with PyJWT on uvloop, a contestant of bench/peers.py.

home_made.py PORT UPSTREAM_PORT KEYS    (KEYS: lines of client ID and PEM file)
"""

import asyncio
import sys
from pathlib import Path

import aiohttp
import jwt
import uvloop
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_public_key

REFUSED = '{ "httpCode":"500", "httpMessage":"Internal Error", "moreInformation":"refused" }'


async def main(port: int, upstream: int, keys_file: Path) -> None:
    """Serve for ever."""
    keys = {}
    for line in keys_file.read_text().splitlines():
        client, file = line.split()
        keys[client] = load_pem_public_key(Path(file).read_bytes())
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def handle(request: web.Request) -> web.Response:
        try:
            key = keys[request.headers["X-IBM-Client-Id"]]
            jwt.decode(request.headers["jwt"], key, algorithms=["RS256"], audience="the world")
        except (KeyError, jwt.PyJWTError):
            return web.Response(status=500, text=REFUSED, content_type="application/json")
        url = f"http://127.0.0.1:{upstream}{request.raw_path}"
        async with session.request(
            request.method, url, headers=request.headers, data=await request.read(), allow_redirects=False
        ) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
