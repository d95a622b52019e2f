"""Settings: `Limits`, `Timeouts` and `Entity`, and the words people write them in ("512k", "2m", "AET@host:port")."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from dicomnet.errors import InvalidArgument, escaped
from dicomnet.uids import IMPLEMENTATION_CLASS_UID

__all__ = [
    "ACCEPT_PAUSE",
    "ANY_SCP",
    "CLOSE_PATIENCE",
    "COMMITMENT_PATIENCE",
    "DEEPEST_SEQUENCE",
    "DESCRIBE_BUFFER",
    "FAREWELL",
    "HANDLER_REST",
    "HEADER",
    "INFLATED_RATIO",
    "INFLATED_SIZE",
    "INFLATE_LIMIT",
    "INFLATE_STEP",
    "LAST_CALL",
    "LAST_WORD",
    "LEAST_BUFFER",
    "LOGGED_DATA_SET",
    "MOST_UNKNOWN_ITEMS",
    "OFFERED_SYNTAXES",
    "OPERATIONS_WINDOW",
    "PENDING_EVERY",
    "RECEIVE_DRAIN",
    "RELATED_CLASSES",
    "SAY_AGAIN",
    "STOP_DRAIN",
    "STRAGGLER_GRACE",
    "TAPPED_BODY",
    "TAPPED_WAITING",
    "WALK_WINDOW",
    "WALK_WINDOWS",
    "WINDOW_KEEPERS",
    "Entity",
    "Limits",
    "Timeouts",
    "check_ae_title",
    "listed",
    "parse_seconds",
    "parse_size",
]

# The called title of a peer that was given as host:port alone; DCMTK's default, so that most test peers take it.
ANY_SCP = "ANY-SCP"

# Operations that a requestor may have under way on an association (PS3.7 Annex D.3.3.3): what `dicomnet store` and
# `StoreScu` propose, and providers grant. Four thousand small objects take 0.4 of the time of one at a time; more gains
# a few hundredths, and all of them may have to be sent again where the association breaks.
OPERATIONS_WINDOW = 16
# Seconds from one pending response of a C-GET or C-MOVE to the next: how many there are is the provider's to choose
# (PS3.4 Sections C.4.2.3.1 and C.4.3.3.1), and one after each of thousands of images is work for three programs.
# A C-CANCEL of a C-MOVE is looked at as often, between two sub-operations: one that is under way, and the connection to
# the destination, are waited for.
PENDING_EVERY = 0.25
# Of a presentation context, so many transfer syntaxes are looked at, and of a SOP class so many related general ones.
# The standard has some 60 transfer syntaxes; a request of 1 MiB could name 50,000.
OFFERED_SYNTAXES = 256
RELATED_CLASSES = 64
# Bytes of a data set that are kept for ``on_store(elements=..., header=...)``: real headers are below 100 KiB, but for
# multi-frame ones with functional groups for each frame.
HEADER = 4 << 20
# Acceptors that are known to keep the window that they grant, by implementation class UID: dicomnet, dcm4che 3 to 5.
# Others copy the item into their answer and lose instances, so that they get one operation at a time unless the user,
# or the profile of the peer, asks for more.
WINDOW_KEEPERS = frozenset({IMPLEMENTATION_CLASS_UID, "1.2.40.0.13.1.3"})

# Bytes of each PDU that a tap keeps. An A-ASSOCIATE-RQ with 128 contexts of a few syntaxes fits whole.
TAPPED_BODY = 16 << 10
# Bytes of a data set that a message log shows: any query, any report; an image is left to the program that stores it.
LOGGED_DATA_SET = 256 << 10
# Seconds for the report on a storage commitment, on an association of the peer's own: archives check their disks first,
# and many report in batches.
COMMITMENT_PATIENCE = 300.0
# Seconds that a peer gets to release the association on which a C-MOVE to oneself brought its instances: all that was
# asked for has been answered by then, and a caller that stays is sent away.
RECEIVE_DRAIN = 2.0
# Some archives send the last instances of a C-MOVE after its final response; after so long a silence no more come.
STRAGGLER_GRACE = 5.0
# Seconds for a peer to close a connection on which there is no association any more: it was told, and a connection that
# stays open is a descriptor.
FAREWELL = 1.0
# Of these, what a rejected peer gets before our side of the connection is closed: one that goes on gets an A-ABORT.
LAST_WORD = 0.2
# Seconds for which a program that is told to stop rejects new associations as a matter of time, before its port closes:
# callers that are just under way learn that they may try again.
LAST_CALL = 1.0
# Seconds that associations in flight get where an application that serves by itself is told to stop; idle ones get
# ``Timeouts.quiet``. A sender sends again what was not acknowledged, and what starts programs waits for so long itself.
STOP_DRAIN = 10.0
# Seconds that each stage of what works beside a listener gets to end after that, one more than who is told of work
# items gets to hear the last of them. What a worker had begun is in the database, and is done after the next start.
CLOSE_PATIENCE = 6.0
# Seconds to leave the backlog alone where a process is out of descriptors, unless one is free sooner.
ACCEPT_PAUSE = 1.0
# Seconds from one complaint about that to the next.
SAY_AGAIN = 60.0
# Seconds that a thread for handlers waits for more to do before it ends.
HANDLER_REST = 2.0
# What waits for the reader of a trace: seconds of a busy association, and no more memory than this times the above.
TAPPED_WAITING = 4096

# ---- what a file, or a data set, can make us do ----------------------------------------------------------------------

# The search for a cut looks at places of a file past the buffer, mostly fragments of encapsulated pixel data: at this
# many and no more, so that a file is never read twice. What lies behind them is sent unchecked.
WALK_WINDOWS = 256
WALK_WINDOW = 4096
# A deflated data set is inflated this far to look for its end, as fast as half a network: it stays unchecked beyond.
INFLATE_LIMIT = 8 << 20
INFLATE_STEP = 64 << 10
# To describe a file, its file meta information and the start of its data set; more is read where that is not enough.
DESCRIBE_BUFFER = 8 << 10
# In less than this no preamble and no UID would fit; a smaller buffer is not used.
LEAST_BUFFER = 1024
# A deflated data set may be a bomb: it grows no further than this, or this many times its own size, whichever is more.
INFLATED_SIZE = 1 << 20
INFLATED_RATIO = 200
# Unknown items, in each item of an A-ASSOCIATE-RQ or -AC: four bytes each on the wire, some 60 in memory.
# Compiled in, as is the next: `wire/items.pxd`, `files/part10.pyx` and `wire/elements.pyx` say the same.
MOST_UNKNOWN_ITEMS = 1024
# Sequences within sequences, in files and in data sets; real ones stop below ten.
DEEPEST_SEQUENCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer can make us hold or do. Sizes in bytes; the source says the reason for each default.

    Attributes:
        max_pdu: the Maximum Length that is announced: the longest P-DATA-TF that a peer may send (PS3.8 Section D.1).
        associations: those of a provider at a time; one more is rejected as transient.
        pending: connections without an association; past it the oldest makes room.
        pending_per_host: those of one host.
        handler_threads: threads in which the handlers of one registration run at a time.
        tolerated_pdu: the longest PDU of a peer whose profile relaxes ``max_pdu``.
        associate_pdu: the longest A-ASSOCIATE-RQ or -AC.
        command_set: the longest command set.
        message: the longest data set that is held in memory; None is any.
        identifier: the longest data set of a provider's request that is no C-STORE; None is as ``message``.
        memory: data sets in memory, of all associations of a provider together; None is any number.
        responses: pending responses to one request.
        least_rate: bytes a second of a message that has begun; 0 takes anything that never stops.
        failed_logins: user identities of a host that are refused before no more are looked at.
        failing_hosts: hosts whose failed logins are remembered.
        empty_pdvs: fragments without data in one message.
        requests_ahead: requests that are kept while one is performed, past the operations window.
        window: C-STOREs of ours under way at a time, however wide the operations window.
        outgoing_pdu: the longest PDU that is sent.
        file_buffer: each of the two buffers by which an association reads files.
        receive_buffer: the buffer by which an association receives.
        pool: associations that a client has with one peer at a time.
        archive_entry: the longest entry of a zip archive that is stored from there.
    """

    # Announced as Maximum Length. Large enough that headers and system calls do not show, small enough that a stalled
    # association is cheap. Never 0 ("no limit"): lengths are claims, and this one is what P-DATA is held to.
    max_pdu: int = 256 << 10
    # Each takes an object of a few KiB; past it new ones are rejected as transient.
    associations: int = 100
    # Connections that have not asked for an association yet, or have none any more. They are no associations, and not
    # refused: past this the oldest makes room, which is junk sooner than a peer that asks within milliseconds.
    pending: int = 256
    # Those of one host, so that it does not take the room of all others; several peers may share an address.
    pending_per_host: int = 128
    # Threads in which the handlers of one registration run at a time. A handler that never returns keeps one for ever;
    # once all of them are kept, its requests fail at their deadline, and other handlers do not notice.
    handler_threads: int = 32
    # What a peer may send whose profile relaxes that. Data are passed on as they come, so that this costs no memory.
    tolerated_pdu: int = 1 << 20
    # Held whole before it is judged, so no larger than the others. 128 contexts of all 39 transfer syntaxes are some
    # 135 KiB; the format itself would allow 8.5 MB.
    associate_pdu: int = 256 << 10
    # The longest real command set, a C-MOVE response or an N-ACTION, is under 1 KiB, but for lists of attributes.
    command_set: int = 64 << 10
    # A data set bound for memory (identifiers, or a store without a spool); and all of those together that wait for the
    # end of another request, lest a wide operations window multiplies this. None: whatever the peer sends.
    message: int | None = 256 << 20
    # The data set of a provider's request that is no C-STORE: what is looked for, what is to be committed. Ten thousand
    # references are 1.3 MB. None: as ``message``.
    identifier: int | None = 2 << 20
    # Data sets in memory of all associations of a provider together, in each process: past it, what arrives is refused
    # with A700, as where a disk is full. None: any number of them.
    memory: int | None = 1 << 30
    # Pending responses to one request, as user and as provider. No archive has as many studies: who goes on past this
    # never ends, and who asked that broadly did so by mistake.
    responses: int = 1_000_000
    # Bytes a second of a message that has begun, over each ``Timeouts.progress``: a drip is no progress. A line of 2400
    # baud has four times that; 0 takes anything that never stops.
    least_rate: int = 64
    # User identities of a host that were not accepted, within ``Timeouts.login``; until that is over, no more of them
    # are looked at. People mistype a passcode a few times; programs that guess one need thousands of tries.
    failed_logins: int = 10
    # Hosts whose failed logins are remembered; past it the oldest is forgotten, so that lying senders cost no memory.
    failing_hosts: int = 1024
    # Legal, and sent by no device to any purpose: tolerated, but not for ever.
    empty_pdvs: int = 1000
    # Requests kept while one is performed that a C-CANCEL may end, past the operations window that was granted: some
    # programs do not wait for a response that tells them nothing. One more ends the association.
    requests_ahead: int = 16
    # C-STOREs of ours under way at a time, however wide the operations window: more gains nothing, and their responses
    # have to fit into the buffers of the sockets while we send.
    window: int = 64
    # The PDUs we send when the peer announces no limit or a vast one: past this nothing gets faster.
    outgoing_pdu: int = 1 << 20
    # Two buffers per association read files to be sent. A CT image fits whole, so that it takes one system call; more
    # would not fit a core's cache, and cost a tenth of the time of large objects.
    file_buffer: int = 528 << 10
    # One buffer per association while data flows: several PDUs for each system call, still within a core's cache.
    receive_buffer: int = 512 << 10

    # Associations that a client has with one peer at a time: more gain little, and many peers take no more.
    pool: int = 4
    # An entry of a zip archive that is stored from there is held in memory; past this it is refused, so that an archive
    # of a few bytes cannot become more than a machine has.
    archive_entry: int = 512 << 20

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least = getattr(self, one.name), _LEAST.get(one.name, 1)
            if value is None and one.name in ("message", "identifier", "memory"):
                continue
            if not isinstance(value, int) or not least <= value <= 0xFFFFFFFF:
                raise InvalidArgument(f"limit {one.name}: {value!r} is not a whole number from {least} to 4294967295")


# Seconds of ``Timeouts.busy_poll``: to be woken takes less than this on any machine, and a processor is busy meanwhile.
MOST_BUSY_POLL = 0.001

# A P-DATA-TF below 16 bytes could carry headers, but hardly any data.
_LEAST = {
    "max_pdu": 16,
    "outgoing_pdu": 16,
    "associate_pdu": 1024,
    "command_set": 256,
    "empty_pdvs": 0,
    "requests_ahead": 0,
    "least_rate": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each wait may take, in seconds; None waits for ever. The source says the reason for each default.

    Attributes:
        connect: until TCP has connected.
        tls: a TLS handshake, from its first byte to its last.
        associate: from the A-ASSOCIATE-RQ to its answer.
        response: for a response, counted anew whenever anything arrives or leaves.
        progress: while a message that has begun does not move on.
        idle: a provider's association without a message.
        release: from the A-RELEASE-RQ to its answer.
        artim: for an A-ASSOCIATE-RQ after accept, and for the peer's close after reject or abort (PS3.8 Section 9.1.5);
            a provider closes after `FAREWELL`, if that is sooner.
        write: while the peer does not read.
        handler: a provider's handler, or one step of its generator; then the request fails.
        login: how long failed logins of a host count.
        quiet: how long nothing was under way on an association before a listener that stops ends it.
        keepalive: of silence, before the system asks whether the peer's host is there (TCP keepalive).
        acknowledge: while the peer's host does not acknowledge what was sent (TCP_USER_TIMEOUT).
        busy_poll: how long a blocking requestor, or a listener's loop, looks for a peer's word before it sleeps.
        kept: how long a client keeps an association that is not used.
        pool: for an association of a client, all of which are in use.
    """

    # TCP gives up after two minutes or more; a host that is there answers in milliseconds.
    connect: float | None = 10
    # From the first byte of the handshake to its last; a few round trips and some arithmetic.
    tls: float | None = 10
    # A-ASSOCIATE-RQ to its answer; some peers look up users or licences meanwhile.
    associate: float | None = 30
    # A response, counted anew whenever anything arrives or leaves: slow peers are kept, silent ones are not.
    response: float | None = 60
    # A message that has begun and does not move on.
    progress: float | None = 60
    # A provider's association without a message: modalities hold one open between images.
    idle: float | None = 300
    # A-RELEASE-RQ to its answer; there is nothing to compute.
    release: float | None = 15
    # ARTIM of PS3.8 Section 9.1.5: an A-ASSOCIATE-RQ after accept, the peer's close after reject or abort.
    artim: float | None = 30
    # A peer that stopped reading.
    write: float | None = 60
    # A provider's handler, or one step of a generator; then the peer is told that its request failed. Peers wait about
    # as long for a response. A registration may have a deadline of its own.
    handler: float | None = 60
    # How long the failed logins of a host count, see ``Limits.failed_logins``. None: a guesser may go on.
    login: float | None = 60
    # An association of a listener that stops: one on which nothing was under way for so long is idle, and ended then.
    # Within a batch the next request comes sooner. None waits for all of them, as long as ``drain`` says.
    quiet: float | None = 1
    # TCP keepalive: so long a silence, and the system asks whether the peer's host is still there; it is gone after two
    # thirds of that again. An idle association would hold its slot for ``idle`` seconds, a user's for ever.
    keepalive: float | None = 60
    # TCP_USER_TIMEOUT, where there is such a thing: what was sent, and the peer's host does not acknowledge.
    acknowledge: float | None = 60
    # How long a blocking requestor, or a listener's loop, looks for a peer's word before it sleeps, while it pays (see
    # docs/design.md): to be woken can take longer than a message. None sleeps at once.
    busy_poll: float | None = 100e-6
    # A client's association that is not used: shorter than the idle time of most peers, who would abort it.
    kept: float | None = 30
    # A caller that wants an association of a client while all that it may have are in use.
    pool: float | None = 120

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and (not isinstance(value, int | float) or not 0 < value < math.inf):
                raise InvalidArgument(
                    f"time-out {one.name}: {value!r} is not a number of seconds above 0", hint="None turns it off."
                )
        if self.busy_poll is not None and self.busy_poll > MOST_BUSY_POLL:
            raise InvalidArgument(
                f"time-out busy_poll: {self.busy_poll!r} seconds keep a processor busy; {MOST_BUSY_POLL} is the most",
                hint="None turns it off.",
            )


@dataclass(frozen=True, slots=True)
class Entity:
    """An application entity: its title and where it listens.

    Args:
        ae_title: 1 to 16 characters; see `check_ae_title`.
        host: a name or an address, IPv6 without brackets.
        port: 0 to 65535; 0 lets a listener pick a free one.
        tls: whether it speaks TLS.
    """

    ae_title: str
    host: str
    port: int
    tls: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "ae_title", check_ae_title(self.ae_title))  # without the spaces around it
        if not self.host or not self.host.isprintable() or any(c in " /@[]" for c in self.host):
            raise InvalidArgument(f'"{escaped(self.host)}" is not a host name or an address')
        if not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise InvalidArgument(f"{self.port!r} is not a port: 0 to 65535")

    @classmethod
    def parse(cls, text: str, *, ae_title: str = ANY_SCP) -> Entity:
        """Read "AET@host:port", "AET@[::1]:11112", "host:port" or "dicom://…" and "dicoms://…" (TLS).

        Only the two schemes have a port to fall back on: 104 and 2762.

        Args:
            text: the address as people write it.
            ae_title: the title where the text has none.

        Raises:
            InvalidArgument: which part is wrong, and how it should look.
        """
        scheme, separator, rest = text.strip().partition("://")
        if not separator:
            scheme, rest = "", text.strip()
        elif scheme.lower() not in _PORTS:
            raise InvalidArgument(f'"{escaped(text)}": unknown scheme "{escaped(scheme)}"', hint=_HOW)
        title, at, address = rest.rpartition("@")
        host, port = _split_address(text, address.rstrip("/") if scheme else address, _PORTS.get(scheme.lower()))
        return cls(title if at else ae_title, host, port, tls=scheme.lower() == "dicoms")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        # The scheme also keeps a title that itself looks like one from being read as one.
        scheme = "dicoms://" if self.tls else "dicom://" if "://" in self.ae_title else ""
        return f"{scheme}{self.ae_title}@{host}:{self.port}"


def listed(several: Iterable[str] | str) -> tuple[str, ...]:
    """Several texts; one by itself is one, and not its letters."""
    return (several,) if isinstance(several, str) else tuple(several)


_PORTS = {"dicom": 104, "dicoms": 2762}
_HOW = "Write AET@host:port, for example ARCHIVE@pacs.local:11112."


def _split_address(text: str, address: str, default_port: int | None) -> tuple[str, int]:
    """Split "host:port", "[v6]:port" or a bare host."""
    host, colon, port = address.rpartition(":")
    if address.startswith("["):
        host, bracket, colon_port = address[1:].partition("]")
        colon, port = colon_port[:1], colon_port[1:]
        if not bracket or colon not in ("", ":"):
            raise InvalidArgument(f'"{escaped(text)}": a bracket without its other half', hint=_HOW)
    elif ":" in host:
        raise InvalidArgument(f'"{escaped(text)}": an IPv6 address wants brackets', hint="Write AET@[::1]:11112.")
    elif not colon:
        host = address
    if not colon:
        if default_port is None:
            raise InvalidArgument(f'"{escaped(text)}": the port is missing', hint=_HOW)
        return host, default_port
    if not (port.isascii() and port.isdigit()):
        raise InvalidArgument(f'"{escaped(text)}": "{escaped(port)}" is not a port number', hint=_HOW)
    return host, int(port)


def check_ae_title(text: str) -> str:
    """Return `text` without its leading and trailing spaces, which do not count (PS3.8 Section 9.3.2, PS3.5 VR AE).

    Raises:
        InvalidArgument: not 1 to 16 characters of ISO 646 (ASCII), or a backslash or control character among them.
    """
    title = text.strip(" ")
    shown = escaped(text)
    if not title:
        raise InvalidArgument("an AE title has at least one character that is not a space")
    if len(title) > 16:
        raise InvalidArgument(f'AE title "{shown}" has {len(title)} characters; 16 is the most')
    if not title.isascii() or not title.isprintable():
        raise InvalidArgument(f'AE title "{shown}" has a character outside printable ASCII')
    if "\\" in title:
        raise InvalidArgument(f'AE title "{shown}" has a backslash, which DICOM keeps for separating values')
    return title


_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Read a number of bytes: "16384", "512k", "1.5M", "2 GiB"; the units are powers of 1024."""
    number, unit = _split_unit(text, "size", "512k")
    unit = unit.removesuffix("ib") if unit.endswith("ib") else unit.removesuffix("b") or unit
    size = number * _SIZES.get(unit, math.nan)
    if not size.is_integer():  # NaN is none either
        raise InvalidArgument(f'"{escaped(text)}" is not a size', hint='Write it like "16384", "512k" or "2M".')
    return int(size)


def parse_seconds(text: str) -> float:
    """Read a duration above 0, in seconds: "30", "500ms", "1.5s", "2m", "1h"."""
    number, unit = _split_unit(text, "duration", "30s")
    seconds = number * _SECONDS.get(unit, math.nan)
    if not 0 < seconds < math.inf:
        raise InvalidArgument(f'"{escaped(text)}" is not a duration', hint='Write it like "30", "500ms" or "2m".')
    return seconds


def _split_unit(text: str, what: str, example: str) -> tuple[float, str]:
    """Split "1.5 GiB" into 1.5 and "gib"."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    if number and number.isascii() and number.replace(".", "", 1).isdigit():
        return float(number), text.strip()[len(number) :].strip().lower()
    raise InvalidArgument(f'"{escaped(text)}" is not a {what}', hint=f'Write it like "{example}".')
