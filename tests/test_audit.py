"""The audit log: every line whole, on its own, plain ASCII, and without a JWS; or an OSError."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import select
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import material
from jwsgate.adapters import audit
from jwsgate.adapters.audit import AuditLog
from jwsgate.adapters.records import DecisionRecord
from jwsgate.core.reasons import Reason
from jwsgate.files.problems import Unfit
from record_material import a_record, open_descriptors, python_command, run_python, small_disk

JWS = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl"
MEMBERS = [
    "time", "transaction_id", "client_id", "application", "route", "decision", "reason", "detail", "thumbprint",
    "alg", "duration_us", "method", "path", "peer", "trace_id", "cached",
]  # fmt: skip
TEXTS = ["transaction_id", "client_id", "application", "route", "detail", "thumbprint", "alg", "peer", "trace_id"]
"""Members that are not the client's text."""


def written(path: Path) -> list[dict[str, Any]]:
    """Every line of an audit log."""
    octets = path.read_bytes()
    assert octets == b"" or octets.endswith(b"\n")
    return [json.loads(line) for line in octets.splitlines()]


def entry(tmp_path: Path, record: DecisionRecord) -> dict[str, Any]:
    """What one record leaves."""
    path = tmp_path / "one.log"
    path.unlink(missing_ok=True)
    log = AuditLog(str(path))
    log.record(record)
    log.close()
    [found] = written(path)
    return found


# What a line says


def test_allowed(tmp_path: Path) -> None:
    """Every member, in a fixed order, with the times in their units."""
    found = entry(tmp_path, a_record(cached=True))
    assert list(found) == MEMBERS
    assert found == {
        "time": "2030-03-17T17:46:40.250000Z",
        "transaction_id": "0123456789abcdef01234567",
        "client_id": "479b3df9-380e-4bda-8cc1-92718c88f9cd",
        "application": "shop",
        "route": "orders",
        "decision": "allowed",
        "reason": None,
        "detail": "",
        "thumbprint": "ab" * 32,
        "alg": "ES256",
        "duration_us": 83,
        "method": "GET",
        "path": "/orders/17",
        "peer": "127.0.0.1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "cached": True,
    }


@pytest.mark.parametrize("reason", Reason)
def test_rejected(reason: Reason, tmp_path: Path) -> None:
    """Each reason by its code; what is not known is null."""
    bare = DecisionRecord(1.0, 0.001, "t", "GET", "/", "::1", reason, "why")
    found = entry(tmp_path, bare)
    assert (found["decision"], found["reason"], found["detail"]) == ("rejected", reason.value, "why")
    assert [name for name, value in found.items() if value is None] == [
        "client_id", "application", "route", "thumbprint", "alg", "trace_id",
    ]  # fmt: skip


def test_every_member_of_a_record_is_written() -> None:
    """A member that records get later is not forgotten here."""
    renamed = {"duration": "duration_us"}
    assert {renamed.get(field.name, field.name) for field in dataclasses.fields(DecisionRecord)} == (
        (set(MEMBERS) - {"decision"}) | {"reported"}  # the two are one word in the line
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_900_000_000.000_001, "2030-03-17T17:46:40.000001Z"),
        (1_899_999_999.999_999_9, "2030-03-17T17:46:40.000000Z"),
        (951_782_400.5, "2000-02-29T00:00:00.500000Z"),
    ],
)
def test_time(seconds: float, text: str, tmp_path: Path) -> None:
    """RFC 3339 in UTC, rounded to the microsecond, whatever the time zone of the machine."""
    assert entry(tmp_path, a_record(time=seconds))["time"] == text


def test_time_of_following_lines(tmp_path: Path) -> None:
    """What is kept of one line's time does not show in the next."""
    log = AuditLog(str(tmp_path / "log"))
    times = [1_900_000_000.1, 1_900_000_000.9, 1_900_000_001.2, 1_900_000_000.3]
    for each in times:
        log.record(a_record(time=each))
    log.close()
    assert [datetime.fromisoformat(found["time"]).timestamp() for found in written(tmp_path / "log")] == times


# What a client may have sent


def as_json(text: str) -> str:
    """A text as JSON gives it back: two lone surrogates side by side are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def shortened(text: str | None, found: str | None) -> bool:
    """Whether a text came back as it was, or cut with a mark."""
    if text is None or found is None:
        return text is found
    return found == as_json(text) or (found.endswith("…") and as_json(text).startswith(found[:-2]) and len(text) > 16)


anything = st.text(st.characters(), max_size=400) | st.text('\u2028\u202e\ud800\udc00\x00\x7f"\\\n\r😀é', max_size=400)


@given(
    st.builds(
        DecisionRecord,
        time=st.floats(0, 4e9),
        duration=st.floats(0, 1e6),
        transaction_id=anything,
        method=anything,
        path=anything,
        peer=anything,
        reason=st.none() | st.sampled_from(Reason),
        detail=anything,
        route=st.none() | anything,
        client_id=st.none() | anything,
        application=st.none() | anything,
        thumbprint=st.none() | anything,
        alg=st.none() | anything,
        cached=st.booleans(),
        trace_id=st.none() | anything,
    )
)
def test_any_record_is_one_line(record: DecisionRecord) -> None:
    """Whatever a record holds: one line of printable ASCII, short enough for a pipe, that gives the members back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        log = AuditLog(str(path))
        log.record(record)
        log.close()
        octets = path.read_bytes()
    assert len(octets) <= select.PIPE_BUF
    assert octets[-1:] == b"\n"
    assert all(0x20 <= octet < 0x7F for octet in octets[:-1])
    found = json.loads(octets)
    assert list(found) == MEMBERS
    for name in TEXTS:
        assert shortened(getattr(record, name), found[name]), name
    if "eyJ" not in record.path + record.method and "%" not in record.path + record.method:
        assert shortened(record.path, found["path"])
        assert shortened(record.method, found["method"])
    assert abs(datetime.fromisoformat(found["time"]).timestamp() - record.time) < 2e-6
    assert found["duration_us"] == round(record.duration * 1e6)
    assert found["reason"] == record.reason
    assert found["cached"] is record.cached


def test_astral_texts_are_cut_harder(tmp_path: Path) -> None:
    """Where every character needs twelve octets, the line still fits, and each member says something."""
    record = a_record(**dict.fromkeys((*TEXTS, "method", "path"), "😀" * 300))
    found = entry(tmp_path, record)
    assert all(found[name].startswith("😀" * 16) and found[name].endswith("…") for name in (*TEXTS, "method", "path"))
    assert (tmp_path / "one.log").stat().st_size <= select.PIPE_BUF


def test_huge_path(tmp_path: Path) -> None:
    """Of ten million characters those past the first 256 are not even looked at: a search of all would take hours."""
    assert entry(tmp_path, a_record(path="/" + "x" * 10_000_000))["path"] == "/" + "x" * 255 + "…"
    assert entry(tmp_path, a_record(path="/" + "eyJ" * 3_000_000))["path"] == "/(JWS removed)…"
    assert entry(tmp_path, a_record(path="/" + "%65yJ" * 2_000_000))["path"] == "(JWS removed)"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        pytest.param(f"/a/{JWS}/b", "/a/(JWS removed)/b", id="segment"),
        pytest.param(f"/{JWS}", "/(JWS removed)", id="whole"),
        pytest.param(f"/a;jwt={JWS}", "/a;jwt=(JWS removed)", id="path-parameter"),
        pytest.param("/eyJhbGciOiJFUzI1NiJ9..c2ln", "/(JWS removed)", id="detached"),
        pytest.param("/eyJhbGciOiJub25lIn0.e30.", "/(JWS removed)", id="unsecured"),
        pytest.param("/eyJhbGciOiJSU0EifQ.a.b.c.d", "/(JWS removed)", id="jwe"),
        pytest.param(f"/{JWS}/{JWS}", "/(JWS removed)/(JWS removed)", id="twice"),
        pytest.param(f"/x{JWS}", "/x(JWS removed)", id="glued"),
        pytest.param(JWS, "(JWS removed)", id="no-slash"),
        pytest.param("/" + JWS.replace(".", "%2E"), "(JWS removed)", id="encoded-dots"),
        pytest.param("/%65%79%4a" + JWS[3:], "(JWS removed)", id="encoded-letters"),
        pytest.param("/" + "".join(f"%{ord(c):02x}" for c in JWS[:60]), "(JWS removed)", id="all-encoded"),
        pytest.param(f"/é/{JWS}", "/é/(JWS removed)", id="beside-non-ascii"),
        pytest.param(f"/\ud800%00{JWS}", "(JWS removed)", id="beside-a-surrogate"),
        pytest.param("/" + "eyJ" + "a" * 5000 + ".b.c", "/(JWS removed)…", id="cut-in-its-header"),
        pytest.param("/" + "a" * 200 + "/" + JWS * 3, "/" + "a" * 200 + "/(JWS removed)…", id="cut-in-its-payload"),
        pytest.param("/%65yJ" + "a" * 5000 + ".b.c", "(JWS removed)", id="cut-and-encoded"),
        pytest.param("/eyJust.one-dot/x.tar.gz", "/eyJust.one-dot/x.tar.gz", id="no-jws"),
        pytest.param("/v1.2.3/100%/a%20b", "/v1.2.3/100%/a%20b", id="plain-with-dots-and-percent"),
    ],
)
def test_jws_is_removed(path: str, shown: str, tmp_path: Path) -> None:
    """Nothing of a JWS is on file, neither from the path nor from the method."""
    found = entry(tmp_path, a_record(path=path, method=path))
    assert (found["path"], found["method"]) == (shown, shown)


@given(st.text("/ab.%-", max_size=300), st.text("/ab.%-", max_size=300), st.sampled_from(["rsa", "ed25519", "p521"]))
def test_no_signature_is_left_anywhere(before: str, after: str, kind: material.KeyKind) -> None:
    """A real JWS in any surrounding, cut anywhere: not even ten characters of its signature are on file."""
    token = material.jws(material.private_key(kind), {"exp": 1})
    with tempfile.TemporaryDirectory() as folder:
        log = AuditLog(f"{folder}/log")
        log.record(a_record(path=f"{before}/{token}/{after}"))
        log.close()
        text = Path(folder, "log").read_text()
    signature = token.rpartition(".")[2]
    assert not any(signature[start : start + 10] in text for start in range(len(signature) - 10))


# Where it is written


def test_new_file_is_private(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask would give."""
    mask = os.umask(0)
    try:
        AuditLog(str(tmp_path / "log")).close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_file_is_continued(tmp_path: Path) -> None:
    """What is there stays; half a line that a killed process left does not spoil the next."""
    path = tmp_path / "log"
    path.write_bytes(b'{"old":1}\n{"half":')
    log = AuditLog(str(path))
    log.record(a_record(transaction_id="new"))
    log.record(a_record(transaction_id="next"))
    log.close()
    lines = path.read_bytes().splitlines()
    assert lines[:2] == [b'{"old":1}', b'{"half":']
    assert [json.loads(line)["transaction_id"] for line in lines[2:]] == ["new", "next"]


def test_line_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line of a worker that goes on writing is no reason for an empty one."""
    path = tmp_path / "log"
    path.write_bytes(b'{"other":')

    def meanwhile(_seconds: float) -> None:
        with path.open("ab") as other:
            other.write(b'1}\n{"next":2}\n')

    monkeypatch.setattr(audit.time, "sleep", meanwhile)
    log = AuditLog(str(path))
    log.record(a_record())
    log.close()
    assert [next(iter(found)) for found in written(path)] == ["other", "next", "time"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("missing/log", "No such file or directory", id="no-folder"),
        pytest.param(".", "Is a directory", id="folder"),
        pytest.param("pipe", "nothing reads from it", id="pipe-without-reader"),
        pytest.param("socket", "nothing reads from it", id="socket"),
        pytest.param("nul\0", "embedded null", id="nul"),
    ],
)
def test_cannot_be_opened(name: str, said: str, tmp_path: Path) -> None:
    """Told at once, without waiting, with what to do."""
    import socket

    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    with server, pytest.raises(Unfit) as caught:
        AuditLog(f"{tmp_path}/{name}")
    assert "cannot be written: " in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.remedy == "name a file that the gate may write, or - for standard output"
    assert str(caught.value).isprintable()


def test_disk_is_refused(tmp_path: Path) -> None:
    """A block device is never written to."""
    device = tmp_path / "disk"
    try:
        os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(7, 0))
        os.close(os.open(device, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        pytest.skip(f"no block device can be made and opened here: {error}")
    with pytest.raises(Unfit, match="it is a disk"):
        AuditLog(str(device))


# Faults


def test_full_disk() -> None:
    """/dev/full takes nothing, every time."""
    log = AuditLog("/dev/full")
    for _ in range(3):
        with pytest.raises(OSError, match="No space left") as caught:
            log.record(a_record())
        assert caught.value.errno == errno.ENOSPC
    log.close()


LIMITED = """
import json, resource, sys
from jwsgate.adapters.audit import AuditLog
from record_material import a_record
log = AuditLog(sys.argv[1])
outcomes = []
def attempt(name):
    try:
        log.record(a_record(transaction_id=name))
        outcomes.append(name)
    except OSError:
        outcomes.append(None)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
attempt("a")
resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
attempt("b")
attempt("c")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
attempt("d")
print(json.dumps(outcomes))
"""


def test_file_size_limit(tmp_path: Path) -> None:
    """A line that the kernel cut short raises and is taken back; when there is room again, lines follow on."""
    path = tmp_path / "log"
    done = run_python(LIMITED, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ["a", None, None, "d"]
    assert [found["transaction_id"] for found in written(path)] == ["a", "d"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    with small_disk(tmp_path / "small", "64k") as folder:
        yield folder


def test_really_full_disk(disk: Path) -> None:
    """Until the disk is full all is kept, then each raises, then all is kept again, and no line is broken."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(16384))
    path = disk / "log"
    log = AuditLog(str(path))
    kept, refused = [], 0
    for number in range(230):
        try:
            log.record(a_record(transaction_id=f"{number}"))
            kept.append(f"{number}")
        except OSError as error:
            assert error.errno == errno.ENOSPC
            refused += 1
        if number == 200:
            assert refused > 10
            ballast.unlink()
    log.close()
    assert kept[-1] == "229"
    assert [found["transaction_id"] for found in written(path)] == kept


def test_short_write_that_cannot_be_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another worker has written since, half a line stays, and the next line of ours begins on a line."""
    path = tmp_path / "log"
    log = AuditLog(str(path))
    real = os.write

    def short(descriptor: int, octets: bytes) -> int:
        count = real(descriptor, octets[:20])
        with path.open("ab") as other:
            other.write(b"of another\n")
        return count

    monkeypatch.setattr(audit.os, "write", short)
    with pytest.raises(OSError, match="20 of"):
        log.record(a_record())
    monkeypatch.undo()
    log.record(a_record(transaction_id="next"))
    log.record(a_record(transaction_id="last"))
    log.close()
    half, empty, *lines = path.read_bytes().split(b"\n")[:-1]
    assert (half[-10:], empty) == (b"of another", b"")
    assert [json.loads(line)["transaction_id"] for line in lines] == ["next", "last"]


def test_short_write_to_a_stream_is_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A terminal may take a part; the rest follows."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(str(pipe))
    real = os.write
    monkeypatch.setattr(audit.os, "write", lambda descriptor, octets: real(descriptor, octets[:100]))
    log.record(a_record(transaction_id="x"))
    log.close()
    assert json.loads(os.read(reader, 8192))["transaction_id"] == "x"
    os.close(reader)


def test_reader_that_does_not_keep_up(tmp_path: Path) -> None:
    """A full pipe is an OSError at once; when it is read, whole lines follow."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(str(pipe))
    kept = 0
    with pytest.raises(BlockingIOError):
        for _ in range(10_000):
            log.record(a_record())
            kept += 1
    octets = os.read(reader, 1 << 20)
    log.record(a_record())
    octets += os.read(reader, 1 << 20)
    log.close()
    os.close(reader)
    assert len([json.loads(line) for line in octets.splitlines()]) == kept + 1 > 10


def test_reader_that_has_gone(tmp_path: Path) -> None:
    """A broken pipe is an OSError, not the end of the process; a new reader gets lines again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(str(pipe))
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        log.record(a_record())
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log.record(a_record(transaction_id="again"))
    assert json.loads(os.read(reader, 8192))["transaction_id"] == "again"
    log.close()
    os.close(reader)


def test_closed() -> None:
    """After `close` nothing is written to whatever has the number now."""
    log = AuditLog("/dev/null")
    log.record(a_record())
    log.close()
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        log.record(a_record())


# Standard output

ON_STDOUT = """
import json, sys
from jwsgate.adapters.audit import AuditLog
from jwsgate.files.problems import Unfit
from record_material import a_record
try:
    log = AuditLog("-")
except Unfit as unfit:
    sys.exit(f"{unfit} ({unfit.remedy})")
log.reopen()
for number in range(3 if len(sys.argv) < 2 else int(sys.argv[1])):
    try:
        log.record(a_record(transaction_id=str(number)))
    except OSError as error:
        sys.stderr.write(type(error).__name__ + " ")
        sys.stdin.read(1)
"""


@contextlib.contextmanager
def on_stdout(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that writes records to its standard output."""
    command = python_command(ON_STDOUT, *arguments)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()  # one that waits must not keep the tests waiting


def test_standard_output() -> None:
    """A dash is standard output."""
    with on_stdout(stdout=subprocess.PIPE) as process:
        out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert [json.loads(line)["transaction_id"] for line in out.splitlines()] == ["0", "1", "2"]


def test_standard_output_whose_reader_has_gone() -> None:
    """Each record is an OSError; the process lives."""
    reading, writing = os.pipe()
    with on_stdout(stdout=writing) as process:
        os.close(writing)
        os.close(reading)
        _, error = process.communicate("xxx", timeout=60)
    assert (process.returncode, error) == (0, "BrokenPipeError BrokenPipeError BrokenPipeError ")


def test_standard_output_whose_reader_sleeps() -> None:
    """The gate does not wait for it, though the pipe is a blocking one; and it stays one for those who share it."""
    reading, writing = os.pipe()
    with on_stdout("2000", stdout=writing) as process:
        _, error = process.communicate("x" * 2000, timeout=60)
        assert os.get_blocking(writing)
        os.close(writing)
        octets = b""
        while more := os.read(reading, 65536):
            octets += more
        os.close(reading)
    assert process.returncode == 0
    assert set(error.split()) == {"BlockingIOError"}
    assert [json.loads(line)["transaction_id"] for line in octets.splitlines()] == [
        str(number) for number in range(octets.count(b"\n"))
    ]


def test_standard_output_that_is_closed() -> None:
    """Refused at start: its number may belong to a client's connection by now."""
    with on_stdout(preexec_fn=lambda: os.close(1)) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.splitlines() == [
        "the audit log cannot be written: standard output is closed "
        "(name a file that the gate may write, or - for standard output)"
    ]


# Rotation and several workers


def test_reopen(tmp_path: Path) -> None:
    """After logrotate moved the file, the next line is in a new one."""
    path, moved = tmp_path / "log", tmp_path / "log.1"
    log = AuditLog(str(path))
    log.record(a_record(transaction_id="before"))
    path.rename(moved)
    log.record(a_record(transaction_id="between"))
    log.reopen()
    log.record(a_record(transaction_id="after"))
    log.close()
    assert [found["transaction_id"] for found in written(moved)] == ["before", "between"]
    assert [found["transaction_id"] for found in written(path)] == ["after"]


def test_reopen_that_fails(tmp_path: Path) -> None:
    """It says so, and goes on with what it had."""
    folder, moved = tmp_path / "folder", tmp_path / "moved"
    folder.mkdir()
    log = AuditLog(str(folder / "log"))
    folder.rename(moved)
    descriptors = open_descriptors()
    with pytest.raises(Unfit, match=r"cannot be written: No such file or directory; the one opened before stays"):
        log.reopen()
    assert open_descriptors() == descriptors
    log.record(a_record(transaction_id="kept"))
    log.close()
    assert [found["transaction_id"] for found in written(moved / "log")] == ["kept"]


def test_reopen_leaks_no_descriptor(tmp_path: Path) -> None:
    """Rotation every second for years."""
    log = AuditLog(str(tmp_path / "log"))
    before = open_descriptors()
    for _ in range(50):
        log.reopen()
    assert open_descriptors() == before
    log.close()


WORKER = """
import json, sys
from jwsgate.adapters.audit import AuditLog
from record_material import a_record
log = AuditLog(sys.argv[1])
sys.stdin.read(1)
for number in range(2000):
    log.record(a_record(transaction_id=f"{sys.argv[2]}-{number}", path="/" + "x" * (number % 300)))
"""


def test_workers_share_a_file(tmp_path: Path) -> None:
    """Lines of several processes never mix, none is lost, and each process's are in order."""
    path = tmp_path / "log"
    workers = [subprocess.Popen(python_command(WORKER, path, name), stdin=subprocess.PIPE) for name in "abc"]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"x")
        worker.stdin.close()
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    found = [each["transaction_id"] for each in written(path)]
    for name in "abc":
        assert [each for each in found if each[0] == name] == [f"{name}-{number}" for number in range(2000)]
    assert len(found) == 6000
