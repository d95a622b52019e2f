"""The options that every command has, and the words in which sizes, times and peers are written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from ..config import Entity, Limits, Timeouts, check_ae_title, parse_seconds, parse_size
from ..errors import InvalidArgument
from ..net.tls import TLS
from ..protocol.peer_profile import Peer
from ..protocol.seen import PDUSeen, Seen, TransitionSeen
from ..protocol.trace import ProtocolTrace
from .logs import log_to_stderr
from .output import Output

__all__ = [
    "ADDRESS",
    "AE_TITLE",
    "DIR",
    "DIRECTORY",
    "DRAIN",
    "FILE",
    "NAME",
    "PATH",
    "PEER",
    "SECONDS",
    "SIZE",
    "Decorator",
    "Parsed",
    "Settings",
    "command_words",
    "common",
    "output_options",
    "stacked",
    "tls_options",
]

_CALLING = "DICOMNET"
_DATA_TF = 4  # PDU type of P-DATA-TF

T = TypeVar("T")
_F = TypeVar("_F", bound=Callable[..., Any])
#: What gives a command an option or an argument.
Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


class Parsed(click.ParamType[T]):
    """A parameter whose text a function reads; what it raises as `errors.InvalidArgument` is told as it is.

    Args:
        name: what people call it.
        parse: makes the value of the text.
        words: gives what a shell may complete it with.
    """

    def __init__(
        self, name: str, parse: Callable[[str], T], words: Callable[[], Iterable[str]] = tuple[str, ...]
    ) -> None:
        self.name = name
        self._parse = parse
        self._words = words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Those of its words that begin so."""
        return [CompletionItem(word) for word in self._words() if word.startswith(incomplete)]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """What click calls with the text from the command line, or with a default, which is none."""
        if not isinstance(value, str):
            return cast(T, value)
        try:
            return self._parse(value)
        except InvalidArgument as error:
            self.fail(str(error), param, ctx)


def command_words(text: str) -> list[str]:
    """The words of a command, as a shell would read them.

    Raises:
        InvalidArgument: a quotation does not end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"{text} cannot be read: {str(error).lower()}") from error


SECONDS = Parsed("seconds", parse_seconds)
DRAIN = Parsed("seconds", lambda text: 0.0 if text.strip() == "0" else parse_seconds(text))  # 0 waits for nothing
SIZE = Parsed("size", parse_size)
AE_TITLE = Parsed("title", check_ae_title)


def _peer(text: str) -> Peer:
    """An address; or a name, of which none has one of these characters."""
    if not text or any(sign in text for sign in ":@/[]"):
        return Peer(Entity.parse(text))
    from .peer_type import known

    return known(text)


def _names() -> Iterable[str]:
    """Of the peers that are known; none where a file is wrong, which a command says."""
    from ..client import peer_directory

    try:
        return peer_directory.load()
    except InvalidArgument:
        return ()


PEER = Parsed("peer", _peer, _names)
ADDRESS = Parsed("peer", lambda text: _peer(text).address(), _names)
# Whether a file can be read or written shows when that is tried, and is said then.
PATH = click.Path(readable=False)
DIRECTORY = click.Path(file_okay=False, readable=False)
FILE = click.Path(exists=True, dir_okay=False, readable=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the common options say.

    Attributes:
        ae_title: ours; None where it was not given.
        limits, timeouts: with what --max-pdu and --timeout change.
        tls: of the --tls options; None where there is none of them.
        output: where results go.
        tap: what shows or logs each PDU and message, for --log, -v and -d; None without them.
    """

    ae_title: str | None
    limits: Limits
    timeouts: Timeouts
    tls: TLS | None
    output: Output
    tap: ProtocolTrace | None = None

    def calling(self, peer: Peer) -> str:
        """Our AE title as a requestor: as it was given, else as peers.toml says for this peer."""
        return self.ae_title or peer.calling or _CALLING


def _all_timeouts(seconds: float) -> Timeouts:
    # `busy_poll` is how long a processor is kept busy, not how long a peer is waited for.
    waits = dict.fromkeys((one.name for one in fields(Timeouts) if one.name != "busy_poll"), seconds)
    return Timeouts(**waits)


def _tls(
    ca: str | None, cert: str | None, key: str | None, password: str | None, crl: str | None, name: str | None
) -> TLS | None:
    """What the --tls options say; a name alone says that TLS is wanted, too."""
    if not any((ca, cert, key, password, crl, name)):
        return None
    if (key or password) and not cert:
        raise click.UsageError("--tls-key is the key of a certificate: --tls-cert is missing")
    any_name = name == "any"
    return TLS(
        ca=ca,
        cert=cert,
        key=key,
        key_password=None if password is None else _first_line(password),
        crl=crl,
        server_name=None if any_name else name,
        check_name=not any_name,
    )


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"Invalid value for --tls-password-file: {path}: cannot be read: {error}") from error


def _tap(log: str | None, output: Output) -> ProtocolTrace | None:
    """What shows or logs what goes over the wire."""
    if log is None and output.verbosity < 1:
        return None
    from ..client.log import MessageLog, text_of

    written = None
    if log is not None:
        written = MessageLog(log)
        click.get_current_context().call_on_close(written.close)
    if output.verbosity < 1:
        return written

    def show(seen: Seen) -> None:
        if written is not None:
            written.tell(seen)
        data = isinstance(seen, TransitionSeen) or (isinstance(seen, PDUSeen) and seen.type == _DATA_TF)
        if output.verbosity >= 2 or not data:
            output.trace(f"{seen.association.peer} #{seen.association.number}: {text_of(seen)}")

    return ProtocolTrace(show)


def _settings(
    aet: str | None, timeout: float | None, max_pdu: int | None, tls: TLS | None, output: Output, log: str | None
) -> Settings:
    try:
        limits = Limits() if max_pdu is None else Limits(max_pdu=max_pdu)
    except InvalidArgument as error:
        raise click.UsageError(f"Invalid value for --max-pdu: {error}") from error
    timeouts = Timeouts() if timeout is None else _all_timeouts(timeout)
    return Settings(aet, limits, timeouts, tls, output, _tap(log, output))


def stacked(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """Several options and arguments as one decorator, in the order in which the help lists them."""

    def decorate(function: _F) -> _F:
        for one in reversed(decorators):
            function = one(function)
        return function

    return decorate


#: The directory that a command is about, and the name of what it is about in there.
DIR = click.argument("directory", type=DIRECTORY, metavar="DIR")
NAME = click.argument("name", metavar="NAME")
_NETWORK = stacked(
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
    click.option(
        "--log", type=PATH, metavar="FILE", help="Write each PDU and message to FILE, which `dicomnet dump` shows."
    ),
)
_TLS = stacked(
    click.option("--tls-ca", type=FILE, metavar="FILE", help="TLS: the authorities behind peers' certificates."),
    click.option("--tls-cert", type=FILE, metavar="FILE", help="TLS: our certificate."),
    click.option("--tls-key", type=FILE, metavar="FILE", help="TLS: its private key, if in a file of its own."),
    click.option("--tls-password-file", type=FILE, metavar="FILE", help="TLS: the key's password is its first line."),
    click.option("--tls-crl", type=FILE, metavar="FILE", help="TLS: the authorities' revocation lists."),
    click.option(
        "--tls-name", metavar="NAME", help='TLS: the name that the peer\'s certificate must have, or "any".'
    ),
)  # fmt: skip
_OUTPUT = stacked(
    click.option("--json", is_flag=True, help="One JSON object per line on standard output, the summary last."),
    click.option("-v", "--verbose", is_flag=True, help="Tell what happens, and show each message."),
    click.option("-d", "--debug", is_flag=True, help="Tell everything, with each PDU and tracebacks."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
)


def _output(json: bool, verbose: bool, debug: bool, quiet: bool) -> Output:
    verbosity = 2 if debug else 1 if verbose else -1 if quiet else 0
    log_to_stderr(verbosity)
    return Output(json=json, verbosity=verbosity)


def output_options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options about what is printed; it gets them as ``output``."""

    @wraps(function)
    def command(*args: Any, json: bool, verbose: bool, debug: bool, quiet: bool, **own: Any) -> int:
        return function(*args, output=_output(json, verbose, debug, quiet), **own)

    return _OUTPUT(command)


def tls_options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of TLS; it gets them as ``tls``, None where there are none."""

    @wraps(function)
    def command(*args: Any, **own: Any) -> int:
        tls = _tls(*(own.pop(f"tls_{name}") for name in ("ca", "cert", "key", "password_file", "crl", "name")))
        return function(*args, tls=tls, **own)

    return _TLS(command)


def common(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that all commands on the network share; it gets them as ``settings``."""

    @tls_options
    @output_options
    @wraps(function)
    def command(
        *args: Any,
        aet: str | None,
        timeout: float | None,
        max_pdu: int | None,
        tls: TLS | None,
        output: Output,
        log: str | None,
        **own: Any,
    ) -> int:
        return function(*args, settings=_settings(aet, timeout, max_pdu, tls, output, log), **own)

    return _NETWORK(command)
