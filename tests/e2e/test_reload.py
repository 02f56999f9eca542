"""Changed files while the gate runs: taken up when they are good, and never a wrong decision until then."""

from __future__ import annotations

import json
import os
import random
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.estate import write_files
from e2e.gates import Door, Gate
from e2e.http_client import Connection, H2Connection, Header, exchange, request_octets
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e

KEYS = {name: material.private_key("p256", name) for name in ("stays", "goes", "comes", "disabled", "suspended")}
POLICY = "routes: [{path: /**}]\n"


def application(name: str, **fields: str) -> material.Application:
    """An application whose client ID is its name."""
    return material.Application(name, (name,), material.certificate(KEYS[name], name), fields=fields)


DISABLED = material.Application("disabled", ("disabled",), material.certificate(KEYS["disabled"]), "disabled")
BEFORE = material.portal_yaml([application("stays"), application("goes"), DISABLED])
AFTER = material.portal_yaml([application("stays"), application("comes"), DISABLED])
ALLOWED_BEFORE, ALLOWED_AFTER = {"stays", "goes"}, {"stays", "comes"}


def allowed(port: int) -> set[str]:
    """The clients that the gate lets pass just now."""
    passed = set()
    for name, key in KEYS.items():
        headers: list[Header] = [("X-IBM-Client-Id", name), ("jwt", material.jws(key))]
        if exchange(port, "GET", f"/{name}", headers).status == 200:
            passed.add(name)
    return passed


@contextmanager
def serving(
    door: Door,
    home: Path,
    upstream: RecordingUpstream,
    folder: Path,
    portal: Path,
    *options: str,
    arguments: Sequence[str] = (),
) -> Iterator[Gate]:
    """A gate with a portal and a policy that lets every good JWS pass."""
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    with gates.running(
        lambda port: gates.command(
            door, upstream=upstream.url, port=port, portal=portal, policy=policy, options=options, arguments=arguments
        ),
        env=gates.environment(home),
        directory=folder,
        name=door,
    ) as gate:
        yield gate
        assert gate.process.poll() is None
    assert "Traceback" not in gate.log()


def replace(path: Path, text: str) -> None:
    """As careful programs write."""
    new = path.with_name(".new")
    new.write_text(text)
    new.replace(path)


def write_over(path: Path, text: str) -> None:
    """As most programs write."""
    path.write_text(text)


@pytest.mark.parametrize("write", [replace, write_over])
def test_changed_file(
    door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    """However it was written, it is in force soon, with one line that says what is different."""
    portal = tmp_path / "portal.yaml"
    portal.write_text(BEFORE)
    with serving(door, home, upstream, tmp_path, portal) as gate:
        assert allowed(gate.port) == ALLOWED_BEFORE
        write(portal, AFTER)
        gate.wait_for_log("1 added (comes), 1 removed (goes)")
        assert allowed(gate.port) == ALLOWED_AFTER
        write(portal, AFTER.replace("state: enabled", "state: disabled", 1))
        gate.wait_for_log("1 changed (stays)")
        assert allowed(gate.port) == {"comes"}
        # Comments change nothing that anybody needs to hear of.
        write(portal, "# hello\n" + AFTER)
        gate.wait_for_log("1 changed (stays)", count=2)
        assert allowed(gate.port) == ALLOWED_AFTER


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_request_that_arrives_while_its_application_is_disabled(
    door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path, http2: bool
) -> None:
    """What was good when its headers came is refused when the portal has changed before its end."""
    portal = tmp_path / "portal.yaml"
    portal.write_text(BEFORE)
    name = "goes"
    headers: list[Header] = [("x-ibm-client-id", name), ("jwt", material.jws(KEYS[name])), ("content-length", "10")]
    with serving(door, home, upstream, tmp_path, portal) as gate:
        if http2:
            with H2Connection(gate.port) as connection:
                stream = connection.start("POST", "/goes", headers)
                connection.send(stream, b"123")
                time.sleep(0.3)  # it has arrived, and nothing tells so
                replace(portal, AFTER)
                gate.wait_for_log("1 removed (goes)")
                connection.send(stream, b"4567890", ends=True)
                status = connection.read(stream).status
        else:
            with Connection(gate.port) as connection:
                connection.send(request_octets("POST", "/goes", headers) + b"123")
                time.sleep(0.3)
                replace(portal, AFTER)
                gate.wait_for_log("1 removed (goes)")
                connection.send(b"4567890")
                status = connection.read().status
        assert status == 401
        upstream.assert_untouched()


def test_config_map(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Kubernetes changes a hidden link, and the file's own link stays as it is; a folder of exports likewise."""
    mount = tmp_path / "mount"
    for name, text in (("..1", BEFORE), ("..2", AFTER)):
        (mount / name).mkdir(parents=True)
        (mount / name / "portal.yaml").write_text(text)
    (mount / "..data").symlink_to("..1")
    (mount / "portal.yaml").symlink_to("..data/portal.yaml")
    for portal in (mount, mount / "portal.yaml"):
        with serving(door, home, upstream, tmp_path, portal) as gate:
            before = allowed(gate.port)
            target = "..2" if before == ALLOWED_BEFORE else "..1"
            (mount / "..data_tmp").symlink_to(target)
            (mount / "..data_tmp").replace(mount / "..data")
            gate.wait_for_log("1 added")
            assert allowed(gate.port) == (ALLOWED_AFTER if target == "..2" else ALLOWED_BEFORE)


def test_folder(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Files that come into a folder, or go from it, count; so does a certificate that a file refers to."""
    portal = tmp_path / "portal"
    portal.mkdir()
    (portal / "a.yaml").write_text(material.portal_yaml([application("stays")]))
    with serving(door, home, upstream, tmp_path, portal) as gate:
        assert allowed(gate.port) == {"stays"}
        more = portal / "org" / "b.json"
        more.parent.mkdir()
        more.write_text(
            json.dumps([{"title": "comes", "client_id": "comes", "application_public_certificate_file": "c.pem"}])
        )
        gate.wait_for_log("names 'c.pem', which does not exist")
        assert allowed(gate.port) == {"stays"}
        (more.parent / "c.pem").write_text(material.certificate(KEYS["goes"]))
        gate.wait_for_log("1 added (comes)")
        assert allowed(gate.port) == {"stays"}, "the key is another one's"
        (more.parent / "c.pem").write_text(material.certificate(KEYS["comes"]))
        gate.wait_for_log("1 changed (comes)")
        assert allowed(gate.port) == ALLOWED_AFTER
        more.unlink()
        gate.wait_for_log("1 removed (comes)")
        assert allowed(gate.port) == {"stays"}


def test_policy(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Policies are watched as well."""
    portal = tmp_path / "portal.yaml"
    portal.write_text(BEFORE)
    with serving(door, home, upstream, tmp_path, portal) as gate:
        assert allowed(gate.port) == ALLOWED_BEFORE
        replace(tmp_path / "policy.yaml", "routes: [{path: /goes}]\n")
        gate.wait_for_log("no application changed")
        assert allowed(gate.port) == {"goes"}


BAD = {
    "syntax": "results: [",
    "empty": "",
    "no-export": "routes: []\n",
    "bad-state": AFTER.replace("state: enabled", "state: on", 1),
    "bad-certificate": AFTER.replace("BEGIN CERTIFICATE", "BEGIN PUBLIC KEY", 1),
    "bomb": "[" * 100_000,
    "bomb-large": "\n" + "[" * 1_000_000,
    "not-utf-8": "\udcff",
}


def test_bad_files_change_nothing(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The last good state stays, and the log says why; once mended, the file is taken up."""
    portal = tmp_path / "portal.yaml"
    portal.write_text(BEFORE)
    with serving(door, home, upstream, tmp_path, portal) as gate:
        for count, text in enumerate(BAD.values(), 1):
            new = tmp_path / ".new"
            new.write_bytes(text.encode("utf-8", "surrogateescape"))
            new.replace(portal)
            gate.wait_for_log("not reloaded, revision", count)
            assert allowed(gate.port) == ALLOWED_BEFORE
        portal.unlink()
        gate.wait_for_log("does not exist (check the path)")
        assert allowed(gate.port) == ALLOWED_BEFORE
        portal.write_text(AFTER)
        gate.wait_for_log("1 added (comes), 1 removed (goes)")
        assert allowed(gate.port) == ALLOWED_AFTER


def large(*named: str) -> str:
    """An export that is read in a process of its own: many applications, and those named."""
    crowd = [material.Application(f"app-{number}", (f"id-{number}",), "") for number in range(2000)]
    return material.portal_yaml([*crowd, *map(application, named), DISABLED])


def test_large_file(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The same for files that are read in a process of its own, with a signing key in the policy; a fault of that
    process is one line of the log."""
    policy = "routes:\n  - path: /**\n  - {path: /sign, sign: {key: demo-client.key, issuer: i, audience: a}}\n"
    files = write_files(tmp_path, large("stays", "goes"), policy)
    with gates.running(
        lambda port: gates.command(door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy),
        env=gates.environment(home),
        directory=tmp_path,
        name=door,
    ) as gate:
        assert allowed(gate.port) == ALLOWED_BEFORE
        replace(files.portal, large("stays", "comes"))
        gate.wait_for_log("1 added (comes), 1 removed (goes)", seconds=30)
        assert allowed(gate.port) == ALLOWED_AFTER
        signed = exchange(gate.port, "POST", "/sign", [("X-IBM-Client-Id", "stays")], b"{}")
        assert signed.body.count(b".") == 2
        replace(files.portal, large("stays", "comes").replace("state: enabled", "state: on", 1))
        gate.wait_for_log("is not one of the known values", seconds=30)
        assert allowed(gate.port) == ALLOWED_AFTER


def test_not_watched(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Without watching, files are read when SIGHUP asks for it."""
    portal = tmp_path / "portal.yaml"
    portal.write_text(BEFORE)
    with serving("jwsgate run", home, upstream, tmp_path, portal, "jwsgate_watch=false") as gate:
        replace(portal, AFTER)
        time.sleep(1)
        assert allowed(gate.port) == ALLOWED_BEFORE
        gate.process.send_signal(signal.SIGHUP)
        gate.wait_for_log("1 added (comes), 1 removed (goes)")
        assert allowed(gate.port) == ALLOWED_AFTER


def late(name: str, *limits: str) -> str:
    """An application whose limits stand at its end, where a cut takes them off first."""
    pem = textwrap.indent(material.certificate(KEYS[name], name), " " * 6)
    head = f"  - name: {name}\n    client_id: {name}\n    application_public_certificate_entry: |\n{pem}"
    return head + "".join(f"    {limit}\n" for limit in limits)


STAYS = "results:\n" + late("stays")
OUT_OF_TIME = "application_public_certificate_not_after: 2020-01-01"
OTHERS = "application_jws_algorithms: [PS256]"
CUT = {
    "state of all": "results:\n" + late("stays", "state: enabled") + late("goes", "state: disabled"),
    "state of the last": STAYS + late("goes", "state: disabled"),
    "is_suspended of the last": STAYS + late("suspended", "state: enabled", "is_suspended: true"),
    "window": STAYS + late("goes", OUT_OF_TIME),
    "algorithms": STAYS + late("goes", OTHERS),
    "one application": late("goes", "state: disabled"),
    "no line break": (STAYS + late("goes", "state: disabled")).rstrip("\n"),
}
CUT["one application"] = textwrap.dedent(CUT["one application"].replace("  - ", "    ", 1))


def test_cut_at_two_hundred_places(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Wherever a file is cut, nobody gets in who may not by the whole one; and a complete one works again."""
    chance = random.Random(5)
    portal = tmp_path / "portal.yaml"
    portal.write_text(CUT["state of all"])
    with serving("jwsgate run", home, upstream, tmp_path, portal, "jwsgate_watch=false") as gate:
        count = 0

        def reload() -> set[str]:
            nonlocal count
            count += 1
            gate.process.send_signal(signal.SIGHUP)
            gate.wait_for_log("reloaded, revision", count)
            return allowed(gate.port)

        refused = 0
        for name, whole in CUT.items():
            octets = whole.encode()
            lines = octets.splitlines(keepends=True)
            # Before and behind each of the last line breaks, and anywhere.
            ends = [sum(map(len, lines[:number])) for number in range(len(lines) - 3, len(lines))]
            places = {*ends, *(end - 1 for end in ends), *chance.sample(range(len(octets)), 24)}
            for length in places:
                portal.write_bytes(octets)
                before = reload()
                assert before <= {"stays"}, name
                os.truncate(portal, length)
                passed = reload()
                assert passed <= before, (name, length, passed)
                if "not reloaded" in [line for line in gate.log().splitlines() if "reloaded, revision" in line][-1]:
                    assert passed == before, (name, length)
                    refused += 1
            portal.write_bytes(octets)
            assert reload() == before
        assert count // 2 >= 200
        assert count // 3 < refused < count // 2
        assert not any(b"goes" in request.target or b"suspended" in request.target for request in upstream.requests)


@pytest.mark.parametrize("name", ["state of the last", "no line break"])
def test_truncated_under_watch(home: Path, upstream: RecordingUpstream, tmp_path: Path, name: str) -> None:
    """The disabled application stays so; the log says what to do, and the metrics that it was refused."""
    portal = tmp_path / "portal.yaml"
    portal.write_text(CUT[name])
    admin = gates.free_port()
    with serving("jwsgate run", home, upstream, tmp_path, portal, arguments=("--admin", f"127.0.0.1:{admin}")) as gate:

        def refused() -> float:
            text = exchange(admin, "GET", "/metrics", [("Host", "localhost")]).body.decode()
            (line,) = (line for line in text.splitlines() if line.startswith('jwsgate_reloads_total{result="refused"}'))
            return float(line.rpartition(" ")[2])

        assert refused() == 0
        assert allowed(gate.port) == {"stays"}
        os.truncate(portal, CUT[name].rindex("    state: disabled"))
        gate.wait_for_log("has no state any more, and would be enabled")
        assert "complete the file, or write state: here" in gate.log()
        assert allowed(gate.port) == {"stays"}
        assert refused() == 1
        replace(portal, STAYS + late("goes", "state: enabled"))
        gate.wait_for_log("1 changed (goes)")
        assert allowed(gate.port) == {"stays", "goes"}


def test_started_with_what_may_be_cut(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """There is nothing to hold it against, so that it is told of and used."""
    portal = tmp_path / "portal.yaml"
    portal.write_text("results:\n" + late("stays", "state: enabled") + late("goes"))
    with serving("jwsgate run", home, upstream, tmp_path, portal) as gate:
        assert "portal-cut-short" in gate.log()
        assert "results[1]: has no state, which all others have: the file may have been cut short" in gate.log()


def test_started_while_the_file_is_written(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """What comes within a moment belongs to it."""
    portal = tmp_path / "portal.yaml"
    whole = CUT["state of the last"]
    length = whole.rindex("    state: disabled")

    def start(port: int) -> list[str]:
        file = portal.open("w")
        file.write(whole[:length])
        file.flush()

        def finish() -> None:
            while time.monotonic() < deadline and not list(tmp_path.glob("0-*/std*")):
                time.sleep(0.05)
            time.sleep(1.5)
            file.write(whole[length:])
            file.close()

        deadline = time.monotonic() + 30
        threading.Thread(target=finish).start()
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY)
        return gates.command("jwsgate run", upstream=upstream.url, port=port, portal=portal, policy=policy)

    with gates.running(start, env=gates.environment(home), directory=tmp_path, name="jwsgate run") as gate:
        assert allowed(gate.port) == {"stays"}


def test_held_open(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Who forgot to close the file holds up nothing for long, and gets nothing doubtful in; it is told of once."""
    portal = tmp_path / "portal.yaml"
    now = STAYS + late("goes", "state: enabled")
    portal.write_text(now)
    told = "is still open for writing somewhere"
    with serving("jwsgate run", home, upstream, tmp_path, portal) as gate:
        assert allowed(gate.port) == {"stays", "goes"}
        with portal.open("a"):
            write_over(portal, now.replace("state: enabled", "state: disabled"))
            gate.wait_for_log("1 changed (goes)")
            assert allowed(gate.port) == {"stays"}
            write_over(portal, now)
            gate.wait_for_log("1 changed (goes)", count=2)
            assert allowed(gate.port) == {"stays", "goes"}
            # A missing line break is nothing to go by while somebody may be going to write more.
            write_over(portal, (STAYS + late("goes", "state: disabled")).rstrip("\n"))
            gate.wait_for_log("ends in the middle of a line")
            assert allowed(gate.port) == {"stays", "goes"}
        assert gate.log().count(told) == 1


def test_refused_while_held_open(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """What was refused only because of a writer is read again when that one is gone."""
    portal = tmp_path / "portal.yaml"
    now = (STAYS + late("goes", "state: enabled")).rstrip("\n")
    portal.write_text(now)
    with serving("jwsgate run", home, upstream, tmp_path, portal) as gate:
        with portal.open("a"):
            write_over(portal, now.replace("state: enabled", "state: disabled"))
            gate.wait_for_log("ends in the middle of a line", count=2)  # the first time at the start
            assert allowed(gate.port) == {"stays", "goes"}
        gate.wait_for_log("1 changed (goes)")
        assert allowed(gate.port) == {"stays"}


@pytest.mark.parametrize("write", [replace, write_over])
def test_the_same_jws_before_and_after(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    """One and the same request is answered otherwise soon after the change, though its JWS was verified before."""
    portal = tmp_path / "portal.yaml"
    now = STAYS + late("goes", "state: enabled")
    portal.write_text(now)
    with serving("jwsgate run", home, upstream, tmp_path, portal) as gate:
        headers: list[Header] = [("X-IBM-Client-Id", "goes"), ("jwt", material.jws(KEYS["goes"]))]
        for state, status in (("disabled", 401), ("enabled", 200), ("pending", 401)):
            former = exchange(gate.port, "GET", "/", headers).status
            assert former == {401: 200, 200: 401}[status]
            write(portal, now.replace("state: enabled", f"state: {state}"))
            changed = time.monotonic()
            while (found := exchange(gate.port, "GET", "/", headers).status) == former:
                # Within a second; the rest is for a machine that is busy with other things.
                assert time.monotonic() - changed < 5
                time.sleep(0.02)
            assert found == status


@pytest.mark.parametrize("total", [True, False], ids=["with-total", "without-total"])
def test_written_slowly(home: Path, upstream: RecordingUpstream, tmp_path: Path, total: bool) -> None:
    """While a file is being written, every decision is by the old state; then by the new one; never by a part."""
    portal = tmp_path / "portal.yaml"
    portal.write_text(BEFORE)
    new = AFTER if total else AFTER.partition("\n")[2]
    with serving("jwsgate run", home, upstream, tmp_path, portal) as gate:
        seen: list[set[str]] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                seen.append(allowed(gate.port))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            with portal.open("w") as file:
                for line in new.splitlines(keepends=True):
                    file.write(line)
                    file.flush()
                    time.sleep(0.06)
                time.sleep(1)
                held = len(seen)
            gate.wait_for_log("1 added (comes), 1 removed (goes)")
            time.sleep(0.3)
        finally:
            done.set()
            asking.join()
        assert held > 10
        # A decision of `allowed` is a handful of requests, between which the new state may come into force.
        assert all(passed == ALLOWED_BEFORE for passed in seen[:held])
        assert seen[-1] == ALLOWED_AFTER
        assert all(passed - {"stays"} <= {"goes", "comes"} and "stays" in passed for passed in seen)
