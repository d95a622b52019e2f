"""``dicomnet addin``: begins a package with an add-in, and a test of it that passes."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ..errors import InvalidArgument, escaped
from .exits import Exit
from .options import output_options
from .output import Output

__all__ = ["command"]

_PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
description = "An add-in for dicomnet servers"
requires-python = ">=3.11"
dependencies = ["dicomnet[server]"]

[project.entry-points."dicomnet.addins"]
{distribution} = "{module}:{title}"

[tool.setuptools]
py-modules = ["{module}"]
"""

_MODULE = '''"""The add-in `{distribution}`: answers C-ECHO, and queries of the modality worklist."""

from dicomnet.server import Table, hookimpl
from dicomnet.status import Status


class {title}:
    """Answers C-ECHO, and every query of the worklist with one entry."""

    requires = "0.1"

    class Settings(Table):
        """``[addin.{distribution}]`` of a server's settings."""

        patient_name: str = "HELLO^WORLD"
        """Whom the one entry is about."""

    @hookimpl
    def start(self, context):
        self.context = context

    @hookimpl
    def services(self, registry):
        registry.on_echo(self.echo)
        registry.on_find("WORKLIST")(self.find)

    def echo(self, request):
        self.context.publish("echo", calling=request.calling)
        return Status.SUCCESS

    def find(self, request):
        yield {{"PatientName": self.context.settings.patient_name}}
'''

_TEST = """import dicomnet as dn
from dicomnet.testing.servers import serve

from {module} import {title}


def test_it_answers():
    with serve({{"{distribution}": {title}()}}) as server, dn.client.Client(server.peer) as client:
        assert client.echo().is_success
        matches = list(client.find(model="WORKLIST", PatientName=""))
        assert [str(match.dataset.PatientName) for match in matches] == ["HELLO^WORLD"]
"""

_README = """# {distribution}

An add-in for dicomnet servers.

    pip install -e . pytest
    python -m pytest
    dicomnet server create hello --aet HELLO --set 'addins.enable=["{distribution}"]'
    dicomnet server run hello
    dicomnet echo HELLO@localhost:11112
"""


@click.group("addin")
def command() -> None:
    """Start a new add-in for a server."""


@command.command("new")
@click.argument("name", metavar="NAME")
@click.option(
    "--in", "place", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="DIR",
    help="Where its folder is made.  [default: here]",
)  # fmt: skip
@output_options
def new(name: str, place: Path, output: Output) -> int:
    """Write a small package with an add-in, and a test of it that passes.

    NAME is lower case, as in "my-addin". `pip install -e NAME` makes it known; a server runs it once it is enabled.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InvalidArgument(
            f'"{escaped(name)}" is no name for an add-in', hint='Lower case letters, digits and hyphens: "my-addin".'
        )
    folder = place / name
    if folder.exists():
        raise InvalidArgument(f"{folder} is there already")
    module = name.replace("-", "_")
    words = {"distribution": name, "module": module, "title": "".join(part.capitalize() for part in name.split("-"))}
    files = {"pyproject.toml": _PROJECT, f"{module}.py": _MODULE, f"test_{module}.py": _TEST, "README.md": _README}
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file).write_text(text.format(**words), encoding="utf-8")
    output.summary(f"made {folder}; try: cd {folder} && python -m pytest", folder=str(folder), files=list(files))
    return Exit.DONE
