"""The pool of random octets: none twice, none shared with a child process."""

from __future__ import annotations

import os
import random
import re

import pytest

from jwsgate.adapters import random_pool
from jwsgate.adapters.random_pool import random_hex


@pytest.mark.parametrize("octets", [1, 12, 16, 4096])
def test_length(octets: int) -> None:
    """So many octets, in hex."""
    for _ in range(3):
        assert re.fullmatch(r"[0-9a-f]*", text := random_hex(octets))
        assert len(text) == 2 * octets


def test_octets_are_the_systems_and_none_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given out is what the operating system gave, each octet once."""
    given = bytearray()

    def urandom(size: int) -> bytes:
        octets = random.Random(len(given)).randbytes(size)
        given.extend(octets)
        return octets

    monkeypatch.setattr(random_pool, "_pool", "")
    monkeypatch.setattr(os, "urandom", urandom)
    at = 0
    for taken in [bytes.fromhex(random_hex(size)) for size in (12, 16, 1, 4000, 1200, 12, 4096)]:
        at = given.index(taken, at) + len(taken)


def test_texts_differ() -> None:
    """Ten thousand IDs are ten thousand IDs."""
    assert len({random_hex(12) for _ in range(10_000)}) == 10_000


def test_child_process_draws_its_own() -> None:
    """After a fork, parent and child do not give out the same octets."""
    random_hex(1)  # so that the pool holds something
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, random_hex(16).encode())
        os._exit(0)
    os.close(writer)
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    os.waitpid(child, 0)
    assert len(theirs) == 32
    assert random_hex(16) != theirs
