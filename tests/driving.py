"""Bring an `UpperLayer` into any of its states, by legal verbs and bytes alone; and what to throw at it there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicomnet._pdu import (
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    MaximumLength,
    PDataTF,
    PresentationContextAC,
    PresentationContextRQ,
    ReleaseRP,
    ReleaseRQ,
    decode_first,
)
from dicomnet.config import Limits, Timeouts
from dicomnet.protocol.states import State
from dicomnet.protocol.upper_layer import UpperLayer
from dicomnet.wire.command_set import Command, MessageReader

STANDARD = json.loads((Path(__file__).parent / "data" / "ps38.json").read_text(encoding="utf-8"))

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
ARTIM = 30.0
#: Only ARTIM, which is the standard's; a deadline is then ARTIM's or nobody's.
ARTIM_ALONE = Timeouts(associate=None, response=None, progress=None, idle=None, release=None, artim=ARTIM)

RQ = AssociateRQ("CALLED", "CALLING", [PresentationContextRQ(1, VERIFICATION, [IMPLICIT])], [MaximumLength(16384)])
AC = AssociateAC("CALLED", "CALLING", [PresentationContextAC(1, 0, IMPLICIT)], [MaximumLength(16384)])
RJ = AssociateRJ(1, 1, 7)
ECHO = Command(affected_sop_class_uid=VERIFICATION, command_field=0x0030, message_id=7).encode()
ECHO_PDV = PDV(1, ECHO, True, True)
DATA = PDataTF([ECHO_PDV])
STORE = Command(
    affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    command_field=1,
    message_id=1,
    priority=0,
    command_data_set_type=1,
    affected_sop_instance_uid="1.2.3",
).encode()
INVALID = bytes.fromhex("05 00 00000003 000000")  # an A-RELEASE-RQ that is a byte too short
PEER_ABORT = Abort(2, 2)

REQUESTOR, ACCEPTOR = "requestor", "acceptor"

SENT = {
    None: None,
    "A-ASSOCIATE-RQ": RQ,
    "A-ASSOCIATE-AC": AC,
    "A-ASSOCIATE-RJ": RJ,
    "A-ASSOCIATE-RJ (only when rejecting; source 2 or 3)": None,
    "P-DATA-TF": DATA,
    "A-RELEASE-RQ": ReleaseRQ(),
    "A-RELEASE-RP": ReleaseRP(),
    "A-ABORT source=0 reason=0": Abort(0, 0),
}


def said_by(action: str, event: int, *, silent: bool) -> bytes:
    """What an action of the table sends; ``silent``: an A-ABORT went out already, and one per association is enough."""
    if action == "AA-7":  # the source is not given in the text
        return b"" if silent else Abort(2, 2).encode()
    if action == "AA-8":
        return Abort(2, 6 if event == 19 else 2).encode()
    pdu = SENT[STANDARD["actions"][action]["send"]]
    return b"" if pdu is None else pdu.encode()


class Bytes:
    """A sink that keeps what it is given, and says what became of it."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.end = ""

    def write(self, views: list[memoryview]) -> None:
        assert not self.end
        for view in views:
            self.written += view

    def close(self) -> None:
        self.end = "closed"

    def discard(self) -> None:
        self.end = "discarded"


def pdus(data: bytes) -> list[Any]:
    """The PDUs of a stream."""
    found, offset = [], 0
    while offset < len(data):
        pdu, offset = decode_first(data, offset)
        found.append(pdu)
    return found


def sent_by(upper: UpperLayer) -> list[Any]:
    """The PDUs that an upper layer has to send."""
    return pdus(b"".join(upper.outgoing()))


def reader(limits: Limits | None = None) -> MessageReader:
    made = MessageReader(lambda context_id, command: Bytes(), limits)
    made.accept_contexts([1])
    return made


def requestor(upper: UpperLayer) -> UpperLayer:
    upper.associate(RQ)
    return upper


def connected(upper: UpperLayer) -> UpperLayer:
    requestor(upper).transport_connected()
    return upper


def opened(upper: UpperLayer) -> UpperLayer:
    upper.transport_opened()
    return upper


def indicated(upper: UpperLayer) -> UpperLayer:
    opened(upper).receive(RQ.encode())
    return upper


def established(upper: UpperLayer, role: str) -> UpperLayer:
    if role == REQUESTOR:
        connected(upper).receive(AC.encode())
    else:
        indicated(upper).accept(AC)
    return upper


def releasing(upper: UpperLayer, role: str) -> UpperLayer:
    established(upper, role).release()
    return upper


def asked_to_release(upper: UpperLayer, role: str) -> UpperLayer:
    established(upper, role).receive(ReleaseRQ().encode())
    return upper


def collided(upper: UpperLayer, role: str) -> UpperLayer:
    releasing(upper, role).receive(ReleaseRQ().encode())
    return upper


def collided_and_half_done(upper: UpperLayer, role: str) -> UpperLayer:
    collided(upper, role)
    if role == REQUESTOR:
        upper.release_response()
    else:
        upper.receive(ReleaseRP().encode())
    return upper


def rejecting(upper: UpperLayer) -> UpperLayer:
    indicated(upper).reject(RJ)
    return upper


def responded(upper: UpperLayer, role: str) -> UpperLayer:
    asked_to_release(upper, role).release_response()
    return upper


def aborting(upper: UpperLayer, role: str) -> UpperLayer:
    established(upper, role).abort()
    return upper


def offended(upper: UpperLayer) -> UpperLayer:
    opened(upper).receive(ReleaseRQ().encode())
    return upper


def aborted(upper: UpperLayer, role: str) -> UpperLayer:
    established(upper, role).receive(PEER_ABORT.encode())
    return upper


def cancelled(upper: UpperLayer) -> UpperLayer:
    requestor(upper).abort()
    return upper


def _both(build: Callable[[UpperLayer, str], UpperLayer]) -> dict[str, Callable[[UpperLayer], UpperLayer]]:
    return {role: lambda upper, role=role: build(upper, role) for role in (REQUESTOR, ACCEPTOR)}


#: Every way into a state that may make a difference there.
ROUTES: list[tuple[State, str, Callable[[UpperLayer], UpperLayer]]] = [
    (State.STA1_IDLE, "fresh", lambda upper: upper),
    (State.STA1_IDLE, "aborted", lambda upper: aborted(upper, REQUESTOR)),
    (State.STA1_IDLE, "cancelled", cancelled),
    (State.STA2_TRANSPORT_OPEN, ACCEPTOR, opened),
    (State.STA3_AWAIT_LOCAL_ASSOCIATE_RESPONSE, ACCEPTOR, indicated),
    (State.STA4_AWAIT_TRANSPORT_CONNECTION, REQUESTOR, requestor),
    (State.STA5_AWAIT_ASSOCIATE_RESPONSE, REQUESTOR, connected),
    *((State.STA6_ESTABLISHED, role, route) for role, route in _both(established).items()),
    *((State.STA7_AWAIT_RELEASE_RP, role, route) for role, route in _both(releasing).items()),
    *((State.STA8_AWAIT_LOCAL_RELEASE_RESPONSE, role, route) for role, route in _both(asked_to_release).items()),
    (State.STA9_COLLISION_REQUESTOR_AWAIT_LOCAL, REQUESTOR, lambda upper: collided(upper, REQUESTOR)),
    (State.STA10_COLLISION_ACCEPTOR_AWAIT_RP, ACCEPTOR, lambda upper: collided(upper, ACCEPTOR)),
    (State.STA11_COLLISION_REQUESTOR_AWAIT_RP, REQUESTOR, lambda upper: collided_and_half_done(upper, REQUESTOR)),
    (State.STA12_COLLISION_ACCEPTOR_AWAIT_LOCAL, ACCEPTOR, lambda upper: collided_and_half_done(upper, ACCEPTOR)),
    (State.STA13_AWAIT_TRANSPORT_CLOSE, "rejected", rejecting),
    (State.STA13_AWAIT_TRANSPORT_CLOSE, "offended", offended),
    *((State.STA13_AWAIT_TRANSPORT_CLOSE, f"{role}-released", route) for role, route in _both(responded).items()),
    *((State.STA13_AWAIT_TRANSPORT_CLOSE, f"{role}-aborted", route) for role, route in _both(aborting).items()),
]


def bring(
    route: Callable[[UpperLayer], UpperLayer],
    *,
    now: float = 1000.0,
    timeouts: Timeouts = ARTIM_ALONE,
    limits: Limits | None = None,
    with_reader: bool = False,
) -> UpperLayer:
    """An upper layer that went this route at ``now``; what it sent and said on the way is taken."""
    upper = UpperLayer(limits, timeouts, reader(limits) if with_reader else None)
    upper.tick(now)
    route(upper)
    upper.outgoing()
    upper.events()
    return upper
