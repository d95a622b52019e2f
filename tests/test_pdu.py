"""The PDU codec: values and bytes, both ways, against a second codec and against what DCMTK's programs sent."""

from __future__ import annotations

import array
import copy
import mmap
import pickle
from pathlib import Path

import pytest
import reference
import strategies
from cases import every
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnet import _pdu as pdu
from dicomnet.errors import InvalidArgument, MalformedPDU

GOLDEN = sorted((Path(__file__).parent / "data" / "golden").glob("*.bin"))
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

golden = every("path", GOLDEN)


def request(**fields: object) -> pdu.AssociateRQ:
    """A request that is complete, with some fields changed."""
    defaults: dict[str, object] = {
        "called_ae_title": "ARCHIVE",
        "calling_ae_title": "WS1",
        "presentation_contexts": (pdu.PresentationContextRQ(1, CT, (EXPLICIT, IMPLICIT)),),
        "user_information": (pdu.MaximumLength(16384), pdu.ImplementationClassUID("1.2.3")),
    }
    return pdu.AssociateRQ(**(defaults | fields))  # type: ignore[arg-type]


# One of each, with its bytes written out by hand from the standard's tables.
EXAMPLES = [
    (pdu.AssociateRJ(1, 1, 7), "03 00 00000004 00 01 01 07"),
    (pdu.ReleaseRQ(), "05 00 00000004 00000000"),
    (pdu.ReleaseRP(), "06 00 00000004 00000000"),
    (pdu.Abort(2, 6), "07 00 00000004 00 00 02 06"),
    (pdu.PDataTF((pdu.PDV(3, b"\1\2", True, False),)), "04 00 00000008 00000004 03 01 0102"),
    (pdu.PDataTF((pdu.PDV(5, b"", False, True),)), "04 00 00000006 00000002 05 02"),
    (pdu.PDV(255, b"\xff", True, True), "00000003 ff 03 ff"),
    (pdu.UnknownItem(0xFF, b"xy"), "ff 00 0002 7879"),
    (pdu.MaximumLength(0x01020304), "51 00 0004 01020304"),
    (pdu.ImplementationClassUID("1.2"), "52 00 0003 312e32"),
    (pdu.AsynchronousOperationsWindow(3, 0), "53 00 0004 0003 0000"),
    (pdu.RoleSelection("1.2", False, True), "54 00 0007 0003 312e32 00 01"),
    (pdu.ImplementationVersionName("ME_1"), "55 00 0004 4d455f31"),
    (pdu.SOPClassExtendedNegotiation("1.2", b"\1\0"), "56 00 0007 0003 312e32 0100"),
    (
        pdu.SOPClassCommonExtendedNegotiation("1.2", "1.3", ("1.4", "1")),
        "57 00 0014 0003 312e32 0003 312e33 0008 0003 312e34 0001 31",
    ),
    (pdu.SOPClassCommonExtendedNegotiation("1", "2", (), version=1), "57 01 0008 0001 31 0001 32 0000"),
    (pdu.UserIdentityRQ(2, b"joe", b"pw", True), "58 00 000b 02 01 0003 6a6f65 0002 7077"),
    (pdu.UserIdentityRQ(1, b"joe"), "58 00 0009 01 00 0003 6a6f65 0000"),
    (pdu.UserIdentityAC(b"ok"), "59 00 0004 0002 6f6b"),
    (pdu.UserIdentityAC(), "59 00 0002 0000"),
    (
        pdu.PresentationContextRQ(7, "1.2", ("1.3", "1")),
        "20 00 0017 07 000000 30 00 0003 312e32 40 00 0003 312e33 40 00 0001 31",
    ),
    (pdu.PresentationContextAC(7, 0, "1.3"), "21 00 000b 07 00 00 00 40 00 0003 312e33"),
    (pdu.PresentationContextAC(7, 3), "21 00 0004 07 00 03 00"),
    (pdu.PresentationContextAC(7, 4, ""), "21 00 0008 07 00 04 00 40 00 0000"),
]


@every("value, expected", EXAMPLES)
def test_encoding_is_what_the_tables_say(value, expected):
    assert value.encode().hex() == expected.replace(" ", "")


def test_a_request_is_laid_out_as_table_9_11_says():
    encoded = request(unknown=(pdu.UnknownItem(0x77, b"?"),)).encode()
    assert encoded[:2] == b"\1\0"
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    assert encoded[6:10] == b"\0\1\0\0"
    assert encoded[10:26] == b"ARCHIVE".ljust(16)
    assert encoded[26:42] == b"WS1".ljust(16)
    assert encoded[42:74] == bytes(32)
    assert encoded[74:78] == b"\x10\0\0\x15"
    assert encoded[78:99] == b"1.2.840.10008.3.1.1.1"
    assert encoded[99] == 0x20
    assert encoded.endswith(b"\x77\0\0\1?")


# Properties


@given(strategies.pdus())
def test_decoding_what_was_encoded_gives_the_same_value(value):
    assert pdu.decode(value.encode()) == value


@given(strategies.pdus())
def test_the_oracle_agrees_on_bytes_and_on_values(value):
    encoded = value.encode()
    assert encoded == reference.encode(value)
    assert reference.decode(encoded) == reference.plain(value)


@given(strategies.items)
def test_the_oracle_agrees_on_every_item(value):
    assert value.encode() == reference.encode_item(value)


@given(st.lists(strategies.pdus(), min_size=1, max_size=4), strategies.cuts())
def test_decoding_does_not_depend_on_where_the_bytes_are_cut(values, sizes):
    stream = b"".join(value.encode() for value in values)
    received = bytearray()
    found = []
    for piece in strategies.split(stream, sizes):
        received += piece
        while (first := pdu.decode_first(received)) is not None:
            found.append(first[0])
            del received[: first[1]]
    assert found == values
    assert not received


@given(strategies.pdus())
def test_the_body_alone_gives_the_same_value(value):
    encoded = value.encode()
    assert pdu.decode_body(encoded[0], memoryview(encoded)[6:]) == value


@given(st.one_of(strategies.pdus(), strategies.items))
def test_a_value_is_its_content(value):
    copies = [
        copy.copy(value),
        copy.deepcopy(value),
        pickle.loads(pickle.dumps(value)),
        type(value)(*(getattr(value, name) for name in value.__match_args__)),
        type(value)(**{name: getattr(value, name) for name in value.__match_args__}),
    ]
    assert all(other == value and hash(other) == hash(value) for other in copies)
    assert repr(value).startswith(type(value).__name__ + "(")


@given(strategies.items, strategies.items)
def test_values_differ_where_their_bytes_do(one, other):
    assert (one == other) == (type(one) is type(other) and one.encode() == other.encode())


# Golden vectors: every reader whole, byte by byte, and with bytes after it


def test_golden_vectors_cover_every_pdu_and_sub_item():
    decoded = [pdu.decode(path.read_bytes()) for path in GOLDEN]
    assert {type(value).__name__ for value in decoded} == set(reference.PDU_TYPES)
    associates = [value for value in decoded if isinstance(value, pdu.AssociateRQ | pdu.AssociateAC)]
    kinds = {item.encode()[0] for value in associates for item in value.user_information}
    assert kinds == set(range(0x51, 0x5A))


def without_reserved(data: bytes) -> bytes:
    """An association PDU with zeros in the reserved bytes of its contexts, where DCMTK sends FFH."""
    zeroed = bytearray(data)
    at = 74
    while data[0] == pdu.PDU_ASSOCIATE_RQ and at < len(data):
        if data[at] == 0x20:
            zeroed[at + 5 : at + 8] = bytes(3)
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    return bytes(zeroed)


@golden
def test_golden_whole(path):
    data = path.read_bytes()
    value = pdu.decode(data)
    assert value.encode() == without_reserved(data)
    assert reference.plain(value) == reference.decode(data)


@golden
def test_golden_byte_by_byte(path):
    data = memoryview(path.read_bytes())
    step = 1 if len(data) < 1000 else 97
    assert all(pdu.decode_first(data[:size]) is None for size in range(0, len(data), step))
    assert pdu.decode_first(data[:-1]) is None
    assert pdu.decode_first(data) == (pdu.decode(data), len(data))


@golden
def test_golden_with_bytes_before_and_after(path):
    data = path.read_bytes()
    for after in (b"\0", b"\5", data):
        assert pdu.decode_first(b"before" + data + after, 6) == (pdu.decode(data), 6 + len(data))
        with pytest.raises(MalformedPDU):
            pdu.decode(data + after)
    with pytest.raises(MalformedPDU):
        pdu.decode(data[:-1])


def golden_value(name: str) -> pdu.PDU:
    return pdu.decode((Path(__file__).parent / "data" / "golden" / f"{name}.bin").read_bytes())


def test_golden_echo():
    asked = golden_value("echo-client-1-associate-rq")
    assert isinstance(asked, pdu.AssociateRQ)
    assert (asked.calling_ae_title, asked.called_ae_title) == ("ECHOSCU", "ANY-SCP")
    assert asked.presentation_contexts == (pdu.PresentationContextRQ(1, "1.2.840.10008.1.1", (IMPLICIT,)),)
    assert asked.user_information == (
        pdu.MaximumLength(16384),
        pdu.ImplementationClassUID("1.2.276.0.7230010.3.0.3.6.7"),
        pdu.ImplementationVersionName("OFFIS_DCMTK_367"),
    )
    sent = golden_value("echo-client-2-data")
    assert isinstance(sent, pdu.PDataTF)
    assert [(pdv.context_id, pdv.is_command, pdv.is_last) for pdv in sent.pdvs] == [(1, True, True)]


def test_golden_options_and_roles():
    asked = golden_value("store-options-client-1-associate-rq")
    assert isinstance(asked, pdu.AssociateRQ)
    assert pdu.RoleSelection(CT, True, True) in asked.user_information
    assert pdu.SOPClassExtendedNegotiation(CT, bytes.fromhex("020003000000")) in asked.user_information


def test_golden_identity():
    asked = golden_value("store-password-client-1-associate-rq")
    assert isinstance(asked, pdu.AssociateRQ)
    assert asked.user_information[-1] == pdu.UserIdentityRQ(2, b"joe", b"secret", True)


def test_golden_refusals():
    assert golden_value("archive-unknown-title-provider-1-associate-rj") == pdu.AssociateRJ(1, 1, 7)
    answer = golden_value("find-refused-provider-1-associate-ac")
    assert isinstance(answer, pdu.AssociateAC)
    assert [context.result for context in answer.presentation_contexts] == [3]


# Buffers


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_any_contiguous_buffer_will_do(wrap):
    value = request()
    assert pdu.decode(wrap(value.encode())) == value
    assert pdu.decode_body(1, wrap(value.encode()[6:])) == value


def test_a_mapped_file_and_a_slice_will_do(tmp_path):
    value = request()
    path = tmp_path / "pdu"
    path.write_bytes(b"..." + value.encode() + b"...")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert pdu.decode_first(mapped, 3) == (value, 3 + len(value.encode()))
        with memoryview(mapped) as whole, whole[3:-3] as part:
            assert pdu.decode(part) == value


def test_what_is_not_a_buffer_is_a_type_error():
    with pytest.raises(TypeError):
        pdu.decode("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        pdu.decode(memoryview(bytes(20))[::2])


def test_values_do_not_share_the_buffer():
    buffer = bytearray(pdu.PDataTF((pdu.PDV(1, b"data", False, True),)).encode())
    value = pdu.decode(buffer)
    buffer[:] = b"\0" * len(buffer)
    assert value == pdu.PDataTF((pdu.PDV(1, b"data", False, True),))


def test_an_offset_beyond_the_buffer_is_an_invalid_argument():
    assert pdu.decode_first(b"", 0) is None
    for offset in (-1, 1, 2**62):
        with pytest.raises(InvalidArgument):
            pdu.decode_first(b"", offset)


# Values


@every("value", [value for value, _ in EXAMPLES] + [request()])
def test_values_are_frozen(value):
    for name in (*value.__match_args__, "anything"):
        with pytest.raises(AttributeError):
            setattr(value, name, getattr(value, name, None))
        with pytest.raises(AttributeError):
            delattr(value, name)


def test_values_match_by_position():
    match pdu.decode(pdu.Abort(2, 1).encode()):
        case pdu.Abort(source, reason):
            assert (source, reason) == (2, 1)
        case _:
            pytest.fail("an A-ABORT is an Abort")


def test_sequences_become_tuples():
    value = request(
        presentation_contexts=[pdu.PresentationContextRQ(1, CT, iter([IMPLICIT]))], user_information=[], unknown=[]
    )
    assert value.presentation_contexts[0].transfer_syntaxes == (IMPLICIT,)
    assert value.user_information == value.unknown == ()


def test_padding_is_not_part_of_a_value():
    assert request(called_ae_title="  ARCHIVE ") == request()
    assert (
        pdu.ImplementationClassUID("1.2\0") == pdu.ImplementationClassUID("1.2 ") == pdu.ImplementationClassUID("1.2")
    )
    assert pdu.ImplementationVersionName("V1 \0") == pdu.ImplementationVersionName("V1")


def test_subclasses_of_str_become_str():
    class UID(str):
        pass

    assert type(pdu.ImplementationClassUID(UID("1.2")).uid) is str
    assert type(request(called_ae_title=UID("A")).called_ae_title) is str


def test_payloads_become_bytes():
    assert type(pdu.PDV(1, memoryview(b"ab"), False, True).data) is bytes
    with pytest.raises(TypeError):
        pdu.PDV(1, "text", False, True)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pdu.PDV(1, 5, False, True)  # type: ignore[arg-type]


def test_names_longer_than_the_standard_allows_are_kept():
    name = pdu.ImplementationVersionName("A" * 40)
    value = request(user_information=(name,))
    assert pdu.decode(value.encode()) == value


def test_different_kinds_are_never_equal():
    assert pdu.ReleaseRQ() != pdu.ReleaseRP()
    assert pdu.MaximumLength(1) != 1
    assert len({pdu.ReleaseRQ(), pdu.ReleaseRQ(), pdu.ReleaseRP()}) == 2


def test_repr_names_the_fields():
    assert repr(pdu.Abort(2, 1)) == "Abort(source=2, reason=1)"
    assert repr(pdu.ReleaseRQ()) == "ReleaseRQ()"
    assert repr(pdu.PDV(1, b"ab", True, False)) == "PDV(context_id=1, data=b'ab', is_command=True, is_last=False)"


def test_repr_shows_no_object_and_no_secret():
    assert "data=<100 bytes>" in repr(pdu.PDV(1, b"x" * 100, True, False))
    assert "secret" not in repr(pdu.UserIdentityRQ(2, b"joe", b"secret")) + repr(pdu.UserIdentityRQ(5, b"secret"))
    assert "secret" not in repr(request(user_information=(pdu.UserIdentityRQ(2, b"joe", b"secret"),)))
    assert "ticket" not in repr(pdu.UserIdentityAC(b"ticket"))
    assert "joe" in repr(pdu.UserIdentityRQ(2, b"joe", b"secret"))


# Arguments


context = pdu.PresentationContextRQ(1, CT, (IMPLICIT,))
INVALID = {
    "title of 17": lambda: request(called_ae_title="A" * 17),
    "title beyond latin-1": lambda: request(calling_ae_title="\u0416"),
    "version name beyond latin-1": lambda: pdu.ImplementationVersionName("\u0416"),
    "uid beyond ascii": lambda: pdu.ImplementationClassUID("1.2\xe9"),
    "uid with a surrogate": lambda: pdu.ImplementationClassUID("\udc80"),
    "no contexts": lambda: request(presentation_contexts=()),
    "context twice": lambda: request(presentation_contexts=(context, context)),
    "protocol version": lambda: request(protocol_version=0x10000),
    "context id 0": lambda: pdu.PresentationContextRQ(0, CT, (IMPLICIT,)),
    "context id 2": lambda: pdu.PresentationContextRQ(2, CT, (IMPLICIT,)),
    "context id 257": lambda: pdu.PresentationContextAC(257, 3),
    "context id -1": lambda: pdu.PDV(-1, b"", True, True),
    "context id huge": lambda: pdu.PDV(2**80 + 1, b"", True, True),
    "no transfer syntax": lambda: pdu.PresentationContextRQ(1, CT, ()),
    "accepted without syntax": lambda: pdu.PresentationContextAC(1, 0),
    "result 256": lambda: pdu.PresentationContextAC(1, 256),
    "maximum length -1": lambda: pdu.MaximumLength(-1),
    "maximum length 2^32": lambda: pdu.MaximumLength(2**32),
    "window 65536": lambda: pdu.AsynchronousOperationsWindow(65536, 1),
    "window -1": lambda: pdu.AsynchronousOperationsWindow(1, -1),
    "identity type 256": lambda: pdu.UserIdentityRQ(256, b""),
    "version 256": lambda: pdu.SOPClassCommonExtendedNegotiation("1", "1", (), 256),
    "known item": lambda: pdu.UnknownItem(0x51, b""),
    "item type 256": lambda: pdu.UnknownItem(256, b""),
    "too many unknown": lambda: request(unknown=(pdu.UnknownItem(1, b""),) * 1025),
    "no pdv": lambda: pdu.PDataTF(()),
    "reject result": lambda: pdu.AssociateRJ(256, 1, 1),
    "reject source": lambda: pdu.AssociateRJ(1, -1, 1),
    "reject reason": lambda: pdu.AssociateRJ(1, 1, 256),
    "abort source": lambda: pdu.Abort(256, 0),
    "abort reason": lambda: pdu.Abort(0, 256),
}


@every("build", [pytest.param(build, id=name) for name, build in INVALID.items()])
def test_what_cannot_be_sent_cannot_be_built(build):
    with pytest.raises(InvalidArgument):
        build()


LONG = b"x" * 65536
TOO_LONG = {
    "unknown item": pdu.UnknownItem(0x77, LONG),
    "class uid": pdu.ImplementationClassUID("1" * 65536),
    "version name": pdu.ImplementationVersionName("1" * 65536),
    "role": pdu.RoleSelection("1" * 65536, True, True),
    "role's item": pdu.RoleSelection("1" * 65533, True, True),
    "options": pdu.SOPClassExtendedNegotiation("1", LONG),
    "related classes": pdu.SOPClassCommonExtendedNegotiation("1", "1", ("1" * 60,) * 1200),
    "common options": pdu.SOPClassCommonExtendedNegotiation("1" * 40000, "1" * 40000, ()),
    "identity": pdu.UserIdentityRQ(1, LONG),
    "passcode": pdu.UserIdentityRQ(2, b"", LONG),
    "identity's item": pdu.UserIdentityRQ(2, LONG[:-1], LONG[:-1]),
    "response": pdu.UserIdentityAC(LONG),
    "abstract syntax": pdu.PresentationContextRQ(1, "1" * 65536, ("1",)),
    "transfer syntax": pdu.PresentationContextRQ(1, "1", ("1" * 65536,)),
    "context": pdu.PresentationContextRQ(1, "1", ("1" * 64,) * 1000),
    "answer": pdu.PresentationContextAC(1, 0, "1" * 65530),
    "user information": request(user_information=(pdu.UserIdentityAC(b"x" * 40000),) * 2),
    "application context": request(application_context_name="1" * 65536),
}


@every("value", [pytest.param(value, id=name) for name, value in TOO_LONG.items()])
def test_what_does_not_fit_its_length_field_is_not_sent(value):
    with pytest.raises(InvalidArgument, match="at most 65535"):
        value.encode()


def test_what_just_fits_is_sent():
    for value in (pdu.UnknownItem(0x77, LONG[:-1]), pdu.UserIdentityRQ(2, LONG[:40000], LONG[: 65535 - 40006])):
        assert len(value.encode()) == 4 + 65535
    large = request(
        presentation_contexts=[pdu.PresentationContextRQ(2 * n + 1, "1", ("1" * 60000,)) for n in range(128)]
    )
    assert pdu.decode(large.encode()) == large


WRONG_TYPES = {
    "a title that is bytes": lambda: request(called_ae_title=b"A"),
    "one uid for a sequence": lambda: pdu.PresentationContextRQ(1, CT, IMPLICIT),
    "related uid": lambda: pdu.SOPClassCommonExtendedNegotiation("1", "1", "1.2"),
    "an answer's context in a request": lambda: request(presentation_contexts=(pdu.PresentationContextAC(1, 3),)),
    "a request's context in an answer": lambda: pdu.AssociateAC("A", "B", (context,), ()),
    "a context for a sub-item": lambda: request(user_information=(context,)),
    "a sub-item for an unknown": lambda: request(unknown=(pdu.MaximumLength(1),)),
    "bytes for a pdv": lambda: pdu.PDataTF((b"",)),
    "none": lambda: request(presentation_contexts=None),
    "a float": lambda: pdu.MaximumLength(1.0),
    "a text id": lambda: pdu.PDV("1", b"", True, True),
}


@pytest.mark.parametrize("build", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_types_are_type_errors(build):
    with pytest.raises(TypeError):
        build()


@pytest.mark.parametrize("kind", [pdu.PDU, pdu.SubItem], ids=lambda kind: kind.__name__)
def test_bases_cannot_be_encoded(kind):
    with pytest.raises(NotImplementedError):
        kind().encode()


@every("value", [value for value, _ in EXAMPLES] + [request()])
def test_a_value_without_its_content_does_not_crash(value):
    empty = type(value).__new__(type(value))
    with_content = bool(value.__match_args__)
    try:
        encoded = empty.encode()
    except (TypeError, AttributeError):
        assert with_content
    else:
        assert isinstance(encoded, bytes)


@settings(max_examples=30)
@given(strategies.associate_rqs)
def test_decoded_values_hold_plain_tuples_and_text(value):
    decoded = pdu.decode(value.encode())
    assert isinstance(decoded, pdu.AssociateRQ)
    assert type(decoded.presentation_contexts) is type(decoded.user_information) is type(decoded.unknown) is tuple
    assert all(type(uid) is str for item in decoded.presentation_contexts for uid in item.transfer_syntaxes)
