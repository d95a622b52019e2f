"""The parameters of a command, declared once: read here where they are written plainly, by click where they are not.

Loading click takes longer than everything else that a short command does. So what needs nobody's help is read by the
few lines of `Command.plain`; help, completion, abbreviations, and whatever is wrong are click's, which gets the same
declarations from `explain`. The decorators are named, and take what they take, as click's do.
"""

from __future__ import annotations

import os

from .._typing import Any, Callable, Sequence

__all__ = [
    "Body",
    "Choice",
    "Command",
    "Group",
    "Kind",
    "Parameter",
    "Path",
    "UsageError",
    "Whole",
    "argument",
    "command",
    "option",
]

#: What a command does; gives the exit code.
Body = Callable[..., int]


_HELP = ("-h", "--help")


class UsageError(Exception):
    """The command line is wrong in a way that only the command itself sees.

    Args:
        message: one sentence without its full stop.
        code: the exit code.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Kind:
    """How the text of a parameter becomes its value.

    Args:
        name: what people call it.
        read: makes the value; raises `errors.InvalidArgument`, with words for people.
    """

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self.read = read


class Whole(Kind):
    """A whole number within bounds."""

    def __init__(self, *, min: int, max: int | None = None) -> None:
        super().__init__("integer", self._read)
        self.least, self.most = min, max

    def _read(self, text: str) -> int:
        value = int(text)
        if value < self.least or (self.most is not None and value > self.most):
            raise ValueError(text)
        return value


class Choice(Kind):
    """One of some words."""

    def __init__(self, words: Sequence[str], *, case_sensitive: bool = True) -> None:
        super().__init__("choice", self._read)
        self.words, self.case_sensitive = words, case_sensitive

    def _read(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(text)
        return text


class Path(Kind):
    """A path. Whether it can be read or written shows when that is tried, and is said then."""

    def __init__(self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__("path", self._read)
        self.exists, self.file_okay, self.dir_okay = exists, file_okay, dir_okay

    def _read(self, text: str) -> str:
        wrong = (
            (self.exists and not os.path.exists(text))
            or (not self.file_okay and os.path.isfile(text))
            or (not self.dir_okay and os.path.isdir(text))
        )
        if wrong:
            raise ValueError(text)
        return text



class Parameter:
    """An option or an argument.

    Args:
        is_option: else an argument.
        words: how it is written, and how the command calls it, as click has it.
        kind: of its value.
        settings: everything else, as click has it.
    """

    def __init__(self, is_option: bool, words: tuple[str, ...], kind: Kind | None, settings: dict[str, Any]) -> None:
        self.is_option = is_option
        self.words = words
        self.kind = kind
        self.settings = settings
        self.spellings = [word for word in words if not word.isidentifier()] if is_option else []
        own = [word for word in words if word.isidentifier()]
        longest = max(self.spellings, key=lambda word: word[:2] == word[:1] * 2, default="")
        self.name = (own[0] if own else longest.lstrip("-+")).replace("-", "_")
        self.is_flag = bool(settings.get("is_flag"))
        self.is_many = bool(settings.get("multiple")) or settings.get("nargs") == -1

    @property
    def default(self) -> Any:
        """Its value where it is not written."""
        return self.settings.get("default", () if self.is_many else False if self.is_flag else None)

    @property
    def is_required(self) -> bool:
        """Whether it must be written."""
        return bool(self.settings.get("required", not self.is_option))

    def read(self, text: str) -> Any:
        """Its value."""
        return self.kind.read(text) if self.kind else text


def option(*words: str, type: Kind | None = None, **settings: Any) -> Callable[[Body], Body]:
    """Give a command an option; see `Parameter`."""
    return _adding(Parameter(True, words, type, settings))


def argument(*words: str, type: Kind | None = None, **settings: Any) -> Callable[[Body], Body]:
    """Give a command an argument; see `Parameter`."""
    return _adding(Parameter(False, words, type, settings))


def _adding(parameter: Parameter) -> Callable[[Body], Body]:
    def decorate(function: Body) -> Body:
        # The decorators run from the last to the first.
        function.__dict__.setdefault("parameters", []).insert(0, parameter)
        return function

    return decorate


def command(name: str, *, short_help: str) -> Callable[[Body], Command]:
    """Make a command of a function with its options and arguments."""
    return lambda body: Command(name, body, short_help, getattr(body, "parameters", []))


class Command:
    """A command: a function, and how its parameters are written.

    Args:
        name: how people call it.
        body: what runs, and gives the exit code; its docstring is the help.
        short_help: one line.
        parameters: in the order of the help.
    """

    def __init__(self, name: str, body: Body, short_help: str, parameters: list[Parameter]) -> None:
        self.name = name
        self.body = body
        self.short_help = short_help
        self.parameters = parameters

    def plain(self, words: Sequence[str]) -> Callable[[], int] | None:
        """The command with the parameters that these words say, ready to run; None where click is to look at them."""
        spelled = {spelling: one for one in self.parameters for spelling in one.spellings}
        found: dict[str, Any] = {}
        places: list[str] = []
        rest = iter(words)
        try:
            for word in rest:
                parameter = spelled.get(word)
                if parameter is None:
                    if word[:1] in ("-", "+"):
                        return None
                    places.append(word)
                elif parameter.is_flag:
                    found[parameter.name] = True
                else:
                    value = parameter.read(next(rest))
                    found[parameter.name] = (*found.get(parameter.name, ()), value) if parameter.is_many else value
            self._place(places, found)
        except (ValueError, StopIteration):
            return None
        return lambda: self.body(**self._complete(found))

    def _place(self, texts: list[str], found: dict[str, Any]) -> None:
        """Read what is no option."""
        for parameter in self.parameters:
            if not parameter.is_option and texts:
                mine, texts = (texts, []) if parameter.is_many else (texts[:1], texts[1:])
                values = tuple(map(parameter.read, mine))
                found[parameter.name] = values if parameter.is_many else values[0]
        if texts or any(one.is_required and one.name not in found for one in self.parameters):
            raise ValueError

    def _complete(self, found: dict[str, Any]) -> dict[str, Any]:
        return {
            one.name: found.get(one.name, one.default)
            for one in self.parameters
            if one.settings.get("expose_value", True)
        }


class Group:
    """Commands under a common name.

    Args:
        name: how people call it.
        help: what they have in common.
        short_help: one line.
        commands: in the order of the help.
        default: the one that is meant where the first word names none; without one, that is wrong.
    """

    def __init__(
        self, name: str, help: str, short_help: str, commands: Sequence[Command], default: str | None = None
    ) -> None:
        self.name = name
        self.help = help
        self.short_help = short_help
        self.commands = {command.name: command for command in commands}
        self._default = default

    def named(self, words: Sequence[str]) -> Sequence[str]:
        """The words, with the command's name before them where it may be left out."""
        if self._default is None or not words or words[0] in self.commands or words[0] in _HELP:
            return words
        return [self._default, *words]

    def plain(self, words: Sequence[str]) -> Callable[[], int] | None:
        """As of the command that the first word names."""
        words = self.named(words)
        command = self.commands.get(words[0]) if words else None
        return command.plain(words[1:]) if command else None
