"""The decisions of `jwsgate serve` as an ASGI application, for bench/peers.py: what a server of our own is worth.

Run by uvicorn or granian as `asgi_check:make`, with PEERS_PORTAL and PEERS_POLICY in the environment. It decides only;
there is no reload, no drain, no audit log and no metrics.
"""

import gc
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

from jwsgate.adapters.accounts import Accounts
from jwsgate.adapters.checking import Checker
from jwsgate.adapters.dialects import DIALECTS, Question, check_policy
from jwsgate.adapters.state import GateState
from jwsgate.core.answers import TRANSACTION_HEADER, Reply
from jwsgate.core.upstream import Headers, fields_of
from jwsgate.core.verified_cache import VerifiedCache

type Message = dict[str, Any]

REMEMBER, ENTRY_OCTETS = 100_000, 6144  # as `jwsgate serve` has them
SETS = frozenset({b"x-subject", b"x-global-transaction-id"})


class Answer(NamedTuple):
    """An answer as ASGI wants it, so that none is written as octets first and read again."""

    status: int
    headers: Headers


def permission(transaction_id: bytes, lines: bytes, _removed: Collection[bytes]) -> Answer:
    """Lets a request pass."""
    transaction = TRANSACTION_HEADER.lower().encode(), transaction_id
    return Answer(200, ((b"content-length", b"0"), transaction, *fields_of(lines)))


def denial(reply: Reply, headers: Headers, is_head: bool) -> Answer:
    """Ends a request, with the words that nginx is told."""
    lines = DIALECTS["nginx"].denial(reply, headers, is_head).split(b"\r\n\r\n")[0].split(b"\r\n")
    fields = (line.partition(b": ")[::2] for line in lines[1:])
    return Answer(int(lines[0].split()[1]), tuple((name.lower(), value) for name, value in fields))


def make() -> Callable[[Message, Callable[..., Any], Callable[[Message], Awaitable[None]]], Awaitable[None]]:
    """The application."""
    # ASGI has the names of headers in lower case, as HAProxy does. The checker hands on whatever a dialect makes.
    dialect = replace(DIALECTS["haproxy"], permission=permission, denial=denial)  # type: ignore[arg-type]
    cache = VerifiedCache(REMEMBER, REMEMBER * ENTRY_OCTETS)
    state = GateState(cache, lambda snapshot: check_policy(snapshot, dialect, SETS))
    state.configure(os.environ["PEERS_PORTAL"], [os.environ["PEERS_POLICY"]], "memory")
    accounts = Accounts()
    accounts.configure("", "info")
    checker = Checker(dialect, SETS, state, accounts)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)

    async def app(scope: Message, _receive: Callable[..., Any], send: Callable[[Message], Awaitable[None]]) -> None:
        question = Question(scope["method"], scope["raw_path"], tuple(map(tuple, scope["headers"])))
        answer: Any = checker.answer(question)
        if not isinstance(answer, Answer):
            answer = await answer
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b""})

    return app
