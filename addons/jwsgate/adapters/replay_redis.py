"""A replay store shared by many gates, in Redis (extra `jwsgate[redis]`).

Its reach is every gate that names the same Redis database. Whatever keeps Redis from answering in time is a
rejection. A Redis that forgets (no persistence, eviction, failover) forgets uses: run it with `noeviction`.
"""

import hashlib
import math
from typing import Any, Final
from urllib.parse import urlsplit

from jwsgate.core.replay import REMEMBER_SECONDS, ReplayKey
from jwsgate.files.problems import Unfit

__all__ = ["RedisReplayStore"]

_TIMEOUT_SECONDS: Final = 1.0


class RedisReplayStore:
    """Uses as keys `jwsgate:use:<digest>` that expire together with their JWS."""

    def __init__(self, url: str) -> None:
        """Connects at the first use.

        Raises:
            Unfit: when the URL is none, or the extra is not installed.
        """
        try:
            from redis.asyncio import Redis  # noqa: PLC0415 - an optional extra
        except ImportError:
            raise Unfit("a Redis replay store needs an extra", "pip install 'jwsgate[redis]'") from None
        timeouts: dict[str, Any] = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS}
        try:
            self._redis: Any = Redis.from_url(url, protocol=2, **timeouts)
        except ValueError:
            url = ""
        scheme, _, rest = url.partition("://")
        database = urlsplit(url).path.strip("/") if scheme != "unix" else ""
        # The library takes database 0 in place of one that is no number.
        if not rest or not (database == "" or (database.isascii() and database.isdigit())):
            raise Unfit("is neither memory nor the URL of a Redis", "write redis://HOST[:PORT][/DB]")

    async def first_use(self, key: ReplayKey, now: float) -> bool:
        digest = hashlib.sha256(f"{key.client_id}\0{key.jti}".encode()).hexdigest()
        # Relative, as Redis's own clock may differ; and longer than needed here, as other gates' clocks may be slow.
        seconds = max(0, math.ceil(key.expires - now)) + REMEMBER_SECONDS
        return bool(await self._redis.set(f"jwsgate:use:{digest}", b"1", nx=True, ex=seconds))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
