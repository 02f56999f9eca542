"""Inputs made to exhaust a gate: huge, deep, or dear to read. Used by test_resources.py and bench/abuse.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import material
from core_gate import NOW, application, certificate_of, request_with, signed, snapshot_of
from jwsgate.core.decision import Snapshot
from jwsgate.core.facts import RequestFacts

__all__ = ["CERTIFICATE_TEXTS", "REQUESTS", "SNAPSHOTS", "Abuse"]

KEY = material.private_key("p256", "abuse")
WIDEST = 1_048_576
"""The largest `max_octets` that a policy may say."""

_APPLICATION = application("client", certificate_of(KEY))
SNAPSHOTS: dict[str, Snapshot] = {
    "default": snapshot_of(_APPLICATION),
    "widest": snapshot_of(_APPLICATION, jws={"header": "jwt", "max_octets": WIDEST}),
    "query": snapshot_of(_APPLICATION, jws={"query": "jwt"}, client_id={"query": "client_id"}),
}
"""What a request meets: the default limit of 16 KiB, the widest one, and JWS and client ID in the query."""


@dataclass(frozen=True)
class Abuse:
    """One request, and how many octets it has."""

    facts: RequestFacts
    octets: int
    policy: str = "default"
    multiple: int = 8
    """How many times its own size a request may cost in memory; more where it holds many small things."""


def request(token: str | bytes, policy: str = "default", multiple: int = 8) -> Abuse:
    """A token in the header `jwt`."""
    return Abuse(request_with(token), len(token), policy, multiple)


def with_header(name: bytes, value: bytes, times: int = 1) -> Abuse:
    """A request with a good token and another header."""
    facts = request_with(signed(KEY))
    headers = facts.headers + ((name, value),) * times
    return Abuse(RequestFacts(facts.method, facts.target, headers), (len(name) + len(value)) * times, multiple=32)


def with_target(target: bytes, multiple: int = 8) -> Abuse:
    """A request for any target."""
    facts = request_with(signed(KEY))
    return Abuse(RequestFacts(facts.method, target, facts.headers), len(target), "query", multiple)


def of_size(octets: int, core: bytes) -> str:
    """A validly signed token of exactly so many octets, filled up with spaces in header and payload."""
    for header_spaces in range(4):
        for payload_spaces in range(4):
            header = b'{"alg":"ES256"}' + b" " * header_spaces
            room = octets - len(signed(KEY, header=header, payload=core))
            payload = core + b" " * (max(room, 0) * 3 // 4 + payload_spaces)
            token = signed(KEY, header=header, payload=payload)
            if len(token) == octets:
                return token
    raise AssertionError(f"no token has {octets} octets")


def many_members(count: int) -> bytes:
    """Claims with so many members."""
    return b'{"exp":%d,%s}' % (NOW + 60, b",".join(b'"m%d":0' % number for number in range(count)))


DEEP = b"[" * 100_000 + b"]" * 100_000
GOOD = b'{"exp":%d}' % (NOW + 60)
BIG = b'{"alg":"ES256","x":%s}'

REQUESTS: dict[str, Callable[[], Abuse]] = {
    # Lengths
    "32-mb-token": lambda: request(b"A" * 32_000_000),
    "32-mb-token-with-dots": lambda: request(b"A" * 16_000_000 + b"." + b"A" * 8_000_000 + b"." + b"A" * 8_000_000),
    "32-mb-of-spaces-around-the-token": lambda: request(b" " * 16_000_000 + signed(KEY).encode() + b" " * 16_000_000),
    "32-mb-client-id": lambda: Abuse(request_with(signed(KEY), b"c" * 32_000_000), 32_000_000),
    "32-mb-of-another-header": lambda: with_header(b"X-Filler", b"f" * 32_000_000),
    "32-mb-header-name": lambda: with_header(b"n" * 32_000_000, b"v"),
    "8-mb-of-dots": lambda: request(b"." * 8_000_000),
    "token-at-the-limit": lambda: request(of_size(16384, GOOD)),
    "token-over-the-limit": lambda: request(of_size(16385, GOOD)),
    "token-at-the-widest-limit": lambda: request(of_size(WIDEST, GOOD), "widest"),
    "token-over-the-widest-limit": lambda: request(of_size(WIDEST + 1, GOOD), "widest"),
    "dots-at-the-widest-limit": lambda: request(b"." * WIDEST, "widest"),
    "one-segment-at-the-widest-limit": lambda: request(b"A" * WIDEST, "widest"),
    "odd-last-character-at-the-widest-limit": lambda: request(b"A" * (WIDEST - 1) + b"!", "widest"),
    "signature-of-half-a-megabyte": lambda: request(
        material.unsigned({"alg": "ES256"}, GOOD, bytes(500_000)), "widest"
    ),
    "kid-of-a-megabyte": lambda: request(signed(KEY, header={"alg": "ES256", "kid": "k" * 1_000_000})),
    "kid-at-the-widest-limit": lambda: request(
        signed(KEY, header={"alg": "ES256", "kid": "k" * 780_000}, payload=GOOD), "widest"
    ),
    "x5c-at-the-widest-limit": lambda: request(
        signed(KEY, header={"alg": "ES256", "x5c": ["A" * 780_000]}, payload=GOOD), "widest"
    ),
    "x5c-of-many-at-the-widest-limit": lambda: request(
        signed(KEY, header={"alg": "ES256", "x5c": ["AAAA"] * 100_000}, payload=GOOD), "widest", 32
    ),
    # Depth
    "header-of-100000-brackets": lambda: request(signed(KEY, header=BIG % DEEP, payload=GOOD)),
    "header-of-100000-brackets-read": lambda: request(signed(KEY, header=BIG % DEEP, payload=GOOD), "widest"),
    "payload-of-100000-brackets": lambda: request(signed(KEY, payload=b'{"exp":9999999999,"x":%s}' % DEEP)),
    "payload-of-100000-brackets-read": lambda: request(
        signed(KEY, payload=b'{"exp":9999999999,"x":%s}' % DEEP), "widest"
    ),
    "payload-of-100000-open-brackets": lambda: request(signed(KEY, payload=b"[" * 100_000), "widest"),
    "payload-of-100000-open-braces": lambda: request(signed(KEY, payload=b'{"a":' * 100_000), "widest"),
    "header-of-brackets-in-a-string": lambda: request(
        signed(KEY, header=b'{"alg":"ES256","x":"%s"}' % (b"[" * 780_000), payload=GOOD), "widest"
    ),
    "header-of-a-string-never-closed": lambda: request(
        signed(KEY, header=b'{"x":"%s' % (b"[" * 33 + b"\\\\" * 380_000), payload=GOOD), "widest"
    ),
    "payload-of-brackets-in-a-string": lambda: request(
        signed(KEY, payload=b'{"exp":9999999999,"x":"%s"}' % (b"[" * 780_000)), "widest"
    ),
    "payload-of-escapes-in-a-string": lambda: request(
        signed(KEY, payload=b'{"exp":9999999999,"x":"%s","y":"%s"}' % (b"[" * 33, b'\\"' * 380_000)), "widest"
    ),
    "payload-of-a-string-never-closed": lambda: request(
        signed(KEY, payload=b'{"x":"%s' % (b"[" * 33 + b"\\\\" * 380_000)), "widest"
    ),
    "payload-of-quotation-marks": lambda: request(signed(KEY, payload=b"[" * 33 + b'"' * 780_000), "widest"),
    # Numbers
    "exp-of-ten-to-the-400": lambda: request(signed(KEY, {"exp": 10**400})),
    "exp-of-1e400": lambda: request(signed(KEY, payload=b'{"exp":1e400}')),
    "exp-of-5000-digits": lambda: request(signed(KEY, payload=b'{"exp":%s}' % (b"9" * 5000))),
    "exp-of-4300-digits": lambda: request(signed(KEY, payload=b'{"exp":%s}' % (b"9" * 4300))),
    "exp-with-750000-decimals": lambda: request(signed(KEY, payload=b'{"exp":1.%s}' % (b"1" * 750_000)), "widest"),
    "exp-with-a-long-exponent": lambda: request(signed(KEY, payload=b'{"exp":1e%s}' % (b"9" * 750_000)), "widest"),
    "header-member-of-5000-digits": lambda: request(signed(KEY, header=BIG % (b"9" * 5000), payload=GOOD)),
    "100-integers-of-4300-digits": lambda: request(
        signed(KEY, payload=b'{"exp":1,"x":[%s]}' % b",".join([b"9" * 4300] * 100)), "widest"
    ),
    # Numbers of things
    "payload-of-60000-members": lambda: request(signed(KEY, payload=many_members(60_000)), "widest", 32),
    "payload-of-250000-zeros": lambda: request(
        signed(KEY, payload=b'{"exp":%d,"x":[%s0]}' % (NOW + 60, b"0," * 250_000)), "widest"
    ),
    "payload-of-lone-surrogates": lambda: request(
        signed(KEY, payload=b'{"exp":9999999999,"x":"%s"}' % (b"\\ud800" * 120_000)), "widest"
    ),
    "100000-headers": lambda: with_header(b"X-Filler", b"f", 100_000),
    "100000-tokens": lambda: with_header(b"jwt", b"a.b.c", 100_000),
    "100000-client-ids": lambda: with_header(b"X-IBM-Client-Id", b"client", 100_000),
    "connection-header-of-100000-options": lambda: with_header(b"Connection", b"close," * 100_000),
    # Targets
    "target-of-a-megabyte": lambda: with_target(b"/" + b"a" * 1_000_000),
    "target-of-500000-segments": lambda: with_target(b"/a" * 500_000, 64),
    "target-of-escapes": lambda: with_target(b"/%61" * 250_000, 64),
    "target-of-slashes": lambda: with_target(b"/" * 1_000_000, 64),
    "query-of-100000-client-ids": lambda: with_target(b"/protected?" + b"client_id=a&" * 100_000, 32),
    "query-of-500000-ampersands": lambda: with_target(b"/protected?" + b"&" * 500_000, 32),
    "query-of-a-megabyte-of-escapes": lambda: with_target(b"/protected?client_id=" + b"%41" * 330_000, 32),
    "query-of-a-megabyte-of-percent-signs": lambda: with_target(b"/protected?client_id=" + b"%" * 1_000_000, 32),
}
"""Every request by its name; calling the value makes it."""

CERTIFICATE_TEXTS: dict[str, Callable[[], str]] = {
    "8-mb-of-base64": lambda: "A" * 8_000_000,
    "8-mb-of-white-space": lambda: "A" + " \n" * 4_000_000 + "!",
    "8-mb-of-literal-line-breaks": lambda: "A" + "\\n" * 4_000_000 + "!",
    "100000-begin-markers": lambda: "-----BEGIN CERTIFICATE-----\n" * 100_000,
    "100000-end-markers": lambda: "-----BEGIN CERTIFICATE-----\n" + "-----END CERTIFICATE-----\n" * 100_000,
    "100000-empty-certificates": lambda: "-----BEGIN CERTIFICATE----------END CERTIFICATE-----" * 100_000,
    "begin-marker-of-100000-spaces": lambda: "-----BEGIN" + " " * 100_000 + "!-----",
    "end-marker-of-100000-spaces": lambda: "-----BEGIN CERTIFICATE-----AAAA-----END" + " " * 100_000 + "!-----",
    "begin-marker-of-100000-letters": lambda: "-----BEGIN " + "A" * 100_000 + "!-----",
    "8-mb-of-dashes": lambda: "-" * 8_000_000,
    "private-key-marker-of-8-mb-of-spaces": lambda: "PRIVATE" + " " * 8_000_000 + "KEY",
    "1000000-private-key-markers": lambda: "PRIVATE KEY " * 1_000_000,
    "chain-of-2000-certificates": lambda: material.certificate(KEY) * 2000,
}
"""Texts that a portal's field can hold, by their names; whoever owns an application writes there what he likes."""
