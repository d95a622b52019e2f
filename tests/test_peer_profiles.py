"""Profiles of peers: each relaxation lets in what is kept out without it, and does nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any

import faces
import pytest
from certificates import Authority
from driving import pdus
from faces import CT, MR
from wiring import CONTEXTS, POLICY, echo, message, response, transfer

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import Abort, AssociateAC, AssociateRJ
from dicomnet.config import Entity, Limits
from dicomnet.errors import AssociationRejected, InvalidArgument
from dicomnet.protocol.events import AbortIndication, AssociateAccepted
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.negotiation import AcceptancePolicy, NegotiationOptions, UserIdentity
from dicomnet.protocol.peer_profile import STRICT, Peer, Peers, Relaxation, repair_pdu
from dicomnet.status import Status
from dicomnet.wire.command_set import Command

LAX = Entity("LAX", "127.0.0.1", 104)
IMPLEMENTATION = "1.2.3.4"
EVERYTHING = frozenset(Relaxation)
ARCHIVE = POLICY._replace(ae_title="ARCHIVE")

# ---- requests by hand ------------------------------------------------------------------------------------------------


def item(kind: int, value: bytes) -> bytes:
    return pack(">BBH", kind, 0, len(value)) + value


VERIFICATION, SYNTAX = uids.VERIFICATION.encode(), uids.IMPLICIT_VR_LITTLE_ENDIAN.encode()
APPLICATION = item(0x10, uids.APPLICATION_CONTEXT.encode())
INFORMATION = item(0x51, pack(">I", 16384)) + item(0x52, IMPLEMENTATION.encode())


def context(number: int = 1, abstract: bytes = VERIFICATION, more: bytes = b"") -> bytes:
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract) + item(0x40, SYNTAX) + more)


def request(
    called: bytes = b"ARCHIVE",
    calling: bytes = b"LAX",
    version: int = 1,
    application: bytes = APPLICATION,
    contexts: bytes = b"",
    information: bytes = item(0x50, INFORMATION),
) -> bytes:
    """An A-ASSOCIATE-RQ, malformed at will."""
    body = pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    body += application + (contexts or context()) + information
    return pack(">BBI", 1, 0, len(body)) + body


def accept(contexts: bytes) -> bytes:
    body = pack(">HH", 1, 0) + b"LAX".ljust(16) + b"ME".ljust(16) + bytes(32)
    body += APPLICATION + contexts + item(0x50, INFORMATION)
    return pack(">BBI", 2, 0, len(body)) + body


def answer(data: bytes, profile: Peer, policy: AcceptancePolicy = ARCHIVE) -> Any:
    """What an acceptor that has this profile says to a request."""
    provider = Exchange.acceptor(peers=Peers([profile]))
    provider.receive(data)
    if provider.events() and provider.request_pdu is not None:
        provider.evaluate(policy)
    (said,) = pdus(b"".join(provider.outgoing()))
    return said


def accepted(said: Any) -> list[int]:
    return [context.id for context in said.presentation_contexts if context.result == 0]


# Each: what a peer sends that the standard does not let it, and what it gets without the relaxation.
REQUESTS: dict[Relaxation, list[tuple[bytes, type]]] = {
    Relaxation.BLANK_TITLES: [(request(called=b""), AssociateRJ)],
    Relaxation.PADDED_TITLES: [
        (request(called=b"ARCHIVE\0\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd"), AssociateRJ),
        (request(calling=b"LAX\0\0\0\0\0\0\0\0\0\0\0\0\1"), AssociateRJ),
    ],
    Relaxation.TITLE_CASE: [(request(called=b"Archive"), AssociateRJ)],
    Relaxation.PROTOCOL_VERSION: [(request(version=0), AssociateRJ), (request(version=2), AssociateRJ)],
    Relaxation.APPLICATION_CONTEXT: [
        (request(application=b""), Abort),
        (request(application=item(0x10, b"1.2.3")), AssociateRJ),
    ],
    Relaxation.NO_USER_INFORMATION: [(request(information=b""), Abort)],
    Relaxation.STRAY_ITEMS: [
        (request(application=2 * APPLICATION), Abort),
        (request(information=2 * item(0x50, INFORMATION)), Abort),
        (request(information=item(0x50, INFORMATION) + item(0x51, bytes(4))), Abort),
        (request(information=item(0x50, INFORMATION + item(0x40, SYNTAX))), Abort),
        (request(contexts=context(more=item(0x30, b"1.2"))), Abort),
        (request(contexts=context(more=item(0x52, b"1.2"))), Abort),
    ],
    Relaxation.CONTEXT_IDS: [
        (request(contexts=context(1) + context(2)), Abort),
        (request(contexts=context(1) + context(1, b"1.2.3")), Abort),
        (request(contexts=context(1) + context(0)), Abort),
    ],
    Relaxation.PADDED_UIDS: [
        (request(application=item(0x10, b" " + uids.APPLICATION_CONTEXT.encode())), AssociateRJ),
        (request(contexts=context(1, VERIFICATION + b"\0\xcd\xcd")), Abort),
    ],
}
CASES = [(relaxation, *case) for relaxation, cases in REQUESTS.items() for case in cases]


@pytest.mark.parametrize(("relaxation", "data", "refusal"), CASES, ids=lambda one: getattr(one, "name", ""))
def test_what_is_refused_is_taken_from_a_peer_for_whom_it_is_relaxed(
    relaxation: Relaxation, data: bytes, refusal: type
) -> None:
    assert type(answer(data, Peer(LAX))) is refusal
    # Whoever ignores the application context does so whatever is wrong with it.
    others = EVERYTHING - {relaxation, Relaxation.APPLICATION_CONTEXT}
    assert type(answer(data, Peer(LAX, relax=others))) is refusal
    said = answer(data, Peer(LAX, relax=frozenset({relaxation})))
    assert type(said) is AssociateAC
    assert accepted(said) == [1]
    assert type(answer(data, Peer(LAX, relax=EVERYTHING))) is AssociateAC


@pytest.mark.parametrize(("relaxation", "data", "refusal"), CASES, ids=lambda one: getattr(one, "name", ""))
def test_nobody_else_may(relaxation: Relaxation, data: bytes, refusal: type) -> None:
    other = Peer(Entity("OTHER", "127.0.0.1", 104), relax=EVERYTHING)
    assert type(answer(data, other)) is refusal


@pytest.mark.parametrize(("relaxation", "data", "refusal"), CASES, ids=lambda one: getattr(one, "name", ""))
def test_a_profile_is_found_by_the_implementation(relaxation: Relaxation, data: bytes, refusal: type) -> None:
    profile = Peer(implementation_class_uid=IMPLEMENTATION, relax=frozenset({relaxation}))
    said = answer(data.replace(b"LAX ", b"ANY "), profile)
    named = b"LAX" not in data.replace(b"LAX ", b"ANY ") and relaxation is not Relaxation.NO_USER_INFORMATION
    assert type(said) is (AssociateAC if named or IMPLEMENTATION.encode() in data else refusal)


def test_the_titles_go_back_as_they_came() -> None:
    data = request(called=b"archive\0\xcd", calling=b"LAX\0junk")
    provider = Exchange.acceptor(peers=Peers([Peer(LAX, relax=EVERYTHING)]))
    provider.receive(data)
    provider.events()
    provider.evaluate(ARCHIVE)
    assert b"".join(provider.outgoing())[10:74] == data[10:74]
    assert (provider.calling, provider.called) == ("LAX", "archive")


def test_a_blank_caller_is_nobody_in_particular() -> None:
    profile = Peer(implementation_class_uid=IMPLEMENTATION, relax=frozenset({Relaxation.BLANK_TITLES}))
    data = request(calling=b"")
    assert type(answer(data, profile)) is AssociateAC
    listed = POLICY._replace(calling_ae_titles=frozenset({"CT1"}))
    assert type(answer(data, profile, listed)) is AssociateRJ
    assert type(answer(data, replace(STRICT, entity=LAX))) is AssociateRJ


def test_lengths_that_lie_are_never_mended() -> None:
    data = bytearray(request())
    data[-30] = 0xFF
    profile = Peer(LAX, relax=EVERYTHING)
    assert type(answer(bytes(data), profile)) is Abort
    for size in range(len(request()) - 6):
        body = request()[6 : 6 + size]
        assert isinstance(repair_pdu(1, body, EVERYTHING), bytes)


def test_items_in_items_without_end_are_not_followed() -> None:
    """Items of user information, each in the one before: nothing that a peer sends raises anything but our errors."""
    items = b""
    while len(items) < 65_000:
        items = pack(">BBH", 0x50, 0, len(items)) + items
    body = bytes(68) + items
    assert repair_pdu(1, body, frozenset({Relaxation.PADDED_UIDS})) == body


def test_what_is_right_is_left_alone() -> None:
    body = request()[6:]
    assert repair_pdu(1, body, EVERYTHING) == body
    body = accept(item(0x21, bytes([1, 0, 0, 0]) + item(0x40, SYNTAX)))[6:]
    assert repair_pdu(2, body, EVERYTHING) == body


# ---- what is taken from everybody ------------------------------------------------------------------------------------

LONG_NAME = item(0x55, b"A VERSION NAME THAT IS LONG")


@pytest.mark.parametrize(
    "data",
    [
        request(contexts=context(1, VERIFICATION + b"\0 ")),
        request(application=item(0xE0, b"?") + APPLICATION, contexts=context(more=item(0x77, b""))),
        request(application=b"", contexts=item(0x50, INFORMATION) + context(), information=APPLICATION),
        request(information=item(0x50, item(0x77, b"?") + INFORMATION + LONG_NAME)),
        request(information=item(0x50, b"")),
        request(version=0xFFFF),
        request()[:42] + b"\xff" * 32 + request()[74:],
    ],
)
def test_requests_that_anybody_may_send(data: bytes) -> None:
    assert accepted(answer(data, Peer(LAX))) == [1]


@pytest.mark.parametrize("result", [1, 4, 99, 255])
@pytest.mark.parametrize("more", [b"", item(0x40, b""), item(0x40, SYNTAX), 2 * item(0x40, SYNTAX), b"\xff\xff"])
def test_refused_contexts_are_not_looked_into(result: int, more: bytes) -> None:
    user = Exchange.requestor(calling="ME", called="LAX", contexts=CONTEXTS)
    user.outgoing()
    user.receive(accept(item(0x21, bytes([1, 0, result, 0]) + more)))
    (happened,) = user.events()
    assert isinstance(happened, AssociateAccepted)
    assert not user.contexts[1].accepted


def test_fragments_that_anybody_may_send() -> None:
    _, provider = established(Peer(LAX))
    command = store_command().encode()
    data = bytes(range(201))
    pieces = [(1, command[:7]), (1, b""), (3, command[7:]), (0, data[:3]), (0, b""), (0, data[3:]), (2, b"")]
    pdvs = b"".join(pack(">IBB", len(piece) + 2, 3, control) + piece for control, piece in pieces)
    provider.receive(pack(">BBI", 4, 0xFF, len(pdvs)) + pdvs)
    (happened,) = provider.events()
    assert happened.message.data.getvalue() == data


@pytest.mark.parametrize("length", [b"", b"\0\0\0\0\4\0\0\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("more", [b"", b"\0\0\1\0\2\0\0\0\x10\0", b"\0\0\x02\x50\2\0\0\0AB"])
def test_command_sets_that_anybody_may_send(length: bytes, more: bytes) -> None:
    _, provider = established(Peer(LAX))
    data = length + echo_request().encode()[12:] + more
    provider.receive(pack(">BBIIBB", 4, 0, len(data) + 6, len(data) + 2, 1, 3) + data)
    (happened,) = provider.events()
    assert happened.command.message_id == 1


# ---- as a requestor --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relaxation", "contexts"),
    [
        (Relaxation.STRAY_ITEMS, item(0x21, bytes([1, 0, 0, 0]) + 2 * item(0x40, SYNTAX) + item(0x30, b"1.2"))),
        (Relaxation.CONTEXT_IDS, 2 * item(0x21, bytes([1, 0, 0, 0]) + item(0x40, SYNTAX))),
        (Relaxation.PADDED_UIDS, item(0x21, bytes([1, 0, 0, 0]) + item(0x40, SYNTAX + b"\0\xcd"))),
    ],
)
def test_an_acceptor_has_a_profile_too(relaxation: Relaxation, contexts: bytes) -> None:
    for profile, event in ((Peer(LAX), AbortIndication), (Peer(LAX, relax=frozenset({relaxation})), AssociateAccepted)):
        user = Exchange.requestor(calling="ME", called="LAX", contexts=CONTEXTS, profile=profile)
        user.outgoing()
        user.receive(accept(contexts))
        (happened,) = user.events()
        assert isinstance(happened, event)
    if relaxation is not Relaxation.STRAY_ITEMS:
        assert user.contexts[1].transfer_syntax == SYNTAX.decode()


def established(profile: Peer, **limits: Any) -> tuple[Exchange, Exchange]:
    """A requestor, whose peer has this profile, and an acceptor that has it too."""
    user = Exchange.requestor(calling="LAX", called="LAX", contexts=CONTEXTS, profile=profile, limits=Limits(**limits))
    provider = Exchange.acceptor(peers=Peers([profile]), limits=Limits(**limits))
    transfer(user, provider)
    provider.events()
    provider.evaluate(POLICY._replace(max_pdu=provider.limits.max_pdu))
    transfer(provider, user)
    user.events()
    assert user.established
    return user, provider


def echo_request(**changes: Any) -> Command:
    elements = {
        "affected_sop_class_uid": uids.VERIFICATION,
        "command_field": CommandField.C_ECHO_RQ,
        "message_id": 1,
    }
    return Command(**elements | changes)


@pytest.mark.parametrize("relax", [frozenset(), frozenset({Relaxation.LONG_PDUS})])
def test_long_pdus(relax: frozenset[Relaxation]) -> None:
    _, provider = established(Peer(LAX, relax=relax), max_pdu=4096, tolerated_pdu=8192)
    data = message(echo_request(), size=8192)
    fragments = pack(">BBI", 4, 0, 8192) + pack(">IBB", 8188, 1, 1) + data[12:].ljust(8186, b"\0")
    provider.receive(fragments[:6])
    assert provider.established is bool(relax)
    for length in (8193, 0xFFFFFFFF):
        _, provider = established(Peer(LAX, relax=relax), max_pdu=4096, tolerated_pdu=8192)
        provider.receive(pack(">BBI", 4, 0, length))
        assert not provider.established


@pytest.mark.parametrize("relax", [frozenset(), frozenset({Relaxation.LONG_PDUS})])
def test_what_is_announced_stays_the_same(relax: frozenset[Relaxation]) -> None:
    user = Exchange.requestor(
        calling="ME", called="LAX", contexts=CONTEXTS, profile=Peer(LAX, relax=relax), limits=Limits(max_pdu=4096)
    )
    assert user.request_pdu is not None
    assert user.request_pdu.user_information[0].value == 4096


@pytest.mark.parametrize("rest", [1, 5])
@pytest.mark.parametrize("relax", [frozenset(), frozenset({Relaxation.PADDED_PDUS})])
def test_padded_pdus(relax: frozenset[Relaxation], rest: int) -> None:
    _, provider = established(Peer(LAX, relax=relax))
    data = message(echo_request())
    padded = data[:2] + pack(">I", len(data) - 6 + rest) + data[6:] + bytes(rest)
    provider.receive(padded + data)
    assert provider.established is bool(relax)
    assert len(provider.events()) == (2 if relax else 1 + 1)


@pytest.mark.parametrize("relax", [frozenset(), frozenset({Relaxation.STRAY_RESPONSES})])
def test_stray_responses(relax: frozenset[Relaxation]) -> None:
    user, _ = established(Peer(LAX, relax=relax))
    user.receive(message(response(echo(user)), context_id=1))
    user.events()
    assert not user.established  # a response to what was not sent yet is no stray one
    user, _ = established(Peer(LAX, relax=relax))
    asked = echo(user)
    user.outgoing()
    for _ in range(2):
        user.receive(message(response(asked), context_id=1))
        user.events()
    assert user.established is bool(relax)


# ---- requests to a provider ------------------------------------------------------------------------------------------


def store_command(**changes: Any) -> Command:
    elements = {
        "affected_sop_class_uid": CT,
        "affected_sop_instance_uid": "2.25.1",
        "command_field": CommandField.C_STORE_RQ,
        "message_id": 1,
        "priority": 0,
        "command_data_set_type": 1,
    }
    return Command(**elements | changes)


@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize(
    ("relaxation", "changes", "status"),
    [
        (Relaxation.MISMATCHED_CLASS, {"affected_sop_class_uid": MR}, Status.SOP_CLASS_NOT_SUPPORTED),
        (Relaxation.NO_PRIORITY, {"priority": None}, Status.MISTYPED_ARGUMENT),
    ],
)
@pytest.mark.parametrize("relaxed", [False, True])
def test_requests_of_a_store(
    face: str, relaxation: Relaxation, changes: dict[str, Any], status: int, relaxed: bool
) -> None:
    profile = Peer(Entity("RAW", "127.0.0.1", 104), relax=frozenset({relaxation}) if relaxed else frozenset())
    with faces.provider(face, peers=[profile]) as provider, provider.raw() as raw:
        raw.associate()
        raw.send(message(store_command(**changes), bytes(2), context_id=3))
        assert raw.read_command().status == (0 if relaxed else status)
    assert [uid for uid, _ in provider.stored] == (["2.25.1"] if relaxed else [])


# ---- in use ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize("user", faces.FACES)
def test_both_roles_take_profiles(face: str, user: str) -> None:
    profile = Peer(Entity("ME", "127.0.0.1", 104), relax=frozenset({Relaxation.TITLE_CASE}))
    with faces.provider(face, None, "ARCHIVE", peers=[profile]) as provider:
        there = Entity("archive", "127.0.0.1", provider.port)
        with faces.USERS[user](Peer(there), calling="ME") as association:
            assert association.echo().is_success
        with pytest.raises(AssociationRejected) as caught, faces.USERS[user](Peer(there), calling="OTHER"):
            pass
        assert caught.value.peer == str(there)


@pytest.mark.parametrize("user", faces.FACES)
def test_what_a_profile_proposes(user: str) -> None:
    seen: list[Any] = []

    def identify(identity: UserIdentity, caller: Any) -> bool:
        seen.append(identity.name)
        return True

    policy = AcceptancePolicy(identify=identify, operations_window=(4, 4))
    with faces.provider("sync", acceptance=policy) as provider:
        there = Entity("ARCHIVE", "127.0.0.1", provider.port)
        profile = Peer(there, identity=UserIdentity.named("jane"), window=(3, 1))
        with faces.USERS[user](profile) as one:
            assert one.association.operations_window == (3, 1)
        with faces.USERS[user](profile, extras=NegotiationOptions(identity=UserIdentity.named("joe"))) as one:
            assert one.association.operations_window == (3, 1)
    assert seen == ["jane", "joe"]


@pytest.mark.parametrize("user", faces.FACES)
def test_a_profile_says_how_a_connection_is_secured(user: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("localhost")
    secure = dn.TLS(cert=issued.cert, key=issued.key, client_certificate="ignored")
    with faces.provider("sync", tls=secure) as provider:
        there = Entity("ARCHIVE", "127.0.0.1", provider.port)
        with faces.USERS[user](Peer(there, tls=dn.TLS(ca=authority.file))) as one:
            assert one.association.tls is not None
            assert one.echo().is_success


@pytest.mark.parametrize("face", faces.FACES)
def test_a_move_goes_by_the_profile_of_its_destination(face: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("localhost")
    secure = dn.TLS(cert=issued.cert, key=issued.key, client_certificate="ignored")

    def take(listener: Any) -> None:
        listener.on_store(transfer_syntaxes=[uids.IMPLICIT_VR_LITTLE_ENDIAN])(
            lambda request: taken.append(request.transfer_syntax_uid)
        )

    def give(listener: Any) -> None:
        listener.transcode = "never"
        listener.on_move("STUDY_ROOT")(lambda request: [faces.instance(100)])

    taken: list[str] = []
    with faces.provider("sync", take, tls=secure) as target:
        there = Entity("THERE", "127.0.0.1", target.port)
        profiles = [
            Peer(there, tls=dn.TLS(ca=authority.file), transcode="if needed"),
            Peer(there, tls=dn.TLS(ca=authority.file)),
        ]
        for profile, sent in zip(profiles, (1, 0), strict=True):
            options = {"peers": [profile], "destinations": {"THERE": there}}
            with (
                faces.provider(face, give, **options) as provider,
                faces.USERS["sync"](provider.peer(), contexts=dn.contexts.query_retrieve()) as user,
            ):
                if sent:
                    assert user.move("STUDY", StudyInstanceUID="1.2", destination="THERE").completed == sent
                else:
                    with pytest.raises(dn.ServiceFailure):
                        user.move("STUDY", StudyInstanceUID="1.2", destination="THERE")
    assert taken == [uids.IMPLICIT_VR_LITTLE_ENDIAN]


@pytest.mark.parametrize("user", faces.FACES)
def test_a_profile_says_when_instances_are_converted(user: str) -> None:
    def take(listener: Any) -> None:
        listener.on_store(transfer_syntaxes=[uids.IMPLICIT_VR_LITTLE_ENDIAN])(lambda request: None)

    contexts = dn.contexts.storage([CT], [uids.EXPLICIT_VR_LITTLE_ENDIAN]) + dn.contexts.storage(
        [CT], [uids.IMPLICIT_VR_LITTLE_ENDIAN]
    )
    with faces.provider("sync", take) as provider:
        there = Entity("ARCHIVE", "127.0.0.1", provider.port)
        # What is not compressed is converted whatever the policy (PS3.5 Section 10.1).
        for transcode, options in [("if needed", {}), (None, {}), ("if needed", {"transcode": "never"})]:
            with faces.USERS[user](Peer(there, transcode=transcode), contexts=contexts) as one:
                (result,) = one.store_many([faces.instance(100)], **options)
                assert result.ok


def test_profiles_that_nobody_could_be_found_by() -> None:
    with pytest.raises(InvalidArgument):
        Peers([Peer(relax=EVERYTHING)])
    with pytest.raises(InvalidArgument):
        Peer().address()
    assert Peer.of("A@b:1") == Peer(Entity("A", "b", 1))
    assert not Peers()


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(Peer(LAX, identity=UserIdentity.named("jane", "hunter2")))


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_table_of_relaxations_is_that_of_the_code() -> None:
    text = (Path(__file__).parent.parent / "docs" / "peers.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|$", text, re.MULTILINE))
    assert rows == {relaxation.name: relaxation.reason for relaxation in Relaxation}
