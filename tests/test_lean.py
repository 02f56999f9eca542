"""The lean replacements of mitmproxy's parts answer what the originals do.

`lean_process` changes mitmproxy for the whole process, so that it is called in a process of its own only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http, options
from mitmproxy.proxy import context
from mitmproxy.test import tflow

from jwsgate.adapters import lean

NAMES = st.sampled_from([b"Accept", b"accept", b"ACCEPT", b"Set-Cookie", b"X", b"x", b"", b"caf\xe9", b"a_b", b"a-b"])
FIELDS = st.lists(st.tuples(NAMES | st.binary(max_size=4), st.binary(max_size=6)), max_size=6)
WANTED = (
    NAMES | st.sampled_from(["Accept", "set-cookie", "x", "", "café", "caf\udce9", "missing"]) | st.text(max_size=3)
)


@given(FIELDS, WANTED)
def test_headers_read_alike(fields: list[tuple[bytes, bytes]], name: str | bytes) -> None:
    """get_all, get, [] and `in` give what mitmproxy's give, for text and octets, any case, any octet."""
    headers = http.Headers(fields)
    try:
        expected = headers.get_all(name)
    except UnicodeEncodeError as error:
        with pytest.raises(type(error)):
            lean._get_all(headers, name)
        return
    assert lean._get_all(headers, name) == expected
    assert lean._contains(headers, name) == (name in headers)
    assert lean._get(headers, name) == headers.get(name)
    assert lean._get(headers, name, 5) == headers.get(name, 5)  # type: ignore[call-overload]
    if expected:
        assert lean._getitem(headers, name) == headers[name]
    else:
        with pytest.raises(KeyError):
            headers[name]
        with pytest.raises(KeyError):
            lean._getitem(headers, name)


@pytest.mark.parametrize("name", [None, 5, ["accept"]])
def test_other_names_are_errors(name: object) -> None:
    """What is no name is an error, as it is for mitmproxy, which names another."""
    headers = http.Headers([(b"accept", b"a")])
    with pytest.raises((TypeError, AttributeError)):
        headers.get_all(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        lean._get_all(headers, name)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        lean._contains(headers, name)


def test_ids_are_random_uuids() -> None:
    """Flow IDs are version 4 UUIDs (RFC 9562 section 5.4) in their one spelling, and differ."""
    texts = [lean._Ids.uuid4() for _ in range(1000)]
    assert len(set(texts)) == 1000
    for text in texts:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, text)


def test_fork_is_the_same_context() -> None:
    """A forked context has the same client, server and options, and layers that grow apart."""
    client = tflow.tclient_conn()
    original = context.Context(client, options.Options())
    original.layers.append("layer")  # type: ignore[arg-type]
    expected, found = original.fork(), lean._fork(original)
    assert type(found) is context.Context
    assert vars(found).keys() == vars(expected).keys()
    for name, value in vars(expected).items():
        assert getattr(found, name) == value
        assert name == "layers" or getattr(found, name) is value
    found.layers.append("more")  # type: ignore[arg-type]
    assert original.layers == ["layer"]  # type: ignore[comparison-overlap]


def test_this_process_is_untouched() -> None:
    """No test here leaves a replacement behind for others."""
    assert http.Headers.get_all is not lean._get_all
    assert context.Context.fork is not lean._fork


def test_lean_process() -> None:
    """In a process made lean, flows are made, copied, saved and loaded as ever, and the log has its lines."""
    program = """
        import json, logging, sys, uuid
        from mitmproxy import flow, http
        from mitmproxy.net.http import http1
        from mitmproxy.net.http.http1 import read
        from mitmproxy.proxy.layers import http as layers_http
        from mitmproxy.test import tflow
        from jwsgate.adapters import lean_http
        from jwsgate.adapters.lean import lean_process, _get_all

        lean_process()
        assert http.Headers.get_all is _get_all
        assert layers_http.validate_headers is lean_http._validate
        assert http1.connection_close is lean_http._closes
        assert read.raise_if_http_version_unknown is lean_http._check_version
        assert http1.expected_http_body_size is layers_http.expected_http_body_size is lean_http._body_size
        one = tflow.tflow(resp=True)
        two = one.copy()
        back = http.HTTPFlow.from_state(one.get_state())
        request = http.Request.make("POST", "http://a.test/b?c=d", b"body", {"Content-Type": "text/plain"})
        request.headers.add("X-A", "1")
        request.headers.add("x-a", "2")
        request.headers["X-B"] = "3"
        del request.headers["content-length"]
        record = logging.LogRecord("a", 20, "f", 1, "text %s", ("x",), None)
        print(json.dumps({
            "ids": [each.id == str(uuid.UUID(each.id)) for each in (one, two, one.client_conn, one.server_conn)],
            "differ": one.id != two.id,
            "same": back.get_state() == one.get_state(),
            "fields": [[k.decode(), v.decode()] for k, v in request.headers.fields],
            "joined": request.headers["x-a"],
            "response": http.Response.make(404, b"no", {"A": "b"}).headers.get("content-length"),
            "line": record.getMessage(),
        }))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "ids": [True] * 4,
        "differ": True,
        "same": True,
        "fields": [["Content-Type", "text/plain"], ["X-A", "1"], ["x-a", "2"], ["X-B", "3"]],
        "joined": "1, 2",
        "response": "2",
        "line": "text x",
    }
