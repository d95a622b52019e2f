"""What a hostile or broken peer may send: every length that lies, every item out of place (noise: test_pdu_noise).

Each test names its row in docs/reliability.md. The verdict is always one of two: a value, or MalformedPDU.
"""

from __future__ import annotations

import itertools
import json
import mmap
import struct
import tracemalloc
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import reference
from cases import every

from dicomnet import _pdu as pdu
from dicomnet.errors import MalformedPDU

STANDARD = json.loads((Path(__file__).parent / "data" / "ps38.json").read_text())
UNRECOGNIZED_PDU, UNEXPECTED_PARAMETER, INVALID_VALUE = 1, 5, 6
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"


def verdict(data: bytes) -> Any:
    """What the codec makes of the bytes, in the oracle's terms; the two must agree."""
    try:
        expected = reference.decode(data)
    except reference.Wrong:
        expected = None
    try:
        found, error = reference.plain(pdu.decode(data)), None
    except MalformedPDU as raised:
        found, error = None, raised
    assert found == expected
    if error is not None:
        assert error.reason in (UNRECOGNIZED_PDU, UNEXPECTED_PARAMETER, INVALID_VALUE)
        assert 0 <= error.offset <= max(len(data), 2)
    return found


def refused(data: bytes, reason: int = INVALID_VALUE) -> MalformedPDU:
    assert verdict(data) is None
    with pytest.raises(MalformedPDU) as caught:
        pdu.decode(data)
    assert caught.value.reason == reason
    return caught.value


def whole(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


# A request and an answer with one of everything, and their parts


PARTS = {
    "10": reference.item(0x10, b"1.2.840.10008.3.1.1.1"),
    "30": reference.item(0x30, CT.encode()),
    "40": reference.item(0x40, IMPLICIT.encode()),
    "51": pdu.MaximumLength(16384).encode(),
    "52": pdu.ImplementationClassUID("1.2.3.4").encode(),
    "53": pdu.AsynchronousOperationsWindow(1, 1).encode(),
    "54": pdu.RoleSelection(CT, True, True).encode(),
    "55": pdu.ImplementationVersionName("DICOMNET").encode(),
    "56": pdu.SOPClassExtendedNegotiation(CT, b"\1\1\0").encode(),
    "57": pdu.SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ("1.2.3", "1.2.4")).encode(),
    "58": pdu.UserIdentityRQ(2, b"joe", b"passcode", True).encode(),
    "59": pdu.UserIdentityAC(b"response").encode(),
    "PDV": pdu.PDV(1, b"fragment", True, True).encode(),
}
PARTS["20"] = reference.item(0x20, b"\1\0\0\0" + PARTS["30"] + PARTS["40"])
PARTS["21"] = reference.item(0x21, b"\1\0\0\0" + PARTS["40"])
PARTS["50"] = reference.item(0x50, b"".join(PARTS[f"5{n}"] for n in range(1, 10)))
FIXED = struct.pack(">HH16s16s32s", 1, 0, b"ARCHIVE".ljust(16), b"WS1".ljust(16), bytes(32))
PDUS = {
    "01": whole(1, FIXED + PARTS["10"] + PARTS["20"] + PARTS["50"]),
    "02": whole(2, FIXED + PARTS["10"] + PARTS["21"] + PARTS["50"]),
    "03": pdu.AssociateRJ(1, 1, 7).encode(),
    "04": whole(4, PARTS["PDV"]),
    "05": pdu.ReleaseRQ().encode(),
    "06": pdu.ReleaseRP().encode(),
    "07": pdu.Abort(2, 1).encode(),
}
HOLDERS = {"20": "01", "30": "01", "21": "02", "PDV": "04"}  # the others stand in the request


class Row(NamedTuple):
    """A field of the standard's layout tables, where it stands in one of the PDUs above."""

    part: str
    name: str
    data: bytes
    offset: int
    size: int
    note: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.part}-{self.name}-{self.offset}"

    def holding(self, value: int) -> bytes:
        return self.data[: self.offset] + value.to_bytes(self.size, "big") + self.data[self.offset + self.size :]

    @property
    def exact(self) -> int:
        return int.from_bytes(self.data[self.offset : self.offset + self.size], "big")

    @property
    def is_length(self) -> bool:
        return self.note.get("type") in ("u16be", "u32be") and self.name.lower().endswith("length")


def rows_of(part: str, fields: list[dict[str, Any]], data: bytes, content: bytes) -> list[Row]:
    """The fields with their true offsets: one of variable size is as long as the length before it says."""
    start = data.index(content)
    at, announced, rows = 0, None, []
    for note in fields:
        size = note["size"]
        if not isinstance(size, int):
            size, announced = len(content) - at if announced is None else announced, None
        row = Row(part, note["name"], data, start + at, size, note)
        rows.append(row)
        if row.is_length and note["name"] not in ("Item-length", "PDU-length"):
            announced = row.exact
        at += size
    assert at == len(content), part
    return rows


LAYOUTS = {**STANDARD["pdus"], **STANDARD["items"], **STANDARD["user_info_subitems"]}
ROWS = [
    row
    for part, layout in LAYOUTS.items()
    for row in rows_of(part, layout["fields"], PDUS.get(part) or PDUS[HOLDERS.get(part, "01")], (PDUS | PARTS)[part])
]
LENGTHS = [row for row in ROWS if row.is_length]
RESERVED = [row for row in ROWS if row.note.get("on_receive") == "do not test" and row.part != "57"]


def test_the_examples_cover_every_layout_row():
    assert len(ROWS) == sum(len(layout["fields"]) for layout in LAYOUTS.values())
    assert {row.part for row in LENGTHS} == set(LAYOUTS)
    assert all(verdict(data) is not None for data in PDUS.values())


@every("row", LENGTHS)
def test_t_len_lengths_that_lie(row):
    container = len(row.data) - row.offset - row.size
    largest = 256**row.size - 1
    for lie in (0, 1, row.exact - 1, row.exact + 1, container, container + 1, 2 * container, largest - 1, largest):
        # A longer item may swallow its neighbours and be sound; the oracle knows. Past the end nothing is.
        value = verdict(row.holding(lie))
        assert value is None or lie <= container
    assert verdict(row.holding(row.exact)) is not None


@every("row", LENGTHS)
def test_t_len_every_small_length(row):
    for lie in range(min(64 + row.exact, 256**row.size)):
        verdict(row.holding(lie))


@every("row", RESERVED)
def test_reserved_bytes_are_not_tested(row):
    untested = row.data[: row.offset] + b"\xff" * row.size + row.data[row.offset + row.size :]
    value = verdict(untested)
    assert value is not None
    if row.part != "02":  # the answer's copies of the AE titles are reserved, and given out all the same
        assert value == verdict(row.data)


@pytest.mark.long
@every("row", ROWS)
def test_every_value_of_every_byte_of_every_field(row):
    for at in range(row.offset, min(row.offset + row.size, row.offset + 4)):
        for byte in range(256):
            verdict(row.data[:at] + bytes([byte]) + row.data[at + 1 :])


@pytest.mark.parametrize("name", PDUS)
def test_every_byte_removed_and_every_byte_doubled(name):
    data = PDUS[name]
    for at in range(6, len(data)):
        for changed in (data[:at] + data[at + 1 :], data[:at] + data[at : at + 1] + data[at:]):
            verdict(changed)
            verdict(whole(changed[0], changed[6:]))


@pytest.mark.parametrize("name", PDUS)
def test_every_prefix_with_a_length_made_true(name):
    for size in range(6, len(PDUS[name])):
        assert verdict(whole(PDUS[name][0], PDUS[name][6:size])) is None


# T-CAP: what is judged before it is waited for


@every("kind", [1, 2, 3, 5, 6, 7])
@every("length", [0, 1, 3, 5, 67, 0x100001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_t_cap_a_length_that_its_type_cannot_have(kind, length):
    with pytest.raises(MalformedPDU) as caught:
        pdu.decode_first(struct.pack(">BBI", kind, 0, length))
    assert (caught.value.reason, caught.value.pdu_type, caught.value.offset) == (INVALID_VALUE, kind, 2)


def test_t_cap_association_pdus_are_limited():
    header = struct.pack(">BBI", 1, 0, 0x100000)
    assert pdu.decode_first(header) is None
    with pytest.raises(MalformedPDU):
        pdu.decode_first(header, max_associate=0xFFFFF)
    assert pdu.decode_first(struct.pack(">BBI", 1, 0, 0xFFFFFFFF), max_associate=0) is None


def test_t_cap_data_is_limited_to_what_was_announced():
    for length in (0, 1, 5):
        with pytest.raises(MalformedPDU):
            pdu.decode_first(struct.pack(">BBI", 4, 0, length))
    assert pdu.decode_first(struct.pack(">BBI", 4, 0, 16384), max_length=16384) is None
    for length in (16385, 0xFFFFFFFF):
        with pytest.raises(MalformedPDU):
            pdu.decode_first(struct.pack(">BBI", 4, 0, length), max_length=16384)


def test_t_cap_nothing_is_allocated_by_a_declared_length():
    tracemalloc.start()
    try:
        for length in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            assert pdu.decode_first(struct.pack(">BBI", 4, 0, length)) is None
            refused(whole(4, struct.pack(">IBB", length, 1, 0)))
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_t_cap_a_body_longer_than_any_pdu():
    try:
        huge = mmap.mmap(-1, 1 << 32)  # reserved, never touched
    except (OSError, ValueError, OverflowError):
        pytest.skip("no room for 4 GiB of addresses")
    with huge, pytest.raises(MalformedPDU):
        pdu.decode_body(4, huge)


@pytest.mark.parametrize("kind", [3, 5, 6, 7])
def test_t_cap_a_short_body_has_four_bytes(kind):
    for size in (0, 3, 5, 68):
        with pytest.raises(MalformedPDU) as caught:
            pdu.decode_body(kind, bytes(size))
        assert caught.value.reason == INVALID_VALUE


@pytest.mark.parametrize("kind", [-1, 0, 8, 255, 256])
def test_a_body_of_no_type_is_unrecognized(kind):
    with pytest.raises(MalformedPDU) as caught:
        pdu.decode_body(kind, b"1234")
    assert caught.value.reason == UNRECOGNIZED_PDU


# T-FOREIGN: other protocols on the port

FOREIGN = {
    "http": b"GET / HTTP/1.1\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303"),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "hl7": b"\x0bMSH|^~\\&|",
    "smb": bytes.fromhex("00000085ff534d4272"),
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "smtp": b"EHLO example\r\n",
    "ldap": bytes.fromhex("300c020101600702010304008000"),
    "postgres": bytes.fromhex("0000000804d2162f"),
    "mqtt": bytes.fromhex("101000044d515454"),
    "proxy": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 104\r\n",
}


@pytest.mark.parametrize("opening", FOREIGN.values(), ids=FOREIGN)
def test_t_foreign_the_first_byte_is_enough(opening):
    for size in (1, len(opening)):
        with pytest.raises(MalformedPDU) as caught:
            pdu.decode_first(opening[:size])
        assert (caught.value.reason, caught.value.pdu_type) == (UNRECOGNIZED_PDU, opening[0])


@every("kind", [0, *range(8, 256)])
def test_t_foreign_every_other_type(kind):
    assert refused(whole(kind, bytes(4)), UNRECOGNIZED_PDU).pdu_type == kind


# T-UNKNOWN

UNKNOWN_TYPES = [kind for kind in range(256) if kind not in reference.KNOWN_ITEMS]
PLACES = {
    "first": lambda extra: FIXED + extra + PARTS["10"] + PARTS["20"] + PARTS["50"],
    "between": lambda extra: FIXED + PARTS["10"] + extra + PARTS["20"] + PARTS["50"],
    "last": lambda extra: FIXED + PARTS["10"] + PARTS["20"] + PARTS["50"] + extra,
    "in context": lambda extra: (
        FIXED + PARTS["10"] + reference.item(0x20, b"\1\0\0\0" + extra + PARTS["30"] + PARTS["40"]) + PARTS["50"]
    ),
    "in user information": lambda extra: FIXED + PARTS["10"] + PARTS["20"] + reference.item(0x50, PARTS["51"] + extra),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_t_unknown_items_are_kept_anywhere(place):
    for kind in UNKNOWN_TYPES:
        data = whole(1, place(reference.item(kind, b"new")))
        assert verdict(data) is not None
        assert pdu.UnknownItem(kind, b"new").encode() in pdu.decode(data).encode()


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("length", [4, 0xFF, 0xFFFF])
def test_t_unknown_items_may_not_lie(place, length):
    for kind in UNKNOWN_TYPES:
        verdict(whole(1, place(struct.pack(">BBH", kind, 0, length) + b"new")))
    last = struct.pack(">BBH", 0x77, 0, length) + b"new"
    refused(whole(1, PLACES["last"](last)))
    refused(whole(1, PLACES["in user information"](last)))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_known_items_in_a_wrong_place_are_unexpected(place):
    for kind in sorted(reference.KNOWN_ITEMS):
        data = whole(1, place(reference.item(kind, b"\0\0\0\0")))
        verdict(data)
    assert refused(whole(1, place(reference.item(0x21, bytes(4)))), UNEXPECTED_PARAMETER).pdu_type == 1


def test_unknown_items_are_bounded_since_each_costs_more_memory_than_bytes():
    extra = reference.item(0x77, b"")
    for place in PLACES.values():
        assert verdict(whole(1, place(extra * 1024))) is not None
    for name in ("first", "last", "in context"):
        refused(whole(1, PLACES[name](extra * 1025)))


# T-ITEMS


def test_t_items_any_order_is_taken():
    orders = [
        whole(1, FIXED + b"".join(order)) for order in itertools.permutations([PARTS["10"], PARTS["20"], PARTS["50"]])
    ]
    assert len({pdu.decode(data) for data in orders}) == 1
    assert pdu.decode(orders[-1]).encode() == orders[0]


@pytest.mark.parametrize("part", ["10", "20", "50"])
def test_t_items_none_may_be_missing_or_stand_twice(part):
    kept = [PARTS[name] for name in ("10", "20", "50") if name != part]
    refused(whole(1, FIXED + b"".join(kept)))
    doubled = whole(1, FIXED + b"".join(kept) + 2 * PARTS[part])
    refused(doubled, INVALID_VALUE if part == "20" else UNEXPECTED_PARAMETER)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", INVALID_VALUE),
        (PARTS["30"], INVALID_VALUE),
        (PARTS["40"], INVALID_VALUE),
        (PARTS["30"] * 2 + PARTS["40"], UNEXPECTED_PARAMETER),
        (PARTS["30"] + PARTS["40"] + PARTS["51"], UNEXPECTED_PARAMETER),
    ],
)
def test_t_items_a_proposed_context_has_one_abstract_and_some_transfer_syntaxes(content, reason):
    refused(whole(1, FIXED + PARTS["10"] + PARTS["50"] + reference.item(0x20, b"\1\0\0\0" + content)), reason)


def test_t_items_without_maximum_length_or_class_uid():
    value = verdict(whole(1, FIXED + PARTS["10"] + PARTS["20"] + reference.item(0x50, b"")))
    assert value[1]["user_information"] == ()


def answer(*contexts: bytes) -> bytes:
    return whole(2, FIXED + PARTS["10"] + b"".join(contexts) + PARTS["50"])


REFUSALS = {
    "nothing": b"",
    "an empty item": reference.item(0x40, b""),
    "a syntax": PARTS["40"],
    "two": PARTS["40"] * 2,
    "a cut header": b"\x40\0",
    "a length that lies": b"\x40\0\0\x40",
    "another item": PARTS["51"],
    "noise": b"\xff" * 9,
    "not ascii": reference.item(0x40, b"\xe9"),
}


@every("rest", REFUSALS.values())
@every("result", [1, 2, 3, 4, 255])
def test_what_follows_a_refusal_is_ignored(rest, result):
    value = verdict(answer(PARTS["21"], reference.item(0x21, bytes([3, 0, result, 0]) + rest)))
    assert value[1]["presentation_contexts"][1][1]["result"] == result


@pytest.mark.parametrize("rest", [rest for name, rest in REFUSALS.items() if name not in ("an empty item", "a syntax")])
def test_an_acceptance_names_one_transfer_syntax(rest):
    assert verdict(answer(reference.item(0x21, b"\1\0\0\0" + rest))) is None


@pytest.mark.parametrize("size", range(4))
def test_a_context_too_short_for_its_result(size):
    refused(answer(reference.item(0x21, b"\1\0\3\0"[:size])))
    refused(whole(1, FIXED + PARTS["10"] + PARTS["50"] + reference.item(0x20, b"\1\0\0\0"[:size])))


# T-CTX


def context(number: int) -> bytes:
    return reference.item(0x20, bytes([number, 0, 0, 0]) + PARTS["30"] + PARTS["40"])


@pytest.mark.parametrize("numbers", [[0], [2], [254], [1, 1], [1, 3, 5, 3], [255, 0], [1] * 200], ids=str)
def test_t_ctx_ids_are_odd_and_unique(numbers):
    refused(whole(1, FIXED + PARTS["10"] + b"".join(map(context, numbers)) + PARTS["50"]))
    answers = [reference.item(0x21, bytes([number, 0, 3, 0])) for number in numbers]
    refused(answer(*answers))


def test_t_ctx_128_contexts_and_not_one_more():
    odd = [context(number) for number in range(1, 256, 2)]
    assert len(verdict(whole(1, FIXED + PARTS["10"] + b"".join(odd) + PARTS["50"]))[1]["presentation_contexts"]) == 128
    for extra in range(256):
        refused(whole(1, FIXED + PARTS["10"] + b"".join(odd) + context(extra) + PARTS["50"]))


# T-AE, T-UID, T-VER: content is carried for negotiation to judge


@pytest.mark.parametrize("place", [0, 7, 15])
def test_t_ae_every_byte_is_carried(place):
    for byte in range(256):
        title = bytearray(b"A" * 16)
        title[place] = byte
        value = pdu.decode(whole(1, FIXED[:4] + title + FIXED[20:] + PARTS["10"] + PARTS["20"] + PARTS["50"]))
        assert value.called_ae_title == title.decode("latin-1").strip(" ")


def test_t_ae_spaces_alone_are_an_empty_title():
    value = pdu.decode(whole(1, FIXED[:4] + b" " * 32 + FIXED[36:] + PARTS["10"] + PARTS["20"] + PARTS["50"]))
    assert (value.called_ae_title, value.calling_ae_title) == ("", "")


BAD_UIDS = [
    "", ".", "1", "1.", ".1", "1..2", "01.2", "1.02", "1.2.00", "a", "1.2a", "1,2", "1/2", "../../etc/passwd", "1.2\n",
    "1.2\t", "\0001.2", "1.\0002", " 1.2", "1 .2", "-1.2", "+1.2", "1.2.-3", "1e5", "0x1", "%s", "'; --", "1.2*",
    "1.2?", "1.2\\1.3", "\x7f", "\x1b[2J", "3.1", "1.40", "1" * 64, "1" * 65, "1." * 40 + "1", "9" * 1000, "1.2.3 4",
    "1\r\n2",
]  # fmt: skip


@every("uid", BAD_UIDS)
def test_t_uid_what_is_not_a_uid_is_carried_too(uid):
    assert pdu.decode(request_with(reference.item(0x40, uid.encode()))).presentation_contexts[0].transfer_syntaxes == (
        uid,
    )


def request_with(syntax: bytes) -> bytes:
    proposed = reference.item(0x20, b"\1\0\0\0" + PARTS["30"] + syntax)
    return whole(1, FIXED + PARTS["10"] + proposed + PARTS["50"])


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\0\0", b" \0 ", b"\0" * 60])
def test_t_uid_padding_is_tolerated_and_not_sent_on(padding):
    padded = request_with(reference.item(0x40, IMPLICIT.encode() + padding))
    assert pdu.decode(padded).encode() == request_with(PARTS["40"])


@pytest.mark.parametrize("byte", range(128, 256, 9))
def test_t_uid_beyond_ascii_is_refused(byte):
    error = refused(request_with(reference.item(0x40, b"1.2" + bytes([byte]))))
    assert error.pdu_type == 1


@pytest.mark.parametrize("version", [0, 1, 2, 3, 0x8001, 0xFFFF])
def test_t_ver_every_version_is_carried(version):
    data = whole(1, struct.pack(">H", version) + FIXED[2:] + PARTS["10"] + PARTS["20"] + PARTS["50"])
    assert pdu.decode(data).protocol_version == version


# T-USERID, T-ROLE


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 255])
def test_t_userid_every_type_is_carried(kind):
    identity = pdu.UserIdentityRQ(kind, b"joe", b"passcode")
    data = whole(1, FIXED + PARTS["10"] + PARTS["20"] + reference.item(0x50, identity.encode()))
    assert pdu.decode(data).user_information == (identity,)


@pytest.mark.parametrize("part", ["54", "58"])
def test_t_role_a_flag_is_0_or_1(part):
    flag = len(PARTS[part]) - 1 if part == "54" else 5
    for byte in range(256):
        item = PARTS[part][:flag] + bytes([byte]) + PARTS[part][flag + 1 :]
        value = verdict(whole(1, FIXED + PARTS["10"] + PARTS["20"] + reference.item(0x50, item)))
        assert (value is not None) == (byte < 2)


def test_the_reserved_end_of_57h_is_skipped():
    longer = reference.item(0x57, PARTS["57"][4:] + b"later", second=1)
    value = pdu.decode(whole(1, FIXED + PARTS["10"] + PARTS["20"] + reference.item(0x50, longer)))
    assert value.user_information[0].version == 1
    assert value.user_information[0].related_general_sop_class_uids == ("1.2.3", "1.2.4")


# T-PDV


@pytest.mark.parametrize("boundary", [0, 0x7FFFFFF0, 0x80000000, 0xFFFFFF00, 0xFFFFFFC0])
def test_t_pdv_lengths(boundary):
    fragment = bytes([1, 3]) + b"x" * 30
    for length in range(boundary, boundary + 65):
        value = verdict(whole(4, struct.pack(">I", length & 0xFFFFFFFF) + fragment))
        assert (value is not None) == (length == 32)


def test_t_pdv_two_and_an_incomplete_third():
    for size in range(1, len(PARTS["PDV"])):
        refused(whole(4, PARTS["PDV"] * 2 + PARTS["PDV"][:size]))


def test_t_pdv_empty_and_odd_fragments_are_carried():
    data = whole(4, struct.pack(">IBB", 2, 1, 3) + struct.pack(">IBB", 3, 1, 0xFE) + b"x")
    assert pdu.decode(data) == pdu.PDataTF((pdu.PDV(1, b"", True, True), pdu.PDV(1, b"x", False, True)))


def test_t_pdv_context_ids_are_odd():
    for number in range(256):
        value = verdict(whole(4, struct.pack(">IBB", 2, number, 0)))
        assert (value is not None) == (number % 2 == 1)


# Where the fault lies


def test_the_error_names_the_pdu_the_fault_and_its_place():
    error = refused(request_with(reference.item(0x40, b"\xff")))
    assert request_with(reference.item(0x40, b"\xff"))[error.offset] == 0xFF
    assert "A-ASSOCIATE-RQ" in str(error)
    assert f"byte {error.offset}" in str(error)
    with pytest.raises(MalformedPDU) as caught:
        pdu.decode_first(b"before" + request_with(reference.item(0x40, b"\xff")), 6)
    assert caught.value.offset == error.offset
