"""The documentation is true: every block of Python and every command on its pages is run, in order, as it stands.

The blocks of a page share one namespace and one directory. A block whose first line is a comment with a file name is
saved as that file. Of shell blocks each command runs; one that ends in ``&`` goes on until the page ends. Ports are
replaced by free ones, and ``pacs.local`` by an archive that is there. An HTML comment that begins with ``run`` prepares
what a page takes for granted.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import peers
import pytest
from pydicom import dcmread
from rig import keys

import dicomnet as dn
from dicomnet.testing import Provider

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Excerpts of the source, which run where they come from.
EXCERPTS = {"style.md", "architecture.md", "design.md"}
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.name not in EXCERPTS)]
# What sets a machine up or goes on for minutes; CONTRIBUTING says so, and .ci/run does it.
NOT_RUN = ("pip ", "git ", "cd ", "make ", "pytest benchmarks", "python3 -m venv", "source ")
# Whose programs and servers take seconds of processor time.
COSTLY = {
    "README.md",
    "docs/conform.md",
    "docs/how-to/archive.md",
    "docs/how-to/availability.md",
    "docs/how-to/benchmark.md",
    "docs/how-to/commitment.md",
    "docs/how-to/media.md",
    "docs/how-to/print.md",
    "docs/how-to/query.md",
    "docs/how-to/retrieve.md",
    "docs/how-to/ups.md",
    "docs/how-to/web.md",
    "docs/how-to/worklist.md",
    "docs/router/first-router.md",
    "docs/router/operate.md",
    "docs/router/rules.md",
    "docs/server/first-add-in.md",
    "docs/server/operate.md",
    "docs/tutorial.md",
    "docs/workstation/index.md",
}
PATIENCE = 30.0

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|^<!-- run\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
TREE = re.compile(r"^```\{toctree\}\n((?::[^\n]*\n)*)(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"\b(localhost:|0\.0\.0\.0:|port=|web=)([1-9]\d*)")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the commands are for a POSIX shell")


def marked(pages: list[Path]) -> list[object]:
    """The pages by their names; the costly ones are for `make test-long`."""
    names = [page.relative_to(ROOT).as_posix() for page in pages]
    assert set(names) >= COSTLY
    marks = [pytest.mark.long if name in COSTLY else () for name in names]
    return [pytest.param(page, id=name, marks=mark) for page, name, mark in zip(pages, names, marks, strict=True)]


class Block(NamedTuple):
    """Something to run, and the line of the page on which it begins."""

    language: str
    code: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1] or "python", found[2] or found[3] or "", text.count("\n", 0, found.start()) + 1)
        for found in BLOCK.finditer(text)
    ]


def samples(directory: Path) -> list[Path]:
    """A few real files, as somebody has them in a folder."""
    directory.mkdir()
    names = ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "examples_rgb_color.dcm")
    found = [path for path in peers.sample_files() if path.name in names]
    return [Path(shutil.copy(path, directory)) for path in found]


class Reader:
    """Runs the blocks of a page, as somebody would who types them."""

    def __init__(self, page: Path, archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page, self.archive, self.monkeypatch = page, archive, monkeypatch
        self.namespace: dict[str, object] = {"__name__": "__docs__"}
        self.running: list[subprocess.Popen[str]] = []
        self.ports: dict[str, str] = {}
        self.environment = os.environ | {"PATH": f"{self._programs()}{os.pathsep}{os.environ['PATH']}"}

    def _programs(self) -> str:
        """A directory in which `dicomnet` and `python` are those under test."""
        directory = Path("bin").absolute()
        directory.mkdir()
        for name, arguments in (("dicomnet", "-m dicomnet"), ("python", "")):
            program = directory / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            program.chmod(0o755)
        return str(directory)

    def run(self, block: Block) -> None:
        code = self._placed(block.code)
        if block.language == "sh":
            for line in re.sub(r"\\\n\s*", "", code).splitlines():
                if line.strip() and not line.lstrip().startswith(("#", *NOT_RUN)):
                    self._command(line)
        elif name := re.match(r"# ([\w/]+\.\w+)\n", code):
            Path(name[1]).write_text(code, encoding="utf-8")
        elif block.language == "python":
            self._python(code, block.line)

    def _placed(self, code: str) -> str:
        """The same with addresses that are there, and ports that are free."""
        address = self.archive.partition("@")[2]
        code = code.replace("@pacs.local:11112", f"@{address}").replace("pacs.local:11112", self.archive)
        code = code.replace("pacs.local:2762", "localhost:2762")
        return PORT.sub(lambda found: found[1] + self.ports.setdefault(found[2], str(peers.free_port())), code)

    def _command(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.monkeypatch.setenv(name, value)
            self.environment[name] = value
            return
        assert words[0] in ("dicomnet", "python"), f"{self.page.name}: {line}"
        if words[-1] == "&":
            self.running.append(subprocess.Popen(words[:-1], env=self.environment, stdout=subprocess.PIPE, text=True))
            assert "listening" in self.running[-1].stdout.readline(), f"{self.page.name}: {line}"
            return
        done = subprocess.run(["sh", "-c", line], env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{self.page.name}: {line}\n{done.stdout}{done.stderr}"

    def _python(self, code: str, line: int) -> None:
        code = "\n" * line + code
        compiled = compile(code, str(self.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(compiled, self.namespace))  # noqa: S307 our own page
        else:
            exec(compiled, self.namespace)  # noqa: S102 our own page

    def close(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGINT)
        for process in self.running:
            process.communicate(timeout=PATIENCE)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Provider]:
    """What the pages call pacs.local: it has studies, a worklist and a destination, and commits what it gets."""
    instances = samples(tmp_path / "archive")
    first = dcmread(instances[0])
    match = keys(
        PatientName=first.PatientName,
        PatientID=first.PatientID,
        StudyDate="20260102",
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=first.SeriesInstanceUID,
        SOPInstanceUID=first.SOPInstanceUID,
        SOPClassUID=first.SOPClassUID,
        AccessionNumber="A1",
        Modality="CT",
        ModalitiesInStudy="CT",
        QueryRetrieveLevel="STUDY",
        RetrieveAETitle="ARCHIVE",
        InstanceAvailability="ONLINE",
        ScheduledProcedureStepSequence=[keys(ScheduledProcedureStepID="S1", Modality="CT")],
    )
    with Provider("WS1") as workstation:
        destinations = {"WS1": dn.Entity.parse(workstation.peer)}
        with Provider("ARCHIVE", matches=[match], instances=instances, destinations=destinations) as provider:
            yield provider


@pytest.mark.deadline(180)
@pytest.mark.parametrize("page", marked(PAGES))
def test_every_example_runs(page: Path, archive: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if page.name != "tutorial.md":  # which begins with nothing
        samples(here / "studies")
    reader = Reader(page, archive.peer, monkeypatch)
    try:
        for block in blocks_of(page):
            reader.run(block)
    finally:
        reader.close()


def test_nothing_escapes_for_want_of_a_language() -> None:
    """A block of Python or of commands is marked as one, so that it is run."""
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            assert line not in ("```bash", "```console", "```shell", "```py"), f"{page.name}:{number}"


def test_every_page_is_in_the_site() -> None:
    """From the contents on the first page, all others can be reached."""
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        trees = TREE.findall(page.read_text(encoding="utf-8"))
        entries = [entry for _, tree in trees for entry in tree.split()]
        waiting += [page.parent / f"{entry}.md" for entry in entries]
    assert reached == set(DOCS.rglob("*.md"))


@pytest.mark.parametrize("package", [dn, dn.client, dn.client.aio], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package: object) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^\.\. automodule:: ([\w.]+)$", pages, re.MULTILINE))
    homes = {name: getattr(package, name) for name in package.__all__ if not name.startswith("_")}
    homes.pop("aio", None)  # a package: its names are in the reference, and its own parametrization here
    missing = [
        name
        for name, thing in homes.items()
        if not {getattr(thing, "__module__", None), getattr(thing, "__name__", None)} & documented
    ]
    assert missing == []
