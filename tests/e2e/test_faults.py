"""Whatever breaks inside the gate, a request is denied.

An exception is raised in every function of the package that takes part in judging a request, one at a time,
in a real process at either door. Which functions these are is not written down but recorded: all that start
between a request's arrival at the gate and its arrival at the upstream, or the gate's answer.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

import material
from e2e import estate, gates
from e2e.estate import ED25519, KEYS, P256, RSA, Files, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Connection, H2Connection, Header, NoResponse, Response, request_octets
from e2e.upstream import BODY, RecordingUpstream

pytestmark = pytest.mark.e2e

FAULT_INJECTION = Path(__file__).parent / "fault_injection"

EXCEPTIONS = [
    "RuntimeError",
    "Doom",
    "CancelledError",
    "AddonHalt",
    "Rejection",
]
LEFT_OUT = {
    # An exception while an exception is logged ends the event loop: that is closed, but leaves no gate for the rest.
    "_Log.emit": {"start", "return"},
    # When a hook has done all that it does, its verdict is complete; what it calls is faulted in its place.
    "JwsGate.requestheaders": {"return"},
    "Seal.requestheaders": {"return"},
    "Seal.request": {"return"},
    "GateHttpStream.state_consume_request_body": {"return"},
    "JwsGate._release_later": {"return"},
}
"""Functions that are not faulted at their start or at their return, each with the reason."""
FIRST: Final = ("forward", "validate", "sign", "denied")
"""The kinds in which every function is faulted by every exception; of the others, only what these do not have."""
FEWEST = 15
"""With fewer functions than this the recording is broken, and the tests would prove nothing."""


# One request of each kind. Paths and JWS are new each time, down to the JOSE header, so that no
# cache hides a function.

POLICY = f"""\
{estate.POLICY}
  - {{name: once, path: "/once/**", single_use: true}}
  - {{name: bound, path: "/bound/**", bind: {{body: {{claim: digest}}}}}}
  - {{name: open, path: "/open/**", open: true}}
"""
LARGE = b"x" * 100_000
"""A body that goes upstream as it comes."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, not sent yet."""

    method: str
    target: str
    headers: list[Header]
    body: bytes = b""
    http2: bool = False

    @contextlib.contextmanager
    def sent(self, port: int, timeout: float) -> Iterator[Response]:
        """The response, while the connection still stands."""
        if self.http2:
            lower = [(name.lower(), value) for name, value in self.headers]
            with H2Connection(port, timeout=timeout) as connection:
                stream = connection.start(self.method, self.target, lower)
                connection.send(stream, self.body, ends=True)
                yield connection.read(stream)
        else:
            with Connection(port, timeout=timeout) as connection:
                connection.send(request_octets(self.method, self.target, self.headers, self.body))
                yield connection.read()


def fresh(client_id: str, key: material.PrivateKey | None = None, **claims: Any) -> list[Header]:
    """The two headers of a request that no cache has seen the like of."""
    key = key or KEYS[client_id]
    header = {"alg": material.algorithm_of(key), "nonce": secrets.token_hex(8)}
    return credentials(client_id, material.jws(key, material.default_claims(**claims), header=header))


def path(pattern: str) -> str:
    """A path that no cache has seen."""
    return pattern.format(secrets.token_hex(8))


def digest(body: bytes) -> str:
    """As `bind: {body: …}` has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


def stranger() -> material.PrivateKey:
    """A key that nobody registered."""
    return material.private_key("ed25519", "stranger")


def jti() -> str:
    """A claim for a JWS that is good once."""
    return secrets.token_hex(8)


type Kinds = dict[str, Callable[[], Request]]
KINDS: Final[Kinds] = {
    "forward": lambda: Request("POST", path("/orders/{}"), fresh(P256), b"body"),
    "validate": lambda: Request("GET", path("/tvo/{}/signvalidate/validate"), fresh(ED25519)),
    "sign": lambda: Request("POST", path("/tvo/{}/signvalidate/sign"), [("X-IBM-Client-Id", RSA)], b'{"t":"t"}'),
    "denied": lambda: Request("POST", path("/orders/{}"), fresh(ED25519, stranger()), b"body"),
    "large": lambda: Request("POST", path("/orders/{}"), fresh(P256), LARGE),
    "once": lambda: Request("POST", path("/once/{}"), fresh(P256, jti=jti()), b"body"),
    "bound": lambda: Request("POST", path("/bound/{}"), fresh(P256, digest=digest(b"body")), b"body"),
    "open": lambda: Request("GET", path("/open/{}"), []),
    "http2": lambda: Request("POST", path("/orders/{}"), fresh(P256), b"body", http2=True),
}
ANSWERED: Final = {"validate", "sign", "denied"}
"""The kinds that never go upstream."""
DENIED: Final[Kinds] = {
    "denied": KINDS["denied"],
    "large": lambda: Request("POST", path("/orders/{}"), fresh(ED25519, stranger()), LARGE),
    "once": lambda: Request("POST", path("/once/{}"), fresh(ED25519, stranger(), jti=jti()), b"body"),
    "bound": lambda: Request("POST", path("/bound/{}"), fresh(P256, digest=digest(b"other")), b"body"),
    "http2": lambda: Request("POST", path("/orders/{}"), fresh(ED25519, stranger()), b"body", http2=True),
}
"""What must not pass whatever is garbage in the gate: requests without a good signature, or with another body."""


CARRYING = {"get_connection", "_start_task", "server_connect", "register_connection"}
"""With the first of these an allowed request is on its way to the upstream."""


def stages(called: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Of the functions called for a request: those that set up the connection, that judge, and that carry it upstream.

    What runs from the response's hooks on comes after the verdict, and cannot hold the request back any more.
    """
    hooks = [name.rpartition(".")[2] for name in called]
    first = hooks.index("requestheaders")
    last = next((at for at, hook in enumerate(hooks) if hook in {"responseheaders", "response"}), len(hooks))
    judged = next((at for at, hook in enumerate(hooks[:last]) if at > first and hook in CARRYING), last)
    return called[:first], called[first:judged], called[judged:last]


@dataclass
class Faulty:
    """A gate with the fault injection on board, and the functions that take part in each kind of request."""

    gate: Gate
    upstream: RecordingUpstream
    order: Path
    setting_up: dict[str, list[str]] = field(default_factory=dict)
    judging: dict[str, list[str]] = field(default_factory=dict)
    carrying: dict[str, list[str]] = field(default_factory=dict)
    spoilt: bool = False
    """A fault has left the gate unfit for further tests."""
    _epochs: Iterator[int] = field(default_factory=itertools.count)

    def command(self, **order: Any) -> None:
        """Replace the fault file, all at once."""
        text = json.dumps({"epoch": next(self._epochs), **order})
        fresh = self.order.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.order)

    def send(self, request: Request, timeout: float = 5) -> Response | None:
        """The answer on a connection of its own; None when there is none."""
        with contextlib.suppress(NoResponse, OSError), request.sent(self.gate.port, timeout) as response:
            return response
        return None

    def record(self) -> None:
        """Learn which functions take part in each kind of request."""
        for make in KINDS.values():
            # What is done for the first request of an application only is faulted in tests/test_packed.py.
            self.send(make())
        self.quiet()
        for kind, make in KINDS.items():
            called = self.order.with_name(f"called-{kind}")
            called.touch()
            self.send(make())
            self.quiet()
            self.upstream.clear()
            self.command(called=str(called))
            with make().sent(self.gate.port, 5):
                self.setting_up[kind], self.judging[kind], self.carrying[kind] = stages(called.read_text().splitlines())
                self.command()
            self.quiet()

    def judged(self, everywhere: bool) -> Iterator[tuple[str, Callable[[], Request], str]]:
        """Kind, maker and function: each function in each of the first kinds, and in others once, or always."""
        seen: set[str] = set()
        for kind, names in self.judging.items():
            for name in names:
                if everywhere or kind in FIRST or name not in seen:
                    yield kind, KINDS[kind], name
            seen.update(names)

    def quiet(self) -> None:
        """Wait until connections have come to their end: what they do there is no part of the next request."""
        called = self.order.with_name("called-in-between")
        called.touch()
        self.command(called=str(called))
        sizes = [-1, called.stat().st_size]
        while sizes[-1] != sizes[-2]:
            time.sleep(0.4)
            sizes.append(called.stat().st_size)
        self.command()

    def assert_healthy(self, *kinds: str) -> None:
        """Without a fault each kind of request gets what it should."""
        self.upstream.settle()  # what passed before a fault came may still be on its way
        self.upstream.clear()
        requests = {kind: KINDS[kind]() for kind in kinds}
        answers = {kind: self.send(request) for kind, request in requests.items()}
        statuses = {kind: answer and answer.status for kind, answer in answers.items()}
        assert statuses == {kind: 500 if kind == "denied" else 200 for kind in kinds}
        assert answers["forward"] is not None
        assert answers["forward"].body == BODY
        forwarded = {request.target.encode() for kind, request in requests.items() if kind not in ANSWERED}
        assert {request.target for request in self.upstream.requests} == forwarded


@contextlib.contextmanager
def start(door: Door, home: Path, files: Files, upstream: RecordingUpstream, directory: Path) -> Iterator[Faulty]:
    """Start a gate with the fault injection on board."""
    order = directory / "order.json"
    order.write_text("{}")
    options = ["jwsgate_watch=false", f"jwsgate_audit={directory / 'audit.jsonl'}"]
    admin = ["--admin", "127.0.0.1:0"] if door == "jwsgate run" else []
    with gates.running(
        # The watching of files would be recorded now and then, and takes no part in judging.
        lambda port: gates.command(
            door,
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=options,
            arguments=admin,
        ),
        env=gates.environment(home, pythonpath=[FAULT_INJECTION], extra={"JWSGATE_TEST_FAULT_FILE": str(order)}),
        directory=directory,
        name=door,
    ) as gate:
        faulty = Faulty(gate, upstream, order)
        faulty.record()
        yield faulty


@pytest.fixture(scope="module")
def starter(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Faulty]]:
    """Gives the gate of this door, and another one when a test has brought it down."""
    current: list[Faulty] = []
    files = write_files(tmp_path_factory.mktemp("faults-files"), policy=POLICY)
    with contextlib.ExitStack() as stack:

        def give() -> Faulty:
            if not current or current[-1].gate.process.poll() is not None or current[-1].spoilt:
                directory = tmp_path_factory.mktemp("faults")
                current.append(stack.enter_context(start(door, home, files, session_upstream, directory)))
            return current[-1]

        yield give


@pytest.fixture
def faulty(starter: Callable[[], Faulty]) -> Faulty:
    """A gate that is well, and serves all faults of one test."""
    return starter()


def own(functions: dict[str, list[str]], kind: str) -> set[str]:
    """The functions that only this kind has, beside the first one, or that only the first has beside it."""
    return set(functions[kind]) ^ set(functions["validate" if kind == "forward" else "forward"])


def test_recording_finds_the_path(faulty: Faulty) -> None:
    """The recording is not empty, reaches from the hooks down to the signature, and tells kinds apart."""
    functions = faulty.judging
    assert min(len(functions["forward"]), len(functions["validate"])) >= FEWEST
    hooks = {name.rpartition(".")[2] for name in functions["forward"]}
    assert {"requestheaders", "request"} <= hooks
    modules = {name.partition(":")[0].rpartition(".")[2] for name in functions["forward"]}
    assert {"decision", "jws", "claims"} <= modules
    assert [kind for kind in KINDS if not own(functions, kind)] == []
    faulty.assert_healthy(*KINDS)


def failures(faulty: Faulty, at: str, exception: str, *, everywhere: bool) -> Iterator[str]:
    """What went wrong with a fault in each of the functions; `everywhere`: in each kind of request that has it."""
    cases = [(name, kind, make, False) for kind, make, name in faulty.judged(everywhere)]
    judged = {name for name, *_ in cases}
    # A fault that comes after the verdict, on the way to the upstream, must only leave the gate well.
    for kind, names in faulty.carrying.items():
        cases += [(name, kind, KINDS[kind], True) for name in names if name not in judged]
        judged.update(names)
    # A fault before any hook has seen the request need not deny a good one; a bad one stays denied.
    for kind, make in DENIED.items():
        cases += [(name, kind, make, False) for name in faulty.setting_up[kind] if name not in judged]
        judged.update(faulty.setting_up[kind])
    by_function: dict[str, list[tuple[str, Callable[[], Request], bool]]] = {}
    for name, kind, make, is_late in cases:
        if at not in LEFT_OUT.get(name.partition(":")[2], ()):
            by_function.setdefault(name, []).append((kind, make, is_late))
    assert len(by_function) >= FEWEST
    happened = 0
    for name, ways in by_function.items():
        where = f"{exception} at the {at} of {name}"
        for kind, make, is_late in ways:
            fired = faulty.order.with_name("fired")
            fired.unlink(missing_ok=True)
            faulty.upstream.clear()
            faulty.command(fault=name, at=at, exception=exception, fired=str(fired))
            # A gate that gives no answer at all has denied too; no need to wait for that one long.
            answer = faulty.send(make(), timeout=0.2)
            if at == "start" and not fired.exists():
                answer = faulty.send(make(), timeout=3)  # the machine is busy with other things
            if not fired.exists():
                # A function that itself ends in an exception never returns.
                if at == "start":
                    yield f"{where}, {kind}: did not happen"
                continue
            happened += 1
            if is_late:
                time.sleep(0.05)  # it may be on its way still, and must not count as the next one
                continue
            if (faulty.upstream.connections, faulty.upstream.octets) != (0, b""):
                yield f"{where}, {kind}: reached the upstream"
            # The injected rejection is a verdict too, so that the status of any rejection will do.
            elif answer is not None and answer.status < 400:
                yield f"{where}, {kind}: answered {answer.status}"
        faulty.command()
        faulty.spoilt = True
        if faulty.gate.process.poll() is not None:
            yield f"{where}: the gate ended with {faulty.gate.process.returncode}"
            return
        try:
            faulty.assert_healthy("forward", "denied")
        except AssertionError as error:
            yield f"after {where}: {error}"
            return
        faulty.spoilt = False
    assert happened >= FEWEST
    faulty.assert_healthy(*KINDS)


def spoilt_functions(faulty: Faulty, **order: Any) -> Iterator[str]:
    """What went wrong with each of the functions that judge a request, spoilt one at a time as `order` says."""
    happened = 0
    faulty.spoilt = True
    is_late = False
    kind_of: dict[str, str] = {}
    for kind in DENIED:
        for name in faulty.judging[kind]:
            kind_of.setdefault(name, kind)
    for name in faulty.judging["forward"]:
        kind_of.setdefault(name, "denied")
    for name, kind in kind_of.items():
        fired = faulty.order.with_name("fired")
        fired.unlink(missing_ok=True)
        faulty.upstream.clear()
        faulty.command(**{key: name if value is NAME else value for key, value in order.items()}, fired=str(fired))
        request = DENIED[kind]()
        answer = faulty.send(request, timeout=0.3)
        # On a slow machine the good one before may only now be on its way.
        received = (faulty.upstream.connections, faulty.upstream.octets)
        if request.target.encode() in received[1] if is_late else received != (0, b""):
            yield f"{name}, {kind}: reached the upstream"
        elif answer is not None and answer.status < 400:
            yield f"{name}, {kind}: answered {answer.status}"
        # A good one may pass or not, but must not bring the gate down.
        is_late = faulty.send(KINDS["forward" if kind == "denied" else kind](), timeout=0.3) is None
        happened += fired.exists()
        faulty.command()
        if faulty.gate.process.poll() is not None:
            yield f"{name}: the gate ended with {faulty.gate.process.returncode}"
            return
        time.sleep(0.05)
    assert happened >= FEWEST
    faulty.quiet()
    faulty.assert_healthy(*KINDS)
    faulty.spoilt = False


NAME: Any = object()
"""Stands for the name of the function."""


@pytest.mark.parametrize("value", ["none", "true", "text", "object"])
def test_garbage_from_each_function(faulty: Faulty, value: str) -> None:
    """Whatever a function returns in place of what it found, what has no good signature does not pass."""
    found = list(spoilt_functions(faulty, garbage=NAME, value=value))
    assert not found, "\n".join(found)


def test_each_function_hangs(faulty: Faulty) -> None:
    """A function that takes long holds everything up, and lets nothing through."""
    found = list(spoilt_functions(faulty, fault=NAME, at="start", seconds=0.1))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_exception_at_the_start_of_each_function(faulty: Faulty, exception: str) -> None:
    """An exception where any function starts: denied, nothing upstream, and well again afterwards."""
    found = list(failures(faulty, "start", exception, everywhere=exception == "RuntimeError"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("exception", ["RuntimeError", "Doom", "AddonHalt"])
def test_exception_at_the_end_of_each_function(faulty: Faulty, exception: str) -> None:
    """An exception after a function has done all its work, the hooks included, denies as well."""
    found = list(failures(faulty, "return", exception, everywhere=exception == "RuntimeError"))
    assert not found, "\n".join(found)
