"""The shapes in which API Connect hands out its applications: each read into the same portal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import material
from jwsgate.core.portal import Portal
from jwsgate.files.documents import read_document
from jwsgate.files.portal_file import Source, build_portal, read_thoroughly
from jwsgate.files.problems import Problem, Unfit
from jwsgate.files.reading import portal_sources
from jwsgate.files.streams import Irregular, stream, units_of

PEM = material.certificate(material.private_key("p256"))
BASE = "https://platform.example.com/api"
PLACE = "acme/production"
SECRET = "Zm9vYmFyc2VjcmV0"


def application(number: int = 1, **fields: Any) -> dict[str, Any]:
    """One application with the fields of a real one."""
    where = f"{PLACE}/org-{number}/app-{number}"
    return {
        "type": "app",
        "api_version": "2.0.0",
        "id": f"app-{number}",
        "name": f"application-{number}",
        "title": f"Application {number}",
        "summary": None,
        "state": "enabled",
        "lifecycle_state": "production",
        "app_credential_urls": [f"{BASE}/apps/{where}/credentials/cred-{number}"],
        "client_secret": SECRET,
        "redirect_endpoints": [],
        "application_public_certificate_entry": PEM,
        "org_url": f"{BASE}/orgs/acme",
        "catalog_url": f"{BASE}/catalogs/{PLACE}",
        "consumer_org_url": f"{BASE}/consumer-orgs/{PLACE}/org-{number}",
        "metadata": {"owner": "team"},
        "created_at": "2024-03-01T10:00:00.000Z",
        "updated_at": "2024-03-01T10:00:00.000Z",
        "url": f"{BASE}/apps/{where}",
        **fields,
    }


def credential(number: int = 1, client_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """One credential that stands apart from its application."""
    url = f"{BASE}/apps/{PLACE}/org-{number}/app-{number}"
    return {
        "type": "credential",
        "id": f"cred-{number}",
        "client_id": client_id or f"client-{number}",
        "client_secret_hashed": SECRET,
        "name": "credential",
        "title": "Credential",
        "app_url": url,
        "consumer_org_url": f"{BASE}/consumer-orgs/{PLACE}/org-{number}",
        "url": f"{url}/credentials/cred-{number}",
        **fields,
    }


def inline(number: int = 1, client_id: str | None = None) -> dict[str, Any]:
    """One credential within its application."""
    whole = credential(number, client_id)
    return {name: whole[name] for name in ("id", "client_id", "name", "title", "url")}


def relative(value: Any) -> Any:
    """The same with relative URLs, as a portal snapshot has them."""
    if isinstance(value, str):
        return value.replace(BASE, "/consumer-api")
    if isinstance(value, dict):
        return {key: relative(item) for key, item in value.items()}
    return [relative(item) for item in value] if isinstance(value, list) else value


ORGANIZATION = {"type": "consumer_org", "name": "org-1", "url": f"{BASE}/consumer-orgs/{PLACE}/org-1"}
SUBSCRIPTION = {"type": "subscription", "state": "enabled", "plan": "gold", "app_url": application()["url"]}
SHAPES: dict[str, Mapping[str, Any]] = {
    "reply": {"apps": {"total_results": 1, "results": [application(credentials=[inline()])]}},
    "reply-expanded": {
        "apps": {
            "results": [
                application(credentials=[inline()], consumer_org={"name": "org-1", "title": "O"}, consumer_org_url="/x")
            ]
        }
    },
    "one-application": {"app": application(client_id="client-1")},
    "one-application-unsaid": {
        "app": {key: value for key, value in application(client_id="client-1").items() if key != "type"}
    },
    "snapshot": {
        "portal": {
            "consumer_orgs": [relative(ORGANIZATION)],
            "apps": [relative(application(app_credentials=[]))],
            "credentials": [relative(credential())],
            "subscriptions": [relative(SUBSCRIPTION)],
            "products": [],
        }
    },
    "snapshot-credentials-first": {"portal": {"credentials": [credential()], "apps": [relative(application())]}},
    "snapshot-inline": {"portal": {"apps": [application(app_credentials=[inline()])]}},
    "folder": {
        "org-1/apps": {"total_results": 1, "results": [application()]},
        "org-1/credentials/app-1": {"total_results": 1, "results": [credential()]},
    },
    "folder-with-the-rest": {
        "a-credentials": {"results": [relative(credential())]},
        "b-apps": {"results": [application()]},
        "c-subscriptions": {"total_results": 1, "results": [SUBSCRIPTION]},
        "d-orgs": {"total_results": 1, "results": [ORGANIZATION]},
        "e-empty": {"total_results": 0, "results": []},
        "f-credential": credential(),
    },
    "folder-without-app-url": {
        "apps": {"results": [application()]},
        "credentials": {"total_results": 1, "results": [relative(inline())]},
    },
    "list": {"apps": [application(credentials=[inline()])]},
    "toolkit-get": {"app": application(credentials=[inline()])},
}


def write(folder: Path, documents: Mapping[str, Any], form: str) -> None:
    """Put documents into a folder."""
    for name, document in documents.items():
        path = folder / f"{name}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document) if form == "json" else yaml.safe_dump(document, sort_keys=False))


def no_reference(_file: str, name: str) -> str:
    """There are no files to refer to."""
    raise Unfit(f"names {name!r}, which does not exist", "check the path")


def load(folder: Path) -> tuple[Portal | None, list[Problem]]:
    """The portal of a folder; both ways of reading have to be of one mind."""
    sources, problems = portal_sources(folder)
    assert problems == []
    portal, found = build_portal(sources, no_reference)
    thorough = read_thoroughly(sources, no_reference)
    assert sorted(found) == sorted(thorough.problems)
    if portal is not None:
        assert thorough.portal == portal
        assert thorough.portal.index == portal.index
    return portal, found


def good(folder: Path) -> Portal:
    """The portal of a folder without a problem."""
    portal, problems = load(folder)
    assert problems == []
    assert portal is not None
    return portal


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(tmp_path: Path, shape: str, form: str) -> None:
    """Whatever the shape, it is the same application with the same client ID, catalog and organization."""
    write(tmp_path, SHAPES[shape], form)
    portal = good(tmp_path)
    (found,) = portal.applications
    assert (found.name, found.title, found.enabled) == ("application-1", "Application 1", True)
    assert (found.catalog, found.organization) == ("production", "org-1")
    assert (found.client_ids, len(found.certificates)) == (("client-1",), 1)
    assert portal.find(b"client-1") == ("client-1", found)


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("shape", SHAPES)
def test_secrets_are_nowhere(tmp_path: Path, shape: str, form: str) -> None:
    """No secret is in what is kept, nor in a message about the export that it stands in."""
    write(tmp_path, SHAPES[shape], form)
    portal = good(tmp_path)
    applications: Any = portal.applications
    assert SECRET.encode() not in b"".join(applications.records)
    assert SECRET not in repr(portal)
    for path in tmp_path.rglob(f"*.{form}"):
        path.write_text(path.read_text().replace("client-1", " client-1", 1).replace("enabled", SECRET[:4] + "x"))
    _, problems = load(tmp_path)
    assert SECRET not in "\n".join(map(str, problems))


def test_several_credentials_in_several_places(tmp_path: Path) -> None:
    """Own client ID, credentials within and credentials apart: all identify the application, each once."""
    write(
        tmp_path,
        {
            "apps": {"results": [application(client_id="client-1", credentials=[inline(), inline(1, "second")])]},
            "credentials": {"results": [credential(), credential(1, "third"), credential(1, "second")]},
        },
        "json",
    )
    assert good(tmp_path).applications[0].client_ids == ("client-1", "second", "third")


def test_applications_of_several_organizations(tmp_path: Path) -> None:
    """A whole estate in a folder of folders: states, organizations and credentials stay with their applications."""
    for number in range(1, 6):
        state = ("disabled", "enabled", "pending")[number % 3]
        apps = {"total_results": 1, "results": [application(number, state=state, is_suspended=number == 4)]}
        write(tmp_path / f"org-{number}", {"apps": apps, "credentials": {"results": [credential(number)]}}, "yaml")
    assert {f"client-{n}": (f"application-{n}", f"org-{n}", n == 1) for n in range(1, 6)} == {
        key: (found.name, found.organization, found.enabled) for key, found in good(tmp_path).by_client_id.items()
    }


def test_organization_names_come_from_the_snapshot(tmp_path: Path) -> None:
    """Where URLs hold IDs, the snapshot's own list has the names."""
    organization = {"name": "big-customer", "url": f"{BASE}/consumer-orgs/{PLACE}/org-1"}
    write(tmp_path, {"portal": {"apps": [relative(application())], "consumer_orgs": [organization]}}, "json")
    assert good(tmp_path).applications[0].organization == "big-customer"


def test_credentials_of_nobody_open_nothing(tmp_path: Path) -> None:
    """A credential whose application is not in the export identifies nobody."""
    write(tmp_path, {"portal": {"apps": [application()], "credentials": [credential(2), credential(1)]}}, "json")
    assert list(good(tmp_path).by_client_id) == ["client-1"]


PROBLEMS: list[Any] = [
    pytest.param(
        {"a": {"results": [application(client_id="x")]}, "b": {"results": [application(2, client_id="x")]}},
        [("b.yaml", "results[0].client_id", "is the client ID of results[0].client_id in {}/a.yaml too")],
        id="client-id-in-two-files",
    ),
    pytest.param(
        {"a": {"results": [application()]}, "b": {"results": [application(state="disabled"), credential()]}},
        [("b.yaml", "results[0].url", "is the URL of another application too")],
        id="one-application-in-two-states",
    ),
    pytest.param(
        {"a": {"apps": [application(), application(2)], "credentials": [credential(1, "x"), credential(2, "x")]}},
        [("a.yaml", "credentials[1].client_id", "is the client ID of credentials[0].client_id too")],
        id="two-credentials-apart",
    ),
    pytest.param(
        {"a": {"apps": [application()], "credentials": [{"app_url": application()["url"]}]}},
        [("a.yaml", "credentials[0].client_id", "is missing")],
        id="credential-without-client-id",
    ),
    pytest.param(
        {"a": {"total_results": 3, "results": [application()]}},
        [
            (
                "a.yaml",
                "total_results",
                "is 3, but only 1 follow: pages are missing, or the file was cut short",
            )
        ],
        id="page-one-of-three",
    ),
    pytest.param(
        {
            "a": {"total_results": 3, "results": [application()]},
            "b": {"total_results": 2, "results": [application(2), application(3)]},
        },
        [("a.yaml", "total_results", "is 3, but only 1 follow: pages are missing, or the file was cut short")],
        id="page-of-another-organization",
    ),
    pytest.param(
        {"a": {"apps": {"name": "a"}, "credentials": []}}, [("a.yaml", "apps", "is not a list")], id="apps-no-list"
    ),
    pytest.param({"a": {"total_results": 0}}, [("a.yaml", "results", "is missing")], id="total-alone"),
    pytest.param({"a": {"routes": []}}, [("a.yaml", "results", "is missing")], id="a-policy"),
    pytest.param(
        {"a": [application(), application(2, state=None)]},
        [("a.yaml", "[1].state", "is not one of the known values")],
        id="list-state",
    ),
    pytest.param(
        {"a": application(client_id=["x"])},
        [("a.yaml", "client_id", "is not text")],
        id="one-application-client-id",
    ),
]


@pytest.mark.parametrize(("documents", "expected"), PROBLEMS)
def test_problems(tmp_path: Path, documents: Mapping[str, Any], expected: list[tuple[str, str, str]]) -> None:
    """What does not fit together is told, in the file where it stands."""
    write(tmp_path, documents, "yaml")
    _, problems = load(tmp_path)
    assert [(str(tmp_path / file), path, message.format(tmp_path)) for file, path, message in expected] == [
        (problem.file, problem.path, problem.message) for problem in problems
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [application(1)]}, {"b": [credential(1)]}),
        ({"a": [application(1)]}, {"b": [application(2, catalog_url=f"{BASE}/catalogs/acme/sandbox")]}),
        ({"org-1/a": [application(1)]}, {"org-2/a": [application(2)]}),
    ],
    ids=["kinds", "catalogs", "folders"],
)
def test_halves_of_two_lists_are_no_whole(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    """Each has lost half of the two that it says; what they have together does not count."""
    pages = {name: {"total_results": 2, "results": items} for name, items in (one | other).items()}
    write(tmp_path, pages, "json")
    problems = load(tmp_path)[1]
    assert [problem.path for problem in problems] == ["total_results"] * 2


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("key", ["credentials", "app_credentials"])
def test_a_file_of_credentials_alone(tmp_path: Path, form: str, key: str) -> None:
    """They belong to the applications that they name, and are none by themselves."""
    write(tmp_path, {"a": {key: [credential()]}, "b": {"apps": [relative(application())]}}, form)
    portal = good(tmp_path)
    assert [(one.name, one.client_ids) for one in portal.applications] == [("application-1", ("client-1",))]


def test_pages_complete_each_other(tmp_path: Path) -> None:
    """Two pages of one list are the whole of it."""
    pages = [[application(1), application(2)], [application(3)]]
    write(tmp_path, {f"page-{n}": {"total_results": 3, "results": page} for n, page in enumerate(pages)}, "json")
    assert len(good(tmp_path).applications) == 3


# Folders


def test_only_exports_of_a_folder_are_read(tmp_path: Path) -> None:
    """Other files, hidden ones and JSON Schemas stand beside exports in peace."""
    write(tmp_path, SHAPES["reply"], "yaml")
    for name, text in {
        "README.md": "# hello",
        ".draft.yaml": "[",
        ".git/config.yaml": "[",
        "portal.schema.json": '{"$schema": "https://json-schema.org/draft/2020-12/schema"}',
        "client.crt": PEM,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert len(good(tmp_path).applications) == 1


def test_config_map_folder(tmp_path: Path) -> None:
    """What Kubernetes mounts: links to files below a hidden folder, through a hidden link."""
    write(tmp_path / "..2026_01_01", SHAPES["reply"], "yaml")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "apps.yaml").symlink_to("..data/apps.yaml")
    assert len(good(tmp_path).applications) == 1


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        pytest.param("x.yaml", "../outside.yaml", "is a link that leads out of the folder", id="out"),
        pytest.param("x.yaml", "/dev/zero", "is a link that leads out of the folder", id="device"),
        pytest.param("x", "..", "is a link to a folder, which is not followed", id="folder"),
        pytest.param("x.yaml", "nowhere", "does not exist", id="dangling"),
        pytest.param("x.yaml", "x.yaml", "cannot be read: Too many levels of symbolic links", id="loop"),
    ],
)
def test_links_in_a_folder(tmp_path: Path, name: str, target: str, message: str) -> None:
    """A folder is read without leaving it."""
    (tmp_path / "outside.yaml").write_text("results: []\n")
    folder = tmp_path / "portal"
    write(folder, SHAPES["reply"], "yaml")
    (folder / name).symlink_to(target)
    sources, problems = portal_sources(folder)
    assert [source.file for source in sources] == [str(folder / "apps.yaml")]
    assert [(problem.file, problem.message) for problem in problems] == [(str(folder / name), message)]


def test_empty_folder(tmp_path: Path) -> None:
    """A portal of nothing is a mistake, most likely in the path."""
    assert [problem.message for problem in portal_sources(tmp_path)[1]] == ["holds no .yaml, .yml or .json file"]


# JSON is JSON


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        pytest.param('{"results": []', 1, 15, "ends early", id="cut"),
        pytest.param('{"results": [],\n}', 2, 1, "has no quoted key here", id="trailing-comma"),
        pytest.param('{"results": [{},]}', 1, 17, "has ] where a value belongs", id="trailing-comma-list"),
        pytest.param('{"results": [] // x\n}', 1, 16, "holds something that is not JSON", id="comment"),
        pytest.param("{'results': []}", 1, 2, "holds something that is not JSON", id="single-quotes"),
        pytest.param("results: []\n", 1, 1, "holds something that is not JSON", id="yaml"),
        pytest.param('{"results": [{"name": "a\nb"}]}', 1, 23, "an unfinished or ill-formed string", id="line-feed"),
        pytest.param('{"results": [{"name": "\\x"}]}', 1, 23, "an unfinished or ill-formed string", id="escape"),
        pytest.param('{"results": [{"name": "\\ud800"}]}', 1, 23, "half of a surrogate pair", id="surrogate"),
        pytest.param('{"results": [{"x": NaN}]}', 1, 20, "holds something that is not JSON", id="nan"),
        pytest.param('{"results": [{"x": 01}]}', 1, 21, "lacks a comma", id="leading-zero"),
        pytest.param('{"results": []}\n[]', 2, 1, "goes on after its end", id="two-documents"),
        pytest.param("", 1, 1, "ends early", id="empty"),
        pytest.param('{"results"\n\n  "x"}', 3, 3, "lacks a colon", id="colon"),
    ],
)
def test_what_is_called_json_is_json(text: str, line: int, column: int, message: str) -> None:
    """YAML would take most of these, and some differently; each is told where it stands."""
    portal, (problem,) = build_portal([Source("apps.json", text.encode())], no_reference)
    assert portal is None
    assert (problem.line, problem.column) == (line, column)
    assert "is not JSON: " in problem.message
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "line", "column", "path", "message"),
    [
        pytest.param('{"a": 1,\n "a": 2}', 2, 2, "a", "is a repeated key", id="at-the-top"),
        pytest.param(
            '{"results": [{"name": "😀", "state": "enabled",\n "x": {"y": [1, {"z": 1, "\\u007a": 2}]}}]}',
            2,
            26,
            "results[0].x.y[1].z",
            "is a repeated key",
            id="deep-and-escaped",
        ),
        pytest.param('{"results": [{"state": "on"}]}', 1, 24, "results[0].state", "is not one of", id="state"),
        pytest.param('{"results": ' + "[" * 40 + "]" * 40 + "}", 1, 44, "(document)", "nested more than", id="deep"),
    ],
)
def test_problems_in_json(text: str, line: int, column: int, path: str, message: str) -> None:
    """JSON has lines and columns too."""
    _, problems = build_portal([Source("apps.json", text.encode())], no_reference)
    assert (line, column, path) == (problems[0].line, problems[0].column, problems[0].path)
    assert message in problems[0].message


@pytest.mark.parametrize("brackets", ["[" * 100_000, '{"results":' * 100_000, "[" * 100_000 + "]" * 100_000])
@pytest.mark.parametrize("name", ["bomb.json", "bomb.yaml"])
def test_brackets_without_end(brackets: str, name: str) -> None:
    """No recursion, no crash: refused."""
    portal, problems = build_portal([Source(name, brackets.encode())], no_reference)
    assert portal is None
    assert problems


# The fast reading


def both(name: str, text: str) -> tuple[Any, Any]:
    """The units of a text by both readings; None for the fast one where it leaves the matter to the other."""
    try:
        fast = list(stream(name, text.encode()))
    except Irregular:
        fast = None
    return fast, list(units_of(read_document(name, text.encode())))


@pytest.mark.parametrize(
    "text",
    [
        "results:\n  - a: 1\n    b: [x, {y: z}]\n  - ~\n  - []\n  - text\nother: null\nempty: []\nmap: {}\n",
        "- a\n- {b: c}\n- [d, [e]]\n",
        "results: []\n",
        "results:\n  - a: |\n      x\n       y\n    b: >\n      folded\n      text\n    c: 'q'\n    d: \"\\u00e9\"\n",
        "a: {b: {c: {d: [1, 2, {e: f}]}}}\nlist:\n- {}\n- [[]]\n",
    ],
)
def test_fast_and_thorough_yaml_agree(text: str) -> None:
    """The same units in the same order."""
    fast, thorough = both("x.yaml", text)
    assert fast == thorough


@pytest.mark.parametrize(
    "value",
    [
        {"results": [{"a": "é😀", "n": None, "l": [1.5, -2e9, 10**30], "m": {}}, [], "x"], "z": {"y": []}, "e": []},
        [],
        [{"a": []}, None, "t"],
        {"only": {"deep": [[[[]]]]}},
    ],
)
@pytest.mark.parametrize("indent", [None, 3])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_fast_and_thorough_json_agree(value: Any, indent: int | None, ascii_only: bool) -> None:
    """The same units in the same order; numbers stay as they are written."""
    fast, thorough = both("x.json", json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    assert fast == thorough


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\n",
        "a: *x\n",
        "a: !!str 1\n",
        "!!map {a: 1}\n",
        "r:\n  - {a: 1, a: 2}\n",
        "a: 1\na: 2\n",
        "r: [{<<: {b: 1}}]\n",
        "<<: {b: 1}\n",
        "r: [{[a]: b}]\n",
        "{a: b}: c\n",
        "a: 1\n---\nb: 2\n",
        "a: [\n",
        "text\n",
        "",
        "r:\n" + "".join("  " * n + "- \n" for n in range(1, 40)),
        'a: "-----BEGIN PRIV\\x41TE KEY-----"\n',
        "a: '-----BEGIN PRIVATE KEY-----'\n",
        'a: "-----BEGIN PRI\\\n  VATE KEY-----"\n',
        '{"a": "-----BEGIN PRIV\\u0041TE KEY-----"}',
        '{"r": [{"a": 1, "a": 2}]}',
        '{"a": 1, "a": 2}',
        '{"r": [NaN]}',
        '{"r": ["\\ud800"]}',
        '{"r": [1]} x',
        '{"r": [' + "[" * 40 + "]" * 40 + "]}",
    ],
)
def test_fast_reading_leaves_what_may_be_wrong(text: str) -> None:
    """Whatever there is to tell is told by the other reading; here it must only be noticed."""
    with pytest.raises(Irregular):
        list(stream("x.yaml", text.encode()))
