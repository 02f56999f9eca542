"""`jwsgate portal`: looking into exports, and registering and retiring certificates in place."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import material
from jwsgate import cli
from jwsgate.core.portal import Application
from jwsgate.files import portal_edit
from jwsgate.files.loading import load_snapshot
from unit_material import der_of

OLD, NEXT, THIRD = (material.certificate(material.private_key("p256", label)) for label in ("old", "next", "third"))
EXPIRED = material.certificate(material.private_key("p256", "gone"), from_days=-9, to_days=-1)
DAY = 86400


def thumbprint(pem: str) -> str:
    """SHA-256 over the DER."""
    return hashlib.sha256(der_of(pem)).hexdigest()


def indented(pem: str, by: int) -> str:
    """PEM as the lines of a block scalar."""
    return "".join(f"{' ' * by}{line}\n" for line in pem.splitlines())


EXPORT = f"""\
# The customers of the orders API.
total_results: 3
results:
  # Orders: since 2018
  - type: app
    title: Orders   # by hand
    name: orders
    application_public_certificate_entry: |
{indented(OLD, 6)}    # its credentials
    credentials:
      - client_id: one
        title: first   # kept

  # Stock has a list
  - name: stock
    client_id: two
    application_public_certificates:
      # the first
      - entry: |
{indented(OLD, 10)}      # the second
      - file: third.crt
        not_after: 2090-01-01
      # the end of the list
    state: enabled

  - application_public_certificate_entry: ""
    name: bare
    client_id: "0123"
# the end
"""


@pytest.fixture
def portal(tmp_path: Path) -> Path:
    """An export with comments, and a certificate to register."""
    path = tmp_path / "portal.yaml"
    path.write_text(EXPORT)
    (tmp_path / "third.crt").write_text(THIRD)
    (tmp_path / "next.pem").write_text(NEXT)
    return path


def run(command: str, portal: Path, *arguments: object) -> Result:
    """`jwsgate portal …` in this process."""
    return CliRunner().invoke(cli.main, ["portal", command, "--portal", str(portal), *map(str, arguments)])


def application(portal: Path, client_id: str) -> Application:
    """What the gate makes of the export."""
    policy = portal.parent.parent / "policy.yaml"
    policy.write_text("routes: [{path: /**}]\n")
    found = load_snapshot(portal, [policy], time.time()).portal.find(client_id.encode())
    assert found is not None
    return found[1]


def windows(portal: Path, client_id: str) -> dict[str, float]:
    """The end of use of each certificate of an application, in days from now."""
    return {
        certificate.thumbprint: round((certificate.not_after - time.time()) / DAY)
        for certificate in application(portal, client_id).certificates
    }


def is_subsequence(short: list[str], long: list[str]) -> bool:
    """Whether all lines of one text are in the other, in the same order."""
    rest = iter(long)
    return all(line in rest for line in short)


@pytest.mark.parametrize(
    ("client_id", "before"),
    [
        pytest.param("one", {thumbprint(OLD): 365}, id="entry"),
        pytest.param("two", {thumbprint(OLD): 365, thumbprint(THIRD): 365}, id="list"),
        pytest.param("0123", {}, id="none"),
    ],
)
@pytest.mark.parametrize("breaks", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_register(portal: Path, client_id: str, before: dict[str, float], breaks: str) -> None:
    """The new certificate stands beside the old ones; every line that was there is there still, in its order."""
    portal.write_bytes(EXPORT.replace("\n", breaks).encode())
    result = run("register", portal, client_id, portal.parent / "next.pem")
    assert (result.exit_code, result.output.split(" for ")[0]) == (0, f"registered {thumbprint(NEXT)}")
    assert windows(portal, client_id) == {**before, thumbprint(NEXT): 365}
    after = portal.read_bytes().decode()
    assert is_subsequence(EXPORT.split("\n"), after.replace("\r\n", "\n").split("\n"))
    assert after.count("\n") == after.count(breaks)
    for other in {"one", "two", "0123"} - {client_id}:
        assert thumbprint(NEXT) not in windows(portal, other)


@pytest.mark.parametrize("client_id", ["one", "two"])
def test_overlap_ends_the_former_certificates(portal: Path, client_id: str) -> None:
    """With an overlap the former certificates serve so long and no longer, and lines of the file only come in."""
    result = run("register", portal, client_id, portal.parent / "next.pem", "--overlap", "14d")
    assert result.exit_code == 0, result.output
    expected = {thumbprint(OLD): 14, thumbprint(NEXT): 365} | ({thumbprint(THIRD): 14} if client_id == "two" else {})
    assert windows(portal, client_id) == expected
    lines = [line for line in EXPORT.split("\n") if client_id == "one" or "2090" not in line]
    assert is_subsequence(lines, portal.read_text().split("\n"))


def test_a_shorter_end_is_kept(portal: Path) -> None:
    """An overlap never lets a certificate be used for longer than was said before."""
    assert run("register", portal, "one", portal.parent / "next.pem", "--overlap", "2d").exit_code == 0
    (portal.parent / "last.pem").write_text(THIRD)
    assert run("register", portal, "one", portal.parent / "last.pem", "--overlap", "30d").exit_code == 0
    assert windows(portal, "one") == {thumbprint(OLD): 2, thumbprint(NEXT): 30, thumbprint(THIRD): 365}


def test_an_overlap_leaves_no_gap(portal: Path) -> None:
    """The former certificates are not ended before the next one is valid; when they would be, nothing is done."""
    later = material.certificate(material.private_key("p256", "later"), from_days=30)
    (portal.parent / "later.pem").write_text(later)
    result = run("register", portal, "one", portal.parent / "later.pem", "--overlap", "14d")
    assert (result.exit_code, portal.read_text()) == (1, EXPORT)
    assert "the former ones would not be used after" in result.output
    assert "say --overlap 30d or more, or leave it out" in result.output
    assert run("register", portal, "one", portal.parent / "later.pem", "--overlap", "31d").exit_code == 0
    assert windows(portal, "one") == {thumbprint(OLD): 31, thumbprint(later): 365}
    # Where nothing is ended there is nothing to overlap.
    assert run("register", portal, "0123", portal.parent / "later.pem", "--overlap", "1d").exit_code == 0


def test_a_certificate_of_another_application_is_told(portal: Path) -> None:
    """It is registered all the same."""
    (portal.parent / "old.pem").write_text(OLD)
    result = run("register", portal, "0123", portal.parent / "old.pem")
    assert result.exit_code == 0
    assert re.search("note: .+ has it too: each can sign for the other", result.output)
    assert "note:" not in run("register", portal, "0123", portal.parent / "next.pem").output


def test_retiring_the_last_usable_certificate_is_told(portal: Path) -> None:
    """One that is not valid yet does not help now."""
    later = material.certificate(material.private_key("p256", "later"), from_days=30)
    (portal.parent / "later.pem").write_text(later)
    assert "note:" not in run("register", portal, "one", portal.parent / "later.pem").output
    result = run("retire", portal, "one", thumbprint(OLD))
    assert "note: that was the last one that can be used now" in result.output
    assert "note:" not in run("retire", portal, "one", thumbprint(later)).output


def test_whole_rotation(portal: Path) -> None:
    """Register the next, retire the old: the certificate is another one, the comments are those of before."""
    for client_id in ("one", "two"):
        assert run("register", portal, client_id, portal.parent / "next.pem").exit_code == 0
        result = run("retire", portal, client_id, thumbprint(OLD)[:12].upper())
        assert result.exit_code == 0, result.output
    assert windows(portal, "one").keys() == {thumbprint(NEXT)}
    assert windows(portal, "two").keys() == {thumbprint(THIRD), thumbprint(NEXT)}
    comments = re.findall("#.*", EXPORT)
    assert re.findall("#.*", portal.read_text()) == comments


def test_retire_the_last_of_a_list(portal: Path) -> None:
    """A list that would be empty goes with its last item."""
    for pem in (OLD, THIRD):
        result = run("retire", portal, "two", thumbprint(pem))
        assert result.exit_code == 0, result.output
    assert application(portal, "two").certificates == ()


def test_first_key_of_an_application(portal: Path) -> None:
    """An application may begin with the certificate that goes."""
    text = EXPORT.replace(
        'application_public_certificate_entry: ""\n', f"application_public_certificate_entry: |\n{indented(NEXT, 6)}"
    )
    portal.write_text(text)
    result = run("retire", portal, "0123", thumbprint(NEXT))
    assert result.exit_code == 0, result.output
    assert application(portal, "0123").certificates == ()
    assert portal.read_text().endswith('\n  - name: bare\n    client_id: "0123"\n# the end\n')


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_json(tmp_path: Path, indent: int | None) -> None:
    """JSON is edited too; order, indentation and all other values stay."""
    folder = tmp_path / "portal"
    folder.mkdir()
    path = folder / "apps.json"
    data: dict[str, Any] = {
        "results": [
            {"name": "é", "n": 1, "client_id": "one", "application_public_certificate_entry": OLD, "z": None},
            {"name": "b", "client_id": "two"},
        ],
        "total_results": 2,
    }
    path.write_text(json.dumps(data, indent=indent, ensure_ascii=False) + "\n")
    (tmp_path / "next.pem").write_text(NEXT)
    assert run("register", folder, "é", tmp_path / "next.pem", "--overlap", "3d").exit_code == 0
    assert windows(folder, "one") == {thumbprint(OLD): 3, thumbprint(NEXT): 365}
    assert run("retire", folder, "one", thumbprint(OLD)).exit_code == 0
    del data["results"][0]["application_public_certificate_entry"]
    after = json.loads(path.read_text())
    added = after["results"][0].pop("application_public_certificates")
    after["results"][0].pop("application_public_certificate_not_after")
    assert added == [{"entry": NEXT}]
    assert after == data
    assert list(after["results"][0]) == ["name", "n", "client_id", "z"]
    assert ("\n" + " " * (indent or 0) + '"results"' in path.read_text()) is (indent is not None)


def test_numbers_of_json_keep_their_text(tmp_path: Path) -> None:
    """1.50 is not 1.5 to everybody."""
    path = tmp_path / "portal.json"
    numbers = '"a": 1.50, "b": 1E5, "c": -0, "d": [0.10, 12345678901234567890], "e": "1.50"'
    path.write_text(f'[{{"client_id": "one", {numbers}}}]')
    (tmp_path / "next.pem").write_text(NEXT)
    assert run("register", path, "one", tmp_path / "next.pem").exit_code == 0
    assert numbers in path.read_text()


REFUSED: list[Any] = [
    pytest.param("register", ["nobody", "next.pem"], "no application has the client ID, name or title", id="who"),
    pytest.param("register", ["one", "old.pem"], "the certificate is registered already", id="again"),
    pytest.param("register", ["one", "expired.pem"], "the certificate has expired", id="expired"),
    pytest.param("register", ["one", "key.pem"], "the certificate holds a private key", id="key"),
    pytest.param("register", ["one", "garbage.pem"], "the certificate is not an X.509 certificate", id="garbage"),
    pytest.param("register", ["one", "next.pem", "--overlap", "soon"], "write a number of days", id="overlap"),
    pytest.param("retire", ["one", "ffff"], "none of its certificates has a thumbprint", id="thumbprint"),
    pytest.param("retire", ["one", ""], "none of its certificates has a thumbprint", id="no-thumbprint"),
    pytest.param("show", ["nobody"], "no application has the client ID", id="show"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), REFUSED)
def test_refused(
    portal: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: list[str], message: str
) -> None:
    """What cannot be done is told in a line, and the file is as it was."""
    monkeypatch.chdir(portal.parent)
    for name, text in {
        "old.pem": OLD,
        "expired.pem": EXPIRED,
        "key.pem": material.private_pem(material.private_key("p256")),
        "garbage.pem": "cert23456",
    }.items():
        Path(name).write_text(text)
    result = run(command, portal, *arguments)
    assert result.exit_code in {1, 2}
    assert message in result.output
    assert "Traceback" not in result.output
    assert portal.read_text() == EXPORT


def test_an_export_with_problems_is_not_edited(portal: Path) -> None:
    """What is wrong already is told, and mended first."""
    portal.write_text(EXPORT.replace("state: enabled", "state: on"))
    result = run("register", portal, "one", portal.parent / "next.pem")
    assert result.exit_code == 1
    assert "portal.yaml:" in result.output
    assert "is not one of the known values" in result.output


def test_flow_style_is_left_alone(portal: Path) -> None:
    """What has no lines of its own cannot be edited by lines."""
    text = "results:\n  - {name: a, client_id: one}\n"
    portal.write_text(text)
    result = run("register", portal, "one", portal.parent / "next.pem")
    assert (result.exit_code, portal.read_text()) == (1, text)
    assert "is written in braces" in result.output


def test_written_at_once(portal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced, not written over; its rights stay, nothing is left behind, also when it fails."""
    portal.chmod(0o640)
    before = portal.stat().st_ino
    assert run("register", portal, "one", portal.parent / "next.pem").exit_code == 0
    assert portal.stat().st_ino != before
    assert portal.stat().st_mode & 0o777 == 0o640
    names = sorted(path.name for path in portal.parent.iterdir())
    text = portal.read_text()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device", "portal.yaml")

    monkeypatch.setattr(os, "fsync", full)
    result = run("retire", portal, "one", thumbprint(OLD))
    assert (result.exit_code, result.output) == (1, "Error: portal.yaml: No space left on device\n")
    assert portal.read_text() == text
    assert sorted(path.name for path in portal.parent.iterdir()) == names


def test_a_file_changed_meanwhile_is_not_overwritten(portal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's change is not lost."""
    verify = portal_edit._verify

    def somebody_else(*arguments: Any) -> None:
        verify(*arguments)
        portal.write_text(EXPORT + "# more\n")

    monkeypatch.setattr(portal_edit, "_verify", somebody_else)
    result = run("register", portal, "one", portal.parent / "next.pem")
    assert result.exit_code == 1
    assert "was changed meanwhile" in result.output
    assert portal.read_text() == EXPORT + "# more\n"


def test_behind_a_link(portal: Path) -> None:
    """A link stays a link; the file behind it is edited."""
    real = portal.parent / "real.yaml"
    portal.rename(real)
    portal.symlink_to("real.yaml")
    assert run("register", portal, "one", portal.parent / "next.pem").exit_code == 0
    assert portal.is_symlink()
    assert "next.pem" not in real.read_text()
    assert thumbprint(NEXT) in windows(portal, "one")


# Looking


def test_list(portal: Path) -> None:
    """A line for each application, client ID and certificate."""
    result = run("list", portal)
    assert result.exit_code == 0
    head, *lines = [re.split(r"  +", line) for line in result.output.splitlines()]
    assert head == ["application", "state", "organization", "client ID", "thumbprint", "days left"]
    assert lines == [
        ["Orders", "enabled", "one", thumbprint(OLD)[:16], "364"],
        ["stock", "enabled", "two", thumbprint(OLD)[:16], "364"],
        ["", thumbprint(THIRD)[:16], "364"],
        ["bare", "enabled", "0123", "none"],
    ]
    data = json.loads(run("list", portal, "--format", "json").output)
    assert [one["client_ids"] for one in data] == [["one"], ["two"], ["0123"]]


def test_show(portal: Path) -> None:
    """Where it stands and all that is read of it."""
    data = json.loads(run("show", portal, "two").output)
    assert data["at"] == f"{portal}:{EXPORT[: EXPORT.index('name: stock')].count(chr(10)) + 1}:5: results[1]"
    assert [one["thumbprint"] for one in data["certificates"]] == [thumbprint(OLD), thumbprint(THIRD)]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "enabled"),
        ({"state": "disabled"}, "disabled"),
        ({"state": "pending"}, "pending"),
        ({"is_suspended": True}, "suspended"),
        ({"state": "pending", "is_suspended": True}, "pending, suspended"),
    ],
)
def test_states_are_told_apart(tmp_path: Path, fields: dict[str, Any], state: str) -> None:
    """By the table, as data, and when they change; so are the fields that the gate does not read."""
    told = {"lifecycle_state": "production", "metadata": {"owner": "team"}}
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps([{"name": "a", "client_id": "one"}]))
    after.write_text(json.dumps([{"name": "a", "client_id": "one"} | fields | told]))
    assert re.split(" {2,}", run("list", after).output.splitlines()[1])[1] == state
    for data in (
        json.loads(run("list", after, "--format", "json").output)[0],
        json.loads(run("show", after, "a").output),
    ):
        assert data["enabled"] is (state == "enabled")
        assert (data["state"], {key: data[key] for key in told}) == (state, told)
    expected = "~ a: " + (f"{state}; " if fields else "")
    result = diff(before, after)
    assert result.output == expected + "lifecycle_state None -> 'production'; metadata None -> {'owner': 'team'}\n"
    assert result.exit_code == 1


def test_a_changed_name_is_told(tmp_path: Path) -> None:
    """A policy may go by it."""
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    before.write_text("[{name: a, title: A, client_id: one}, {client_id: two}]")
    after.write_text("[{name: b, title: A, client_id: one}]")
    assert diff(before, after).output.splitlines() == ["- (unnamed) (two)", "~ A: name 'a' -> 'b'"]


def diff(*paths: Path) -> Result:
    """`jwsgate portal diff`."""
    return CliRunner().invoke(cli.main, ["portal", "diff", *map(str, paths)])


def test_diff_is_by_meaning(portal: Path) -> None:
    """Another order, another form, other comments: no difference. Otherwise each is told."""
    third = {"entry": THIRD, "not_after": "2090-01-01"}
    data: list[dict[str, Any]] = [
        {"name": "bare", "client_id": "0123", "title": ""},
        {"client_id": "two", "name": "stock", "application_public_certificates": [{"entry": OLD}, third]},
        {
            "credentials": [{"client_id": "one"}],
            "name": "orders",
            "title": "Orders",
            "application_public_certificate_entry": OLD,
        },
    ]
    other = portal.parent / "other.json"
    other.write_text(json.dumps(data))
    assert (diff(portal, other).output, diff(portal, other).exit_code) == ("", 0)
    del data[1]
    data[0]["state"] = "disabled"
    data[1] |= {"credentials": [{"client_id": "uno"}], "application_public_certificate_entry": NEXT}
    data.append({"name": "new", "client_id": "three"})
    other.write_text(json.dumps(data))
    result = diff(portal, other)
    assert (result.exit_code, result.output.splitlines()) == (
        1,
        [
            "+ new (three)",
            "- stock (two)",
            "~ bare: disabled",
            "~ Orders: client ID uno added; client ID one removed; "
            f"certificate {thumbprint(NEXT)} added; certificate {thumbprint(OLD)} removed",
        ],
    )
    assert diff(portal, portal.parent / "gone.yaml").exit_code == 1
