"""Exports whose end is missing: whatever there is of them, nobody may do more than by the whole."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

import material
from jwsgate.core.cut_short import doubts
from jwsgate.core.portal import Application, ClientId, FileEnd, Portal
from jwsgate.files.loading import load_snapshot
from jwsgate.files.portal_file import Source, build_portal, cut_short, read_thoroughly
from jwsgate.files.problems import Problem, Unfit

KEYS = {name: material.private_key("p256", name) for name in ("one", "two", "three")}
PEM = {name: material.certificate(key, name) for name, key in KEYS.items()}


def read_reference(_file: str, name: str) -> str:
    """Three files, of whose names two begin with the third's."""
    if name not in PEM:
        raise Unfit(f"names {name!r}, which does not exist", "check the path")
    return PEM[name]


def app(name: str, *after: str, before: tuple[str, ...] = ()) -> str:
    """One application whose limits stand behind its certificate, where a cut takes them off first."""
    lines = [
        f"  - client_id: {name}",
        *(f"    {line}" for line in before),
        "    application_public_certificate_entry: |",
    ]
    return "\n".join([*lines, textwrap.indent(PEM[name], " " * 6).rstrip("\n"), *(f"    {line}" for line in after), ""])


def portal_of(text: str | bytes) -> Portal | None:
    """The portal of one YAML file; None when it has problems."""
    return build_portal([Source("apps.yaml", text if isinstance(text, bytes) else text.encode())], read_reference)[0]


def good(text: str) -> Portal:
    """The portal of a file without problems."""
    portal = portal_of(text)
    assert portal is not None
    return portal


def rights(portal: Portal) -> dict[tuple[str, str], tuple[float, float, frozenset[str] | None, Any]]:
    """What each client can do: its certificates, how long, with which algorithms, under which names."""
    return {
        (client_id, str(one.thumbprint)): (
            one.not_before,
            one.not_after,
            application.algorithms,
            (application.name, application.title, application.catalog, application.organization),
        )
        for client_id, application in portal.by_client_id.items()
        if application.enabled
        for one in application.certificates
    }


def gained(whole: Portal, cut: Portal) -> list[str]:
    """The clients that can do more by the cut file."""
    may, could = rights(whole), rights(cut)
    found = []
    for key, (start, end, algorithms, names) in could.items():
        if key not in may:
            found.append(f"{key[0]} is enabled")
            continue
        old_start, old_end, old_algorithms, old_names = may[key]
        if start < old_start or end > old_end:
            found.append(f"{key[0]} for longer")
        if old_algorithms is not None and (algorithms is None or algorithms - old_algorithms):
            found.append(f"{key[0]} with other algorithms")
        if names != old_names:
            found.append(f"{key[0]} under other names")
    return found


TOTAL = "total_results: 2\nresults:\n"
ENABLED = ("state: enabled",)
LIST = (
    "application_public_certificates:",
    "  - entry: |",
    *(f"      {line}" for line in PEM["three"].splitlines()),
    "    not_before: 2019-01-01T12:00:00Z",
    "    not_after: 2020-01-01T12:00:00Z",
)
URL = "https://platform.example.com/api"
EXPORTS = {
    "state-of-all": TOTAL + app("one", "state: enabled") + app("two", "state: disabled"),
    "state-of-the-last": TOTAL + app("one") + app("two", "state: disabled"),
    "state-of-some": "results:\n" + app("one") + app("three", "state: enabled") + app("two", "state: disabled"),
    "pending": TOTAL + app("one") + app("two", "state: pending"),
    "suspended": TOTAL + app("one", before=ENABLED) + app("two", "is_suspended: true", before=ENABLED),
    "suspended-last": TOTAL + app("one") + app("two", "state: disabled", "is_suspended: yes"),
    "window": TOTAL
    + app("one", before=ENABLED)
    + app("two", "application_public_certificate_not_after: 2020-01-01T12:00:00Z", before=ENABLED),
    "start": TOTAL + app("one") + app("two", "application_public_certificate_not_before: 2030-01-01T12:00:00Z"),
    "window-in-list": "results:\n" + app("one", "state: enabled", *LIST),
    "algorithms": TOTAL + app("one") + app("two", "application_jws_algorithms: [ES256]"),
    "algorithms-in-lines": TOTAL + app("one") + app("two", "application_jws_algorithms:", "  - ES256", "  - ES384"),
    "names": "results:\n"
    + app("one", "name: n", "title: T", f"catalog_url: {URL}/a/b", f"consumer_org_url: {URL}/o", "state: enabled"),
    "organizations": "apps:\n"
    + app("one", f"consumer_org_url: {URL}/orgs/o", "state: enabled")
    + f"consumer_orgs:\n  - url: {URL}/orgs/p\n    name: P\n  - url: {URL}/orgs/o\n    name: O\n",
    "list-of-one": "total_results: 1\nresults:\n" + app("two", "state: disabled"),
    "one-application": textwrap.dedent(app("two", "state: disabled").replace("  - ", "    ", 1)),
}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "no-final-newline"])
@pytest.mark.parametrize("text", EXPORTS.values(), ids=list(EXPORTS))
def test_a_cut_never_adds_a_right(text: str, closed: bool) -> None:
    """At whichever octet a file that is in force is cut, it is refused, or nobody can do more than before."""
    octets = (text if closed else text.rstrip("\n")).encode()
    whole = good(octets.decode())
    assert cut_short(whole, whole) == []
    opened = {}
    taken_up = 0
    for length in range(len(octets)):
        line = octets[octets.rfind(b"\n", 0, length) + 1 : length].strip()
        if len(line) > 3 and line.isalnum():
            continue  # within a certificate
        cut = portal_of(octets[:length])
        if cut is not None and not cut_short(cut, whole):
            taken_up += 1
            if more := gained(whole, cut):
                opened[length] = more
    assert opened == {}
    assert not closed or taken_up <= octets.count(b"\n")


@pytest.mark.parametrize("state", ["disabled", "pending"])
def test_a_new_application_has_to_say_its_state(state: str) -> None:
    """At whichever line a file is cut that has one application more than before, that one is not enabled."""
    before, whole = good("results:\n" + app("one")), "results:\n" + app("one") + app("two", f"state: {state}")
    lines = whole.splitlines(keepends=True)
    cuts = [good(text) for count in range(2, len(lines)) if portal_of(text := "".join(lines[:count])) is not None]
    taken_up = [cut for cut in cuts if not cut_short(cut, before)]
    assert any("two" in cut.by_client_id and cut.by_client_id[ClientId("two")].enabled for cut in cuts)
    assert not any("two" in cut.by_client_id for cut in taken_up)
    for text in (whole, whole.replace(state, "enabled"), whole.replace(f"    state: {state}\n", "...\n")):
        assert cut_short(good(text), before) == []


def test_half_a_file_name_is_the_name_of_another_file() -> None:
    """Where a line without an end is usual, the last value counts as half of one."""
    text = "results:\n  - client_id: a\n    application_public_certificate_file: one"
    whole = good(text.replace("file: one", "file: two"))
    messages = [problem.message for problem in cut_short(good(text), whole)]
    assert messages == ["has another certificate, and no line break behind it: the file may have been cut short"]
    assert cut_short(good(text + "\n"), whole) == []


@pytest.mark.parametrize("name", ["state-of-all", "suspended-last", "window", "window-in-list", "algorithms", "names"])
def test_what_is_said_is_no_cut(name: str) -> None:
    """Rights given by the file's own words are taken up, also for the last application."""
    now = EXPORTS[name]
    after = (
        now.replace("state: disabled", "state: enabled")
        .replace("is_suspended: yes", "is_suspended: no")
        .replace("not_after: 2020", "not_after: 2021")
        .replace("[ES256]", "[ES384]")
        .replace("name: n", "name: m")
        .replace("title: T", "title: U")
        .replace("/a/b", "/a/c")
        .replace("/o\n", "/p\n")
    )
    assert after != now
    assert gained(good(now), good(after))
    assert cut_short(good(after), good(now)) == []


@pytest.mark.parametrize("name", ["state-of-the-last", "window", "algorithms"])
def test_three_dots_say_that_a_file_is_whole(name: str) -> None:
    """YAML's own mark of the end, which no cut leaves; without it the same change is refused."""
    now = good(EXPORTS[name])
    without = EXPORTS[name].rstrip("\n").rpartition("\n")[0] + "\n"
    assert cut_short(good(without), now)
    assert cut_short(good(without + "...\n"), now) == []
    assert cut_short(good(without + "..."), now) == []


def test_json_tells_its_end_by_itself() -> None:
    """And so does YAML that is written in braces."""
    for text in ('{"results": [{"name": "a", "state": "enabled"}, {"name": "b"}]}', "[{name: a}]", "results: []\n"):
        assert cut_short(good(text)) == []


CLOSED = "state: enabled}\n  - {client_id: b, name: b"
DOUBTFUL: list[Any] = [
    pytest.param(
        "results:\n  - client_id: 479b3df9-380e\n    name: a",
        None,
        (3, 12, "(file)", "ends in the middle of a line: the file may have been cut short", "end it with a line break"),
        id="line",
    ),
    pytest.param(
        f"results:\n  - {{name: a, {CLOSED}}}\n",
        None,
        (3, 28, "results[1]", "has no state, which all others have: the file may have been cut short",
         "complete the file, or write state: here"),
        id="limit",
    ),
    pytest.param(
        f"results:\n  - {{name: a, {CLOSED}}}\n",
        f"results:\n  - {{name: a, {CLOSED}, state: disabled}}\n",
        (3, 28, "results[1]", "has no state any more, and would be enabled: the file may have been cut short",
         "complete the file, or write state: here"),
        id="enabled",
    ),
    pytest.param(
        "client_id: a\n",
        "client_id: a\napplication_jws_algorithms: [PS256]\n",
        (1, 13, "(document)",
         "has no application_jws_algorithms any more, and could use others: the file may have been cut short",
         "complete the file; if it is whole, say so with a last line of three dots"),
        id="algorithms",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "before", "expected"), DOUBTFUL)
def test_doubts_are_placed_at_the_end(text: str, before: str | None, expected: tuple[int, int, str, str, str]) -> None:
    """That is where something is missing."""
    (problem,) = cut_short(good(text), None if before is None else good(before))
    assert problem == Problem("apps.yaml", *expected)
    thorough = read_thoroughly([Source("apps.yaml", text.encode())], read_reference).portal
    assert thorough.ends == good(text).ends


def test_what_was_doubtful_before_stays_allowed() -> None:
    """People write so as well. While somebody may be writing, nothing doubtful is allowed."""
    line, limit = DOUBTFUL[0].values[0], DOUBTFUL[1].values[0]
    for text in (line, limit):
        assert cut_short(good(text), good(text)) == []
        assert len(cut_short(good(text), good(text), strict=True)) == 1
    assert [problem.path for problem in cut_short(good(line), good(limit))] == ["(file)", "results[0]"]


def test_every_file_of_a_folder_has_an_end(tmp_path: Path) -> None:
    """One application a file: each is held against itself."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("routes: [{path: /**}]\n")
    folder = tmp_path / "portal"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(f"client_id: {name}\nstate: disabled\n")
    before = load_snapshot(folder, [policy], 0).portal
    (folder / "one.yaml").write_text("client_id: one\n")
    (problem,) = cut_short(load_snapshot(folder, [policy], 0).portal, before)
    assert (problem.file, problem.line) == (str(folder / "one.yaml"), 1)


def test_only_what_files_make_can_be_held_against_each_other() -> None:
    """Nothing is passed over in silence."""
    portal = Portal(
        [Application("a", "a", True, (ClientId("a"),), ())], ends=(FileEnd("x", 1, 1, True, "results[0]", 0),)
    )
    with pytest.raises(TypeError):
        list(doubts(portal, portal))
