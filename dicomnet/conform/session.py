"""What a case works with: connections and associations to one provider, and a few facts about it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

from . import wire
from .case import Departure, NotApplicable, Unavailable
from .instance import ct_image, new_uid
from .peer import Answer, Connection, Full, Kind, Reply, Seen

STORE, UNKNOWN = 3, 5  # context IDs of the probe; verification is 1
_ROOM = 3  # associations; a case needs one or two, and the look after it another
_PATIENCE = 4.0  # seconds that a living provider answers within, on a busy machine, too
UNKNOWN_CLASS = "2.25.302478914403838246101"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the provider is, and how to speak to it; ``secure`` puts TLS on a connection."""

    host: str
    port: int
    called: str = "ANY-SCP"
    calling: str = "CONFORM"
    timeout: float = 2.0
    artim: float = 35.0
    stores: bool = True
    secure: Callable[[socket.socket], socket.socket] | None = None

    @property
    def settle(self) -> float:
        """Seconds after which silence is believed, where silence is right."""
        return min(0.25, self.timeout / 4)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the probe has learned."""

    max_length: int = 16384
    stores: bool = False
    explicit: bool = False
    concurrent: bool = True
    implementation: str = ""


class Session:
    """A case's hold on the provider; whatever it opens is closed with it."""

    def __init__(self, target: Target, facts: Facts | None = None) -> None:
        self.target = target
        self.facts: Facts = facts or Facts()
        self._open: list[Connection] = []

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for connection in self._open:
            connection.close()

    def connect(self) -> Connection:
        """A new TCP connection.

        Raises:
            Unavailable: the port is closed, or it takes too long.
        """
        target = self.target
        try:
            sock = _open(target)
        except OSError as error:  # an SSLError is one, too
            raise Unavailable(f"no connection: {error.strerror or error}") from None
        connection = Connection(sock, target.timeout, target.settle)
        self._open.append(connection)
        return connection

    def opened(self, *data: bytes) -> Connection:
        """A new connection on which these bytes have been sent."""
        connection = self.connect()
        for part in data:
            connection.send(part)
        return connection

    def request(
        self,
        *,
        items: Iterable[bytes] | None = None,
        contexts: Sequence[bytes] | None = None,
        user: Sequence[bytes] | None = None,
        application: bytes | None = None,
        called: str | bytes | None = None,
        calling: str | bytes | None = None,
        **fields: Any,
    ) -> bytes:
        """An A-ASSOCIATE-RQ that offers verification, unless something else is said; see `wire.associate`."""
        if items is None:
            items = (
                wire.application() if application is None else application,
                *(contexts or (wire.context(1),)),
                wire.user_information(*(user if user is not None else user_items())),
            )
        target = self.target
        return wire.associate(
            items,
            called=target.called if called is None else called,
            calling=target.calling if calling is None else calling,
            **fields,
        )

    def associate(self, **changes: Any) -> Association:
        """An association; ``changes`` are those of `request`.

        Raises:
            Unavailable: the provider does not accept even an ordinary request.
            Departure: it does not accept what was changed.
        """
        connection = self.opened(self.request(**changes))
        answer = connection.answer()
        if answer.kind is not Kind.ACCEPT:
            # An ordinary request is where other cases begin; one with something special is what this case is about.
            raise (Departure(str(answer)) if changes else Unavailable(f"no association: {answer}"))
        return Association(connection, answer, self.facts)

    def associate_to_store(self, **changes: Any) -> Association:
        """An association with verification in context 1 and CT images in context 3, implicit VR little endian.

        Raises:
            NotApplicable: the provider does not take CT images, or is not to be given any.
        """
        if not self.facts.stores or not self.target.stores:
            raise NotApplicable("no CT images are stored here")
        association = self.associate(contexts=store_contexts(), **changes)
        if not association.accept.accepts(STORE):
            raise Unavailable("the presentation context for CT images is refused this time")
        return association


class Association:
    """An established association."""

    def __init__(self, connection: Connection, answer: Answer, facts: Facts) -> None:
        self.connection = connection
        self.facts = facts
        try:
            self.accept: wire.Associate = answer.accept
        except wire.Unreadable as error:
            raise Unavailable(f"an A-ASSOCIATE-AC that cannot be read: {error}") from None
        self.send: Callable[[bytes], bool] = connection.send
        self.answer: Callable[..., Answer] = connection.answer
        self.message: Callable[[], Seen] = connection.message

    def say(self, elements: dict[int, bytes], *, context_id: int = 1) -> Seen:
        """Send a command set in one fragment; the message that answers it."""
        self.send(whole(context_id, wire.command_set(elements)))
        return self.message()

    def echo(self, message_id: int = 1) -> Seen:
        """Send a C-ECHO-RQ; its answer."""
        return self.say(wire.echo_rq(message_id))

    def store(self, frames: bytes | None = None) -> Seen:
        """Send a C-STORE-RQ of a small CT image, or these frames; its answer."""
        self.send(store_frames() if frames is None else frames)
        return self.message()

    def release(self) -> Answer:
        """Ask for the release; the answer."""
        self.send(wire.release_rq())
        return self.answer()


def store_contexts(transfer: str = wire.IMPLICIT) -> tuple[bytes, ...]:
    """Verification in context 1, CT images in context 3."""
    return wire.context(1), wire.context(STORE, wire.CT_STORAGE, (transfer,))


def user_items(*more: bytes, max_length: int = 16384) -> tuple[bytes, ...]:
    """The sub-items of an ordinary user information item, and more of them."""
    return wire.max_length(max_length), wire.implementation(), wire.version_name(), *more


def whole(context_id: int, command: bytes) -> bytes:
    """A command set as one fragment in one P-DATA-TF."""
    return wire.data_tf(wire.pdv(context_id, wire.COMMAND | wire.LAST, command))


def whole_data(context_id: int, data: bytes) -> bytes:
    """A data set as one fragment in one P-DATA-TF."""
    return wire.data_tf(wire.pdv(context_id, wire.LAST, data))


def cut(data: bytes, size: int) -> list[bytes]:
    """Pieces of ``size`` bytes, the last one shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def pdvs(context_id: int, data: bytes, size: int, command: bool) -> list[bytes]:
    """The fragments of a command set or data set, ``size`` bytes each, as presentation data value items."""
    pieces = cut(data, size) or [b""]
    kind = wire.COMMAND if command else 0
    last = len(pieces) - 1
    return [wire.pdv(context_id, kind | (wire.LAST if at == last else 0), piece) for at, piece in enumerate(pieces)]


def store_parts(transfer: str = wire.IMPLICIT, padding: int = 0) -> tuple[bytes, bytes]:
    """The command set of a C-STORE-RQ of a new CT image, and its data set."""
    instance = new_uid()
    return wire.command_set(wire.store_rq(instance)), ct_image(instance, transfer, padding=padding)


def store_frames(transfer: str = wire.IMPLICIT) -> bytes:
    """A C-STORE-RQ with a small CT image, two P-DATA-TF."""
    command, data = store_parts(transfer)
    return whole(STORE, command) + whole_data(STORE, data)


def works(session: Session, answer: Answer, connection: Connection) -> str:
    """Check that an answer accepts verification and that the association does what it should.

    Raises:
        Departure: it is refused, or C-ECHO or A-RELEASE do not work on it.
    """
    if answer.kind is not Kind.ACCEPT:
        raise Departure(str(answer))
    try:
        association = Association(connection, answer, session.facts)
        if not association.accept.accepts(1):
            raise Departure("A-ASSOCIATE-AC, but the presentation context of verification is refused")
    except (Unavailable, wire.Unreadable) as error:
        raise Departure(str(error)) from None
    seen = association.echo()
    if not isinstance(seen, Reply) or seen.status != 0:
        raise Departure(f"A-ASSOCIATE-AC; then to C-ECHO: {seen}")
    released = association.release()
    if released.kind is not Kind.RELEASE_RP:
        raise Departure(f"A-ASSOCIATE-AC, C-ECHO; then to A-RELEASE-RQ: {released}")
    return "A-ASSOCIATE-AC, C-ECHO with status 0000, A-RELEASE-RP"


def _open(target: Target) -> socket.socket:
    """A connected socket, secured where that is wanted."""
    sock = socket.create_connection((target.host, target.port), timeout=target.timeout)
    if target.secure is None:
        return sock
    with sock:  # if that fails; else it is another object that has the connection
        return target.secure(sock)


class Trouble(NamedTuple):
    """Why a provider does not answer a C-ECHO on a new association: what it did, and whether it is just full."""

    words: str
    full: bool


def alive(target: Target) -> Trouble | None:
    """Whether the provider answers a C-ECHO on a new association; None if so, else what is the matter."""
    # What a case expects at once, the provider may take longer for here: this is about whether it lives.
    with Session(replace(target, timeout=max(target.timeout, _PATIENCE))) as session:
        try:
            connection = session.opened(session.request())
            works(session, connection.answer(), connection)
        except Full as reason:
            return Trouble(str(reason), full=True)
        except (Departure, Unavailable) as error:
            return Trouble(str(error), full=False)
        return None


def has_room(target: Target) -> bool:
    """Whether the provider takes a few associations at once: one place would be gone with the next case."""
    with Session(target) as session:
        try:
            for _ in range(_ROOM):
                session.associate()
        except (Full, Unavailable):
            return False
        return True


def probe(target: Target) -> Facts:
    """Learn what the cases need to know.

    Raises:
        Unavailable: there is no connection, or no association with verification to be had.
    """
    unknown = wire.context(UNKNOWN, UNKNOWN_CLASS)
    with Session(target) as session:
        try:
            accept = session.associate(contexts=(*store_contexts(), unknown)).accept
        except (Departure, Full) as reason:
            raise Unavailable(f"no association: {reason}") from None
        if not accept.accepts(1):
            raise Unavailable("the presentation context of verification is refused")
    names = accept.sub_items(0x55) or accept.sub_items(0x52) or [b""]
    # With one association open: is another one served, too?
    with Session(target) as session:
        explicit = session.associate(contexts=store_contexts(wire.EXPLICIT)).accept
        concurrent = alive(target) is None
    return Facts(
        max_length=accept.max_length,
        stores=accept.accepts(STORE),
        explicit=explicit.accepts(STORE),
        concurrent=concurrent,
        implementation=names[0].decode("latin-1").strip(" \0"),
    )
