"""Loading from disk: files that are not there, are no files, or are not ours, and files cut at any octet."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import material
from jwsgate.core.decision import Snapshot
from jwsgate.files.documents import MAX_OCTETS
from jwsgate.files.loading import load_snapshot
from jwsgate.files.problems import Problem, ProblemsFound
from unit_material import CLIENT_ID, OTHER_CLIENT_ID, POLICY, der_of, good_files, problems_in

PEM = material.certificate(material.private_key("p256"))

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the good files."""
    good_files(tmp_path)
    return tmp_path


def load_at(portal: Path, policies: Sequence[Path]) -> Snapshot:
    """The snapshot of files, now."""
    return load_snapshot(portal, policies, time.time())


def load(folder: Path) -> Snapshot:
    """The snapshot of a folder's files."""
    return load_at(folder / "portal.yaml", [folder / "policy.yaml"])


def problem_of(folder: Path) -> Problem:
    """The one problem of a folder's files."""
    (problem,) = problems_in(lambda: load(folder))
    return problem


# Good files


def test_good_files(folder: Path) -> None:
    """Portal and routes of the files, and a revision."""
    snapshot = load(folder)
    assert list(snapshot.portal.by_client_id) == [CLIENT_ID, OTHER_CLIENT_ID]
    assert [len(application.certificates) for application in snapshot.portal.applications] == [1, 1]
    assert [route.name for route in snapshot.router] == ["sign", "/**"]
    assert len(snapshot.revision) == 12


def test_several_policies(folder: Path) -> None:
    """Their routes meet in one router, in the order of the files."""
    (folder / "second.yaml").write_text("routes: [{path: /b}, {path: /c}]")
    snapshot = load_at(folder / "portal.yaml", [folder / "policy.yaml", folder / "second.yaml"])
    assert [route.name for route in snapshot.router] == ["sign", "/**", "/b", "/c"]


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may be named relative to the working directory; what they refer to is relative to them."""
    monkeypatch.chdir(folder.parent)
    name = Path(folder.name)
    snapshot = load_at(name / "portal.yaml", [name / "policy.yaml"])
    monkeypatch.chdir(folder)
    assert snapshot.revision == load_at(Path("portal.yaml"), [Path("policy.yaml")]).revision


def test_json_files(folder: Path) -> None:
    """The name of a file plays no part: JSON is read as JSON is."""
    (folder / "portal.json").write_text('{"results": [{"client_id": "a"}]}')
    (folder / "policy.json").write_text('{"routes": [{"path": "/**"}]}')
    snapshot = load_at(folder / "portal.json", [folder / "policy.json"])
    assert list(snapshot.portal.by_client_id) == ["a"]


def test_names_with_spaces_and_letters(tmp_path: Path) -> None:
    """Folders are called anything."""
    folder = tmp_path / "Grüße und 日本"
    folder.mkdir()
    good_files(folder)
    assert load(folder).revision


# The revision


def test_revision_is_stable(folder: Path) -> None:
    """The same octets make the same revision, wherever they are."""
    copy = shutil.copytree(folder, folder.parent / f"{folder.name}-copy")
    assert load(folder).revision == load(copy).revision


@pytest.mark.parametrize("name", ["portal.yaml", "policy.yaml", "client.crt", "client.key"])
def test_revision_follows_each_file(folder: Path, name: str) -> None:
    """A change of any file that was read shows, comments and white space included."""
    before = load(folder).revision
    with (folder / name).open("a") as file:
        file.write("\n")
    assert before != load(folder).revision


def test_revision_follows_the_certificate_behind_a_link(folder: Path) -> None:
    """A certificate replaced under the same name makes another revision."""
    before = load(folder).revision
    (folder / "client.crt").write_text(material.certificate(material.private_key("p256"), "renewed"))
    assert before != load(folder).revision


# Files that cannot be read


def make_fifo(path: Path) -> None:
    """A FIFO that nobody writes to: reading it would wait for ever."""
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    """A socket's name in the file system."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


def make_loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


def link_to(target: str) -> Callable[[Path], None]:
    """Makes a link to some file."""
    return lambda path: path.symlink_to(target)


UNREADABLE: list[Any] = [
    pytest.param(lambda path: None, "does not exist", id="missing"),
    pytest.param(link_to("nowhere"), "does not exist", id="dangling-link"),
    pytest.param(make_fifo, "cannot be read: it is not a regular file", id="fifo"),
    pytest.param(make_socket, "cannot be read: No such device or address", id="socket"),
    pytest.param(make_loop, "cannot be read: Too many levels of symbolic links", id="link-to-itself"),
]
DEVICES: list[Any] = [
    pytest.param(link_to("/dev/null"), "cannot be read: it is not a regular file", id="dev-null"),
    pytest.param(link_to("/dev/zero"), "cannot be read: it is not a regular file", id="dev-zero"),
    pytest.param(link_to("/dev/tty"), "cannot be read: ", id="dev-tty"),
]


@pytest.mark.parametrize(("make", "message"), [*UNREADABLE, *DEVICES])
@pytest.mark.parametrize("name", ["portal.yaml", "policy.yaml"])
def test_unreadable_documents(
    folder: Path, name: str, make: Callable[[Path], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no readable file is one problem of that file; nothing waits, nothing fills the memory."""
    monkeypatch.chdir(folder)
    (folder / name).unlink()
    make(folder / name)
    problem = problem_of(folder)
    assert (str(folder / name), 0, 0, "(file)") == (problem.file, problem.line, problem.column, problem.path)
    assert problem.message.startswith(message)
    assert problem.remedy in {"check the path", "name a file"}


def test_policy_must_be_a_file(folder: Path) -> None:
    """A portal may be a folder, a policy not."""
    (folder / "policy.yaml").unlink()
    (folder / "policy.yaml").mkdir()
    assert (problem_of(folder).message, problem_of(folder).remedy) == ("is a folder", "name a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["portal.yaml", "policy.yaml", "client.crt", "client.key"])
def test_forbidden_files(folder: Path, name: str) -> None:
    """Missing rights are told as such."""
    (folder / name).chmod(0)
    problem = problem_of(folder)
    assert "may not be read" in problem.message
    assert problem.remedy == "give this user the right to read it"


def test_forbidden_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for whoever runs the tests as root."""

    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    found = problems_in(lambda: load(folder))
    assert [(problem.message, problem.remedy) for problem in found] == [
        ("may not be read", "give this user the right to read it")
    ] * 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("portal.yaml/x", id="below-a-file"),
        pytest.param("x" * 300, id="name-too-long"),
        pytest.param("a\0b", id="nul"),
        pytest.param("", id="empty"),
        pytest.param("no/such/folder", id="no-such-folder"),
    ],
)
@pytest.mark.parametrize("kind", ["portal", "policy"])
def test_names_that_cannot_be(folder: Path, kind: str, name: str) -> None:
    """Names that no file can have are problems too, and no other exception."""
    path = folder / name
    found = problems_in(
        lambda: load_at(
            path if kind == "portal" else folder / "portal.yaml", [path if kind == "policy" else folder / "policy.yaml"]
        )
    )
    if (kind, name) == ("portal", ""):
        path = folder / "policy.yaml"  # the portal is the whole folder, then
    assert [str(path)] == [problem.file for problem in found]
    assert all(str(problem).isprintable() for problem in found)


@pytest.mark.parametrize("name", ["portal.yaml", "policy.yaml"])
def test_documents_behind_links(folder: Path, name: str) -> None:
    """A document may be a link, as configuration tools make them."""
    (folder / "real").mkdir()
    (folder / name).rename(folder / "real" / name)
    (folder / name).symlink_to(f"real/{name}")
    assert load(folder).revision


@pytest.mark.parametrize("name", ["portal.yaml", "policy.yaml"])
def test_document_too_large(folder: Path, name: str) -> None:
    """A file beyond the limit is refused by its size: it is not read into memory first."""
    with (folder / name).open("ab") as file:
        file.truncate(MAX_OCTETS + 1)  # sparse: takes no room on disk
    tracemalloc.start()
    try:
        problem = problem_of(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (str(folder / name), "is larger than 512 MiB") == (problem.file, problem.message)
    assert peak < 32 * 1024 * 1024


# What exports refer to


def export_naming(folder: Path, name: str) -> None:
    """An export of one application with a certificate in a file."""
    text = f"results:\n  - name: a\n    application_public_certificate_file: {name}\n"
    (folder / "portal.yaml").write_text(text)


PLACE = (3, 42, "results[0].application_public_certificate_file")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("client.crt", id="beside"),
        pytest.param("./client.crt", id="dot"),
        pytest.param("sub/inner.crt", id="in-a-folder"),
        pytest.param("sub/../client.crt", id="down-and-up"),
        pytest.param("with space.crt", id="space"),
        pytest.param("größe.crt", id="umlaut"),
        pytest.param('"a; b.crt"', id="semicolon"),
    ],
)
def test_certificate_files(folder: Path, name: str) -> None:
    """Files in the folder of the export, and below it."""
    (folder / "sub").mkdir()
    for copy in ("sub/inner.crt", "with space.crt", "größe.crt", "a; b.crt"):
        shutil.copy(folder / "client.crt", folder / copy)
    export_naming(folder, name)
    assert [len(application.certificates) for application in load(folder).portal.applications] == [1]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../outside.crt", id="up"),
        pytest.param("sub/../../outside.crt", id="down-and-up-twice"),
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("/dev/zero", id="device"),
        pytest.param("/dev/stdin", id="stdin"),
        pytest.param("../../../../../../../../etc/passwd", id="far-up"),
        pytest.param("link-out.crt", id="link-out"),
        pytest.param("link-abs.crt", id="absolute-link-out"),
        pytest.param("folder-out/outside.crt", id="link-of-a-folder-out"),
        pytest.param("link-chain.crt", id="link-to-a-link-out"),
        pytest.param("link-zero.crt", id="link-to-a-device"),
        pytest.param('"a\\0b"', id="nul"),
    ],
)
def test_certificate_files_outside(tmp_path: Path, name: str) -> None:
    """An export from somebody else opens no file outside its folder, by whatever way."""
    folder = tmp_path / "inside"
    folder.mkdir()
    good_files(folder)
    (folder / "sub").mkdir()
    (tmp_path / "outside.crt").write_text(PEM)
    (folder / "link-out.crt").symlink_to("../outside.crt")
    (folder / "link-abs.crt").symlink_to(tmp_path / "outside.crt")
    (folder / "folder-out").symlink_to("..")
    (folder / "link-chain.crt").symlink_to("link-out.crt")
    (folder / "link-zero.crt").symlink_to("/dev/zero")
    export_naming(folder, name)
    problem = problem_of(folder)
    assert (problem.line, problem.column, problem.path) == PLACE
    assert problem.message.endswith("which is outside the export's folder")
    assert problem.remedy == "put the certificate beside it"
    assert str(problem).isprintable()


def test_sibling_folder_with_the_same_start(tmp_path: Path) -> None:
    """`export-2` is not inside `export`."""
    for name in ("export", "export-2"):
        (tmp_path / name).mkdir()
        good_files(tmp_path / name)
    export_naming(tmp_path / "export", "../export-2/client.crt")
    assert "outside the export's folder" in problem_of(tmp_path / "export").message


def test_links_of_kubernetes(tmp_path: Path) -> None:
    """A mounted secret or configuration map: `..data` links to a dated folder, each file links into `..data`."""
    dated = tmp_path / "..2024_01_01"
    dated.mkdir()
    good_files(dated)
    (tmp_path / "..data").symlink_to(dated.name)
    for file in dated.iterdir():
        (tmp_path / file.name).symlink_to(f"..data/{file.name}")
    assert load(tmp_path).revision == load(dated).revision


def test_folder_that_is_a_link(folder: Path) -> None:
    """The folder of the export may itself be reached by a link."""
    link = folder.parent / f"{folder.name}-link"
    link.symlink_to(folder)
    assert load(link).revision == load(folder).revision


@pytest.mark.parametrize(("make", "message"), UNREADABLE)
def test_unreadable_certificate_files(
    folder: Path, make: Callable[[Path], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no readable file is a problem at the place of its name."""
    monkeypatch.chdir(folder)
    export_naming(folder, "some.crt")
    make(folder / "some.crt")
    problem = problem_of(folder)
    assert (problem.line, problem.column, problem.path) == PLACE
    assert problem.message.startswith(f"names 'some.crt', which {message}")


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        pytest.param(
            PEM.encode() + b"#" * 65536,
            "names 'some.crt', which cannot be read: it is larger than 65536 octets",
            "check the path",
            id="too-large",
        ),
        pytest.param(
            der_of(PEM),
            "names 'some.crt', which is not PEM",
            "convert it with openssl x509 -inform der",
            id="der",
        ),
        pytest.param(
            PEM.encode("utf-16"),
            "names 'some.crt', which is not PEM",
            "convert it with openssl x509 -inform der",
            id="utf-16",
        ),
        pytest.param(b"hello, world\n", "is not base64", None, id="words"),
        pytest.param(PEM.encode()[:-30], "is PEM cut short", None, id="cut-short"),
        pytest.param(PEM.encode() + b"\0" * 10, None, None, id="nul-after"),
    ],
)
def test_certificate_files_of_garbage(folder: Path, content: bytes, message: str | None, remedy: str | None) -> None:
    """What is no certificate in PEM is told at the place of its name."""
    export_naming(folder, "some.crt")
    (folder / "some.crt").write_bytes(content)
    if message is None:
        assert [len(application.certificates) for application in load(folder).portal.applications] == [1]
        return
    problem = problem_of(folder)
    assert (*PLACE, message) == (problem.line, problem.column, problem.path, problem.message)
    assert (remedy or problem.remedy) == problem.remedy


def test_certificate_file_at_the_limit(folder: Path) -> None:
    """65536 octets are read."""
    export_naming(folder, "some.crt")
    (folder / "some.crt").write_bytes(PEM.encode().ljust(65536, b"\n"))
    assert load(folder).revision


def test_endless_certificate_file(folder: Path) -> None:
    """A sparse file of a gigabyte is refused after the first 64 KiB."""
    export_naming(folder, "some.crt")
    with (folder / "some.crt").open("wb") as file:
        file.truncate(1 << 30)
    assert "larger than 65536 octets" in problem_of(folder).message


@pytest.mark.parametrize("name", ["a; b.crt", "x (y).crt", "it's.crt", 'say "hi".crt'])
def test_names_stay_whole_in_messages(folder: Path, name: str) -> None:
    """Whatever stands in a name, the message names it, and the remedy is a remedy."""
    quoted = name.replace('"', '\\"')
    export_naming(folder, f'"{quoted}"')
    problem = problem_of(folder)
    assert (f"names {name!r}, which does not exist", "check the path") == (problem.message, problem.remedy)


@pytest.mark.parametrize("name", ['"\\e[31m.crt"', '"a\\r\\nb"', '"\\u202e"'])
def test_names_are_never_printed_raw(folder: Path, name: str) -> None:
    """Control characters in a name stay escapes."""
    export_naming(folder, name)
    assert str(problem_of(folder)).isprintable()


# What policies refer to


def policy_naming(folder: Path, name: str) -> None:
    """A policy of one sign route with a key in a file."""
    text = (
        "routes:\n  - path: /a\n    sign:\n      algorithm: ES256\n      issuer: a\n      audience: b\n"
        f"      key: {name}\n"
    )
    (folder / "policy.yaml").write_text(text)


KEY_PLACE = (7, 12, "routes[0].sign.key")


def test_key_files(tmp_path: Path) -> None:
    """A policy is our own: its key may stand anywhere, relative to the policy or absolute."""
    folder = tmp_path / "inside"
    folder.mkdir()
    good_files(folder)
    shutil.copy(folder / "client.key", tmp_path / "outside.key")
    for name in ("client.key", "../outside.key", str(tmp_path / "outside.key")):
        policy_naming(folder, name)
        assert load(folder).revision


@pytest.mark.parametrize(("make", "message"), [*UNREADABLE, *DEVICES])
def test_unreadable_key_files(
    folder: Path, make: Callable[[Path], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no readable file is a problem at the place of its name."""
    monkeypatch.chdir(folder)
    policy_naming(folder, "some.key")
    make(folder / "some.key")
    problem = problem_of(folder)
    assert (problem.line, problem.column, problem.path) == KEY_PLACE
    assert problem.message.startswith(f"names 'some.key', which {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is not a private key in PEM without a password", id="empty"),
        pytest.param(PEM.encode(), "is not a private key in PEM without a password", id="certificate"),
        pytest.param(
            b"#" * 65537, "names 'some.key', which cannot be read: it is larger than 65536 octets", id="too-large"
        ),
    ],
)
def test_key_files_of_garbage(folder: Path, content: bytes, message: str) -> None:
    """What is no key is told at the place of its name."""
    policy_naming(folder, "some.key")
    (folder / "some.key").write_bytes(content)
    problem = problem_of(folder)
    assert (*KEY_PLACE, message) == (problem.line, problem.column, problem.path, problem.message)


def test_key_file_with_nul_in_its_name(folder: Path) -> None:
    """No file can have this name."""
    policy_naming(folder, '"a\\0b"')
    problem = problem_of(folder)
    assert (*KEY_PLACE, "names 'a\\x00b', which is not a file name") == (
        problem.line,
        problem.column,
        problem.path,
        problem.message,
    )


# All problems at once


def test_problems_of_all_files_are_told_together(folder: Path) -> None:
    """One start tells what is wrong with every file."""
    (folder / "portal.yaml").write_text("results: [{state: on}]")
    (folder / "policy.yaml").write_text("routes: [{path: a}]")
    (folder / "second.yaml").write_text("routes: [{path: /a, path: /b}]\n")
    (folder / "third.yaml").write_bytes(b"\xff")
    policies = [folder / name for name in ("policy.yaml", "second.yaml", "third.yaml", "fourth.yaml")]
    found = problems_in(lambda: load_at(folder / "portal.yaml", policies))
    expected = [
        ("fourth.yaml", "(file)", "does not exist"),
        ("policy.yaml", "routes[0].path", "does not begin with a slash"),
        ("portal.yaml", "results[0].state", "is not one of the known values"),
        ("second.yaml", "routes[0].path", "is a repeated key"),
        ("third.yaml", "(document)", "is not UTF-8"),
    ]
    assert expected == [(Path(problem.file).name, problem.path, problem.message) for problem in found]


def test_missing_portal_does_not_hide_the_policy(folder: Path) -> None:
    """The policy is looked at even without a portal."""
    (folder / "portal.yaml").unlink()
    (folder / "policy.yaml").write_text("routes: []")
    found = problems_in(lambda: load(folder))
    assert [problem.message for problem in found] == ["is empty", "does not exist"]


def test_the_same_policy_twice(folder: Path) -> None:
    """Each route conflicts with itself."""
    found = problems_in(lambda: load_at(folder / "portal.yaml", [folder / "policy.yaml"] * 2))
    assert [problem.message for problem in found] == [
        f"matches the same requests as route sign of {folder / 'policy.yaml'}",
        f"matches the same requests as route /** of {folder / 'policy.yaml'}",
    ]


def test_policies_in_conflict(folder: Path) -> None:
    """The file of the other route is named, if it is another file."""
    for name, text in (("a", "[{path: /a}, {path: /b}]"), ("b", "[{path: /b}, {path: /c}, {path: /c}]")):
        (folder / f"{name}.yaml").write_text(f"routes: {text}\n")
    found = problems_in(lambda: load_at(folder / "portal.yaml", [folder / "a.yaml", folder / "b.yaml"]))
    assert [(problem.path, problem.message) for problem in found] == [
        ("routes[0].path", f"matches the same requests as route /b of {folder / 'a.yaml'}"),
        ("routes[2].path", "matches the same requests as route /c"),
    ]


def test_policy_named_as_portal(folder: Path) -> None:
    """The two files swapped are two problems."""
    found = problems_in(lambda: load_at(folder / "policy.yaml", [folder / "portal.yaml"]))
    assert {("policy.yaml", "results", "is missing"), ("portal.yaml", "routes", "is missing")} <= {
        (Path(problem.file).name, problem.path, problem.message) for problem in found
    }


# Files damaged at random


@pytest.fixture(scope="module")
def originals() -> Iterator[tuple[Path, bytes, bytes]]:
    """A folder of good files, with the octets of export and policy."""
    with tempfile.TemporaryDirectory() as name:
        portal, policy = good_files(Path(name))
        yield Path(name), portal.read_bytes(), policy.read_bytes()


TOKENS = [
    b"\n",
    b"\r\n",
    b" ",
    b"  ",
    b"\t",
    b":",
    b": ",
    b"-",
    b"- ",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"'",
    b'"',
    b"#",
    b"&a ",
    b"*a",
    b"!x ",
    b"<<: ",
    b"---\n",
    b"...\n",
    b"?",
    b"|",
    b">",
    b"%",
    b"@",
    b"\0",
    b"\x1b",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    "é😀".encode(),
    b"null",
    b"~",
    b"[]",
    b"{}",
    b"''",
    b"0",
    b"-1",
    b"99999999999999999999",
    b"1e400",
    b"../x",
    b"/dev/zero",
    b"\\0",
    b"\\ud83d",
    b"; ",
    b"-----BEGIN PRIVATE KEY-----",
    b"-----",
    b"/**",
    b"{a}",
    b"*",
    b"[" * 40,
]


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """One way to damage a file."""
    kind = draw(st.sampled_from(["cut", "drop", "insert", "replace", "double", "swap", "flip", "none"]))
    start, length = draw(st.floats(0, 1)), draw(st.integers(1, 80))
    token = draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=4))

    def damage(octets: bytes) -> bytes:
        at = round(start * len(octets))
        head, middle, tail = octets[:at], octets[at : at + length], octets[at + length :]
        match kind:
            case "cut":
                return head
            case "drop":
                return head + tail
            case "insert":
                return head + token + middle + tail
            case "replace":
                return head + token + tail
            case "double":
                return head + middle + middle + tail
            case "swap":
                return tail + middle + head
            case "flip":
                return head + bytes(octet ^ (length & 0xFF) for octet in middle[:1]) + middle[1:] + tail
            case _:
                return octets

    return damage


@settings(max_examples=600, deadline=None)
@given(st.lists(damages(), min_size=1, max_size=3), st.lists(damages(), max_size=3))
def test_damaged_files(
    originals: tuple[Path, bytes, bytes],
    portal_damages: list[Callable[[bytes], bytes]],
    policy_damages: list[Callable[[bytes], bytes]],
) -> None:
    """However files are damaged: a snapshot or problems with places, and never another exception."""
    folder, portal, policy = originals
    for damage in portal_damages:
        portal = damage(portal)
    for damage in policy_damages:
        policy = damage(policy)
    portal_path, policy_path = folder / "damaged-portal.yaml", folder / "damaged-policy.yaml"
    portal_path.write_bytes(portal)
    policy_path.write_bytes(policy)
    try:
        snapshot = load_at(portal_path, [policy_path])
    except ProblemsFound as error:
        assert error.problems
        for problem in error.problems:
            assert problem.file in {str(portal_path), str(policy_path)}
            assert problem.line >= 1
            assert problem.column >= 1
            assert problem.message
            assert problem.remedy
            assert str(problem).isprintable()
    else:
        assert len(snapshot.router) >= 1


@pytest.mark.parametrize("name", ["portal.yaml", "policy.yaml"])
def test_files_cut_at_every_line(folder: Path, name: str) -> None:
    """A file whose writing broke off at any line is either whole or a problem; never another exception."""
    lines = (folder / name).read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        for last in (b"", lines[count][: len(lines[count]) // 2]):
            (folder / name).write_bytes(b"".join(lines[:count]) + last)
            try:
                load(folder)
            except ProblemsFound as error:
                assert {str(folder / name)} == {problem.file for problem in error.problems}


def test_policy_alone_is_enough(tmp_path: Path) -> None:
    """An export without applications and the shortest policy load, and deny everything."""
    (tmp_path / "portal.yaml").write_text("results: []")
    (tmp_path / "policy.yaml").write_text(POLICY)
    snapshot = load(tmp_path)
    assert (len(snapshot.portal.applications), len(snapshot.router)) == (0, 1)
