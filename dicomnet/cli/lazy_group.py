"""`LazyGroup`: commands whose modules are loaded when one of them is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

__all__ = ["Lazy", "LazyGroup"]


class Lazy(NamedTuple):
    """A command that is not loaded yet.

    Attributes:
        place: where it is, as ``package.module:attribute``.
        short_help: what it does, in one line of the group's help.
        extra: the extra of the distribution that installs what it needs; "" where it needs nothing beside click.
    """

    place: str
    short_help: str
    extra: str = ""


class LazyGroup(click.Group):
    """A group that knows its commands by name, and loads the module of the one that runs.

    Help and completion of the group itself load none of them.

    Args:
        lazy: the commands, in the order of the help.
        settings: everything else that `click.Group` takes.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the help."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, loaded now.

        Raises:
            UsageError: what it needs is not installed.
        """
        if cmd_name not in self.lazy:
            return None
        place, _, extra = self.lazy[cmd_name]
        module, _, name = place.partition(":")
        try:
            command: click.Command = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if not extra or (error.name or "").partition(".")[0] == "dicomnet":
                raise
            raise click.UsageError(
                f"`{ctx.command_path} {cmd_name}` needs the package {error.name}: pip install 'dicomnet[{extra}]'"
            ) from error
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the names that are like the one that there is not."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.lazy, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from what is said of each here."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.short_help) for name, one in self.lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What a shell may go on with: commands, and options of the group itself."""
        own = [
            CompletionItem(name, help=one.short_help) for name, one in self.lazy.items() if name.startswith(incomplete)
        ]
        return own + click.Command.shell_complete(self, ctx, incomplete)
