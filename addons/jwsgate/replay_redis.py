"""A replay store shared by many gates, in Redis (extra `jwsgate[redis]`).

Its reach is every gate that names the same Redis database. Whatever keeps Redis from answering in time is a
rejection. A Redis that forgets (no persistence, eviction, failover) forgets uses: run it with `noeviction`.
"""

import hashlib
import math
from typing import Any

from .replay import ReplayKey

__all__ = ["RedisReplayStore"]

_TIMEOUT_SECONDS = 1.0


class RedisReplayStore:
    """Uses as keys `jwsgate:use:<digest>` that expire together with their JWS."""

    def __init__(self, url: str) -> None:
        """Connects at the first use.

        Raises:
            ValueError: with "message; remedy" when the URL is none, or the extra is not installed.
        """
        try:
            from redis.asyncio import Redis  # noqa: PLC0415 - an optional extra
        except ImportError:
            raise ValueError("a Redis replay store needs the extra; pip install 'jwsgate[redis]'") from None
        self._redis: Any = Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS, protocol=2
        )

    async def first_use(self, key: ReplayKey, now: float) -> bool:
        digest = hashlib.sha256(f"{key.client_id}\0{key.jti}".encode()).hexdigest()
        # Relative, by this gate's clock: Redis's own may differ. One second more, so that it never ends early.
        seconds = max(1, math.ceil(key.expires - now) + 1)
        return bool(await self._redis.set(f"jwsgate:use:{digest}", b"1", nx=True, ex=seconds))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
