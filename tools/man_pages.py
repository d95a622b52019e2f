"""Write the man pages of `dicomnet` from click's declarations: ``python tools/man_pages.py DIRECTORY``.

A page for the program and one for each command, in section 1, named as man(1) finds them: ``man dicomnet-store``.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dicomnet import __version__
from dicomnet.cli.app import dicomnet
from dicomnet.cli.exits import Exit


def main() -> int:
    """Write them; how many is printed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    pages = 0
    for name, text in man_pages():
        (directory / f"{name}.1").write_text(text, encoding="utf-8")
        pages += 1
    print(f"{pages} man pages in {directory}")
    return 0


def man_pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page."""
    root = click.Context(dicomnet, info_name="dicomnet")
    yield from _pages(dicomnet, root)


def _pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    name = context.command_path.replace(" ", "-")
    yield name, "\n".join(_page(command, context, name)) + "\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from _pages(found, click.Context(found, parent=context, info_name=child))


def _page(command: click.Command, context: click.Context, name: str) -> Iterator[str]:
    text = inspect.cleandoc(command.help or command.short_help or "").split("\f")[0]
    brief = (command.short_help or text.partition("\n\n")[0].replace("\n", " ")).rstrip(".")
    yield f'.TH {name.upper()} 1 "" "dicomnet {__version__}" "dicomnet"'
    yield from (".SH NAME", f"{_roff(name)} \\- {_roff(brief)}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", f".B {_roff(context.command_path)}", _roff(usage))
    if text:
        yield ".SH DESCRIPTION"
        yield _roff(text).replace("\n\n", "\n.PP\n")
    options = [one.get_help_record(context) for one in command.get_params(context)]
    shown: list[Any] = [one for one in options if one is not None]
    if shown:
        yield ".SH OPTIONS"
        for written, meaning in shown:
            yield from (".TP", f".B {_roff(written)}", _roff(meaning))
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                yield from (".TP", f".B {_roff(child)}", _roff(found.get_short_help_str(200)))
    yield from _exit_status()


def _exit_status() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code in Exit:
        yield from (".TP", f".B {int(code)}", _roff(code.name.lower().replace("_", " ")))


def _roff(text: str) -> str:
    """Text in which nothing is a request of roff's."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.split("\n"))


if __name__ == "__main__":
    raise SystemExit(main())
