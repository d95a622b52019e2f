"""The options that every command has, and the words in which sizes, times and peers are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import Any

import click

from ..config import Entity, Limits, Timeouts, check_ae_title, parse_seconds, parse_size
from ..errors import InvalidArgument
from .logs import log_to_stderr
from .output import Output

__all__ = ["AE_TITLE", "PEER", "Parsed", "Settings", "common", "output_options"]

_CALLING = "DICOMNET"


class Parsed(click.ParamType[Any]):
    """A parameter that a function of `config` reads."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What click calls with the text from the command line, or with a default."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except InvalidArgument as error:
            self.fail(str(error), param, ctx)


SECONDS = Parsed("seconds", parse_seconds)
SIZE = Parsed("size", parse_size)
AE_TITLE = Parsed("title", check_ae_title)


def _peer(text: str) -> Entity:
    entity = Entity.parse(text)
    if entity.tls:
        raise InvalidArgument(f'"{text}": TLS is not supported yet', hint="Nothing was sent in the clear.")
    return entity


PEER = Parsed("peer", _peer)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the common options say.

    Attributes:
        ae_title: ours; None where it was not given.
        limits, timeouts: with what --max-pdu and --timeout change.
        output: where results go.
    """

    ae_title: str | None
    limits: Limits
    timeouts: Timeouts
    output: Output

    @property
    def calling(self) -> str:
        """Our AE title as a requestor."""
        return self.ae_title or _CALLING


def _all_timeouts(seconds: float) -> Timeouts:
    return Timeouts(**{field.name: seconds for field in fields(Timeouts)})


def _settings(aet: str | None, timeout: float | None, max_pdu: int | None, output: Output) -> Settings:
    try:
        limits = Limits() if max_pdu is None else replace(Limits(), max_pdu=max_pdu)
    except InvalidArgument as error:
        raise click.BadParameter(str(error), param_hint="--max-pdu") from error
    timeouts = Timeouts() if timeout is None else _all_timeouts(timeout)
    return Settings(aet, limits, timeouts, output)


_NETWORK = (
    click.option("-aet", "--aet", type=AE_TITLE, metavar="ME", help="Our own AE title."),
    click.option(
        "-to",
        "--timeout",
        type=SECONDS,
        metavar="SECONDS",
        help="The longest of each wait for the peer: 30, 500ms, 2m.",
    ),
    click.option(
        "-pdu", "--max-pdu", type=SIZE, metavar="SIZE", help="The largest PDU that the peer may send: 16384, 512k."
    ),
)
_OUTPUT = (
    click.option("--json", is_flag=True, help="One JSON object per line on standard output, the summary last."),
    click.option("-v", "--verbose", is_flag=True, help="Say what happens."),
    click.option("-d", "--debug", is_flag=True, help="Say everything, with tracebacks."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
)


def _decorated(function: Callable[..., Any], options: tuple[Callable[[Any], Any], ...]) -> Callable[..., Any]:
    for option in reversed(options):
        function = option(function)
    return function


def _output(json: bool, verbose: bool, debug: bool, quiet: bool) -> Output:
    verbosity = 2 if debug else 1 if verbose else -1 if quiet else 0
    log_to_stderr(verbosity)
    return Output(json=json, verbosity=verbosity)


def output_options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options about what is printed; it gets them as ``output``."""

    @wraps(function)
    def command(*args: Any, json: bool, verbose: bool, debug: bool, quiet: bool, **own: Any) -> int:
        return function(*args, output=_output(json, verbose, debug, quiet), **own)

    return _decorated(command, _OUTPUT)


def common(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that all commands on the network share; it gets them as ``settings``."""

    @output_options
    @wraps(function)
    def command(
        *args: Any, aet: str | None, timeout: float | None, max_pdu: int | None, output: Output, **own: Any
    ) -> int:
        return function(*args, settings=_settings(aet, timeout, max_pdu, output), **own)

    return _decorated(command, _NETWORK)
