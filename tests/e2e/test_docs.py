"""The README and docs/, followed from top to bottom as a reader would; only the ports are replaced by free ones."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from docs_material import ROOT, Block, blocks, documents, name_of, pattern_of, ports_in
from e2e import gates
from e2e.upstream import RecordingUpstream

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian package curl)"),
]

SECONDS = 60
_SERVES = re.compile(r"listening (?:on|at)|Serving HTTP on")


@dataclass(slots=True)
class Reader:
    """Somebody who does what a document says, in a folder of their own."""

    folder: Path
    home: Path
    ports: dict[str, int]
    printed: dict[str, str] = field(default_factory=dict)
    """What named blocks have printed; those in the background, until they served."""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def here(self, text: str) -> str:
        """A text with free ports in place of the document's."""
        for port, free in self.ports.items():
            text = re.sub(rf"(?<=[:= ]){port}\b", str(free), text)
        return text

    def log(self, name: str) -> str:
        """What a named block has printed so far."""
        return (self.folder / f".{name}.log").read_text("utf-8", "replace")

    def follow(self, block: Block) -> None:
        """Do what the document asks for here."""
        match block.verb:
            case "file":
                (self.folder / block.words[0]).write_text(self.here(block.text))
            case "run":
                self._run(block)
            case _:
                assert block.verb == "shown" or not block.mark, block.mark

    def stop(self) -> None:
        """End all that runs in the background."""
        running = [process for process in self.started if process.poll() is None]
        for process in running:
            os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            process.wait(20)

    def _run(self, block: Block) -> None:
        settings = dict(word.split("=", 1) for word in block.words if "=" in word)
        names = [word for word in block.words if re.fullmatch(r"[a-z-]+", word) and word != "background"]
        (code,) = [int(word.split()[1]) for word in block.words if word.startswith("exit ")] or [0]
        name = names[0] if names else f"line-{block.line}"
        with (self.folder / f".{name}.log").open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.here(block.text)],
                cwd=self.folder,
                env=gates.environment(self.home)
                | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
                | {key: self.here(f"={value}")[1:] for key, value in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        expected = pattern_of(self.here(block.printed)) if block.printed else None
        self.started.append(process)
        if "background" in block.words:
            self._wait_until(process, name, expected or _SERVES)
        else:
            process.wait(SECONDS)
            assert process.returncode == code, f"line {block.line}: exit {process.returncode}\n{self.log(name)}"
            assert expected is None or expected.fullmatch(self.log(name).strip() + "\n"), self.log(name)
        self.printed[name] = self.log(name)

    def _wait_until(self, process: subprocess.Popen[bytes], name: str, says: re.Pattern[str]) -> None:
        deadline = time.monotonic() + SECONDS
        while not says.search(self.log(name)):
            assert process.poll() is None, self.log(name)
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.05)


@contextlib.contextmanager
def following(document: Path, folder: Path, home: Path, given: dict[str, int] | None = None) -> Iterator[Reader]:
    """Follow a document; what it starts runs until the context closes. `given` are ports that are served already."""
    text = document.read_text("utf-8")
    reader = Reader(folder, home, {port: gates.free_port() for port in ports_in(text)} | (given or {}))
    try:
        for block in blocks(text):
            reader.follow(block)
        yield reader
    finally:
        reader.stop()


def curl(port: int, scheme: str = "http") -> str:
    """The status of a request without a JWS."""
    return subprocess.run(
        [
            *("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}"),
            *("-H", "X-IBM-Client-Id: 479b3df9-380e-4bda-8cc1-92718c88f9cd"),
            f"{scheme}://127.0.0.1:{port}/orders/17",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout


def runs(document: Path) -> bool:
    """Whether a document has anything to run."""
    return any(block.verb == "run" for block in blocks(document.read_text("utf-8")))


@pytest.mark.parametrize("document", [*filter(runs, documents()[1:])], ids=name_of)
def test_document(document: Path, tmp_path: Path, home: Path) -> None:
    """Every block that is to be run does what the document says, in an empty folder."""
    with following(document, tmp_path, home):
        pass


def test_readme(tmp_path: Path, home: Path, upstream: RecordingUpstream) -> None:
    """The README in a checkout: nothing reaches the upstream without a JWS, whichever way the gate was started."""
    for entry in ROOT.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    with following(documents()[0], tmp_path, home, {"9000": upstream.port}) as reader:
        no_certificate = (
            '{ "httpCode":"500", "httpMessage":"Internal Error", '
            '"moreInformation":"application doesn\'t have a client cert registered" }'
        )
        (demo,) = [block for block in blocks(documents()[0].read_text("utf-8")) if "demo" in block.words]
        by_http = subprocess.run(
            ["bash", "-c", reader.here(demo.text).replace("https:", "http:")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for output in (reader.printed["demo"], by_http):
            match = re.fullmatch(
                r'\{"iss":"tvo","aud":"the world","exp":\d+,"iat":\d+,"t":"t"\}' + re.escape(no_certificate) + "(.*)",
                output,
                re.DOTALL,
            )
            assert match, output
            assert '"path": "/orders/17"' in match[1]

        assert [curl(reader.ports["8444"]), curl(reader.ports["8444"], "https")] == ["500", "500"]
        assert reader.log("sidecar").count("rejected: jws_missing") == 2

        assert curl(reader.ports["8445"]) == "500"
        token = re.search(r"token=(\w+)", reader.log("web"))
        assert token
        page = f"http://127.0.0.1:{reader.ports['8081']}/flows?token={token[1]}"
        flows = subprocess.run(["curl", "-s", page], capture_output=True, text=True, check=True).stdout
        assert "jws_missing" in flows

        assert curl(reader.ports["8446"]) == "500"
        assert "rejected: jws_missing" in reader.printed["ci"]
    upstream.assert_untouched()
