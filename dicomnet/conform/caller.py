"""A user under test: it connected to us, asked for an association, and is answered in some way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import wire
from .case import Departure, Unavailable
from .peer import Answer, Connection, Kind, Reply, Seen

_MOST_MESSAGES = 1000


class Caller:
    """The other end of one connection, once its A-ASSOCIATE-RQ has arrived.

    Raises:
        Unavailable: something else arrived.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.send: Callable[[bytes], bool] = connection.send
        self.answer: Callable[..., Answer] = connection.answer
        self.asked: Answer = connection.answer()
        if self.asked.kind is not Kind.REQUEST:
            raise Unavailable(f"no A-ASSOCIATE-RQ, but {self.asked}")
        try:
            self.request: wire.Associate = wire.read_associate(self.asked.body)
        except wire.Unreadable as error:
            raise Unavailable(f"an A-ASSOCIATE-RQ that cannot be read: {error}") from None

    # ---- the answer to the request ---------------------------------------------------------------------------------

    def results(self) -> list[bytes]:
        """Every proposed context, accepted in its first transfer syntax."""
        return [wire.context_result(number, 0, found[1][0]) for number, found in self.request.proposed.items()]

    def refusals(self, *, bare: bool = False) -> list[bytes]:
        """Every proposed context, refused; ``bare`` leaves the transfer syntax out, which does not count then."""
        return [
            wire.context_result(number, 3, None if bare else found[1][0])
            for number, found in self.request.proposed.items()
        ]

    def accept(
        self,
        *,
        results: Sequence[bytes] | None = None,
        user: Sequence[bytes] = (),
        items: Sequence[bytes] | None = None,
        max_length: int = 16384,
        **fields: object,
    ) -> bytes:
        """An A-ASSOCIATE-AC that accepts everything, unless something else is said; see `wire.associate`."""
        if items is None:
            information = wire.user_information(wire.max_length(max_length), wire.implementation(), *user)
            items = (wire.application(), *(self.results() if results is None else results), information)
        given = {"called": self.request.called, "calling": self.request.calling, "tail": self.request.tail, **fields}
        return wire.associate(items, kind=wire.ASSOCIATE_AC, **given)  # type: ignore[arg-type]

    # ---- the association -------------------------------------------------------------------------------------------

    def serve(self, respond: Callable[[Reply], bytes] | None = None) -> str:
        """Be a good provider until the association ends; what the user did, in words.

        Args:
            respond: makes the frames of each response; by default success in one P-DATA-TF.

        Raises:
            Departure: it does not end with a release, or there was no request.
        """
        requests = 0
        while requests < _MOST_MESSAGES:
            seen = self.connection.message()
            if not isinstance(seen, Reply):
                return self._end(seen, requests)
            requests += 1
            if wire.MESSAGE_ID in seen.command:  # a C-CANCEL-RQ has none, and wants no answer
                self.send((respond or success)(seen))
        raise Departure(f"{requests} requests, and no end")

    def _end(self, seen: Answer, requests: int) -> str:
        if seen.kind is not Kind.RELEASE_RQ or not requests:
            raise Departure(f"{requests} requests, then {seen}")
        self.send(wire.release_rp())
        last = self.answer()
        if not last.ended:
            raise Departure(f"{requests} requests, A-RELEASE-RQ; then to A-RELEASE-RP: {last}")
        return f"{requests} requests, A-RELEASE-RQ, connection closed"

    def first_request(self) -> Seen:
        """Accept everything; what the user says first."""
        self.send(self.accept())
        return self.connection.message()


def success(request: Reply) -> bytes:
    """The response of success, in one P-DATA-TF."""
    return framed(request, response_set(request))


def response_set(request: Reply, status: int = 0, **changes: bytes) -> bytes:
    """The command set of a response; changes by element number, ``x0120=b"…"``."""
    elements = wire.response(request.command, status)
    elements |= {int(name[1:], 16): value for name, value in changes.items()}
    return wire.command_set(dict(sorted(elements.items())))


def framed(request: Reply, command: bytes, *, context_id: int | None = None) -> bytes:
    """A command set in one fragment, in the context of the request or in another."""
    number = request.context_id if context_id is None else context_id
    return wire.data_tf(wire.pdv(number, wire.COMMAND | wire.LAST, command))
