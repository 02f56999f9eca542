"""What users read: links lead somewhere, commands and options are there, and what can be run is run."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from docs_material import ROOT, SHELL, blocks, documents, lines_of_commands, name_of, pattern_of, unknown_options
from jwsgate.files.loading import load_snapshot

each_document = pytest.mark.parametrize("document", documents(), ids=name_of)
_FENCES = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """What may stand behind `#`: the headings, as GitHub spells them in links."""
    headings = re.findall(r"^#+ (.*)$", _FENCES.sub("", document.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links(document: Path) -> None:
    """Files and headings that are linked to are there."""
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", document.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        linked = document.parent / name if name else document
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@each_document
def test_named_files(document: Path) -> None:
    """Files of the project that are named are there."""
    named = re.findall(r"`((?:policies|certs|bench|docs|scripts|tests)/[\w./-]+\.\w+)`", document.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@each_document
def test_commands_are_run(document: Path) -> None:
    """Every block of commands is run by a test (tests/e2e/test_docs.py), or says why not."""
    text = document.read_text("utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(blocks(text)), "a block that cannot be read"
    unmarked = [block.line for block in blocks(text) if block.language in SHELL and not block.mark]
    assert unmarked == []


@each_document
def test_options_exist(document: Path) -> None:
    """Every option that is given to a command is one of its own."""
    assert unknown_options(document.read_text("utf-8")) == []


POLICIES = {
    f"{name_of(document)}:{block.line}": block.text
    for document in documents()
    for block in blocks(document.read_text("utf-8"))
    if block.language == "yaml" and "\nroutes:" in f"\n{block.text}"
}


@pytest.mark.parametrize("place", POLICIES)
def test_policies_load(place: str, tmp_path: Path) -> None:
    """Each policy that is shown is one that works, but for the files that it names."""
    text = re.sub(r"^    certificates:.*\n", "", POLICIES[place], flags=re.MULTILINE)
    (tmp_path / "policy.yaml").write_text(text)
    (tmp_path / "portal.yaml").write_text("results: []")
    assert load_snapshot(tmp_path / "portal.yaml", [tmp_path / "policy.yaml"], time.time()).revision


def test_every_document_is_found() -> None:
    """Links lead from the README to each of the others."""
    seen: set[Path] = set()
    found = {documents()[0]}
    while found - seen:
        document = (found - seen).pop()
        seen.add(document)
        links = re.findall(r"\]\(((?!https?:)[^)#\s]+)", document.read_text("utf-8"))
        found |= {(document.parent / link).resolve() for link in links if link.endswith(".md")}
    assert set(documents()) <= found


def test_what_is_found() -> None:
    """The check of options sees commands in blocks, in prose and behind others."""
    text = (
        "`jwsgate run --a` and\n```sh\njwsgate lint \\\n  --b\nx | jwsgate portal list --c  # --d\n./run_proxy.sh --e\n"
    )
    found = [" ".join(line.split()) for line in lines_of_commands(text)]
    assert found == ["run --a", "lint --b", "portal list --c", "run --e"]
    assert unknown_options(f"{text} jwsgate run --listen\n`jwsgate rnu --listen`") == [
        "run: --a", "lint: --b", "portal list: --c", "run: --e", "rnu",
    ]  # fmt: skip


def test_blocks() -> None:
    """Marks, languages, and what is printed, only where it follows at once."""
    text = (
        "a\n<!-- run: exit 1, some -->\n```sh\nfalse\n```\n\n```text\nno\n```\n\n"
        "<!-- file: a.yaml -->\n```yaml\na: b\n```\nprose\n```text\nc\n```\n"
    )
    first, _, file, _ = blocks(text)
    assert (first.verb, first.words, first.text, first.printed, first.line) == (
        "run", ["exit 1", "some"], "false\n", "no\n", 3,
    )  # fmt: skip
    assert (file.verb, file.words, file.printed) == ("file", ["a.yaml"], None)


@pytest.mark.parametrize(
    ("printed", "output", "fits"),
    [
        pytest.param("a … c", "a b c\n", True, id="within-a-line"),
        pytest.param("a … c", "a b\n c\n", False, id="not-across-lines"),
        pytest.param("a\n…\nc", "a\nb\nb\nc\n", True, id="lines"),
        pytest.param("a\n…\nc", "a\nc\n", True, id="no-lines"),
        pytest.param("a.c", "abc\n", False, id="literal"),
        pytest.param("a", "a\nb\n", False, id="more-lines"),
    ],
)
def test_patterns(printed: str, output: str, fits: bool) -> None:
    """What a document shows fits only what is printed so."""
    assert (pattern_of(printed).fullmatch(output) is not None) == fits
