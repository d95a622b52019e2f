"""Character sets of peers that name none, or a wrong one: by their profile, where it has one."""

from __future__ import annotations

from struct import pack
from typing import Any

import faces
import pytest

import dicomnet as dn
from dicomnet import uids
from dicomnet.dataset import character_sets, codec
from dicomnet.errors import InvalidArgument
from dicomnet.protocol.peer_profile import Peer
from dicomnet.services import scu

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
NAME = 0x0010, 0x0010

JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"  # PS3.5 Annex H.3
CHINESE = "Wang^XiaoDong=王^小东".encode("gb18030")  # PS3.5 Annex J.3
SETS = [
    ("ISO_IR 100", "Buc^Jérôme".encode("latin-1"), "Buc^Jérôme"),
    ("\\ISO 2022 IR 87", JAPANESE, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("GB18030", CHINESE, "Wang^XiaoDong=王^小东"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
    ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
]


def element(tag: tuple[int, int], vr: str, value: bytes, syntax: str = EXPLICIT) -> bytes:
    value += b" " * (len(value) % 2)
    if syntax == IMPLICIT:
        return pack("<HHI", *tag, len(value)) + value
    if vr == "SQ":
        return pack("<HH2sHI", *tag, b"SQ", 0, len(value)) + value
    return pack("<HH2sH", *tag, vr.encode(), len(value)) + value


def named(name: bytes, *sets: str, syntax: str = EXPLICIT) -> bytes:
    """A data set with a patient's name, and a character set or none."""
    said = element((0x0008, 0x0005), "CS", "\\".join(sets).encode(), syntax) if sets else b""
    return said + element(NAME, "PN", name, syntax)


@pytest.mark.filterwarnings("ignore:F")
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(("character_set", "encoded", "text"), SETS)
def test_a_data_set_that_names_none(character_set: str, encoded: bytes, text: str, syntax: str) -> None:
    data = named(encoded, syntax=syntax)
    assert str(codec.decode(data, syntax, character_set).PatientName) == text
    if character_set != "ISO_IR 100":  # what pydicom takes for the default
        assert str(codec.decode(data, syntax).PatientName) != text


@pytest.mark.parametrize("wrong", ["ISO_IR 6", "ISO_IR 999", "ISO 2022 IR 6", ""])
@pytest.mark.parametrize(("character_set", "encoded", "text"), SETS)
@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_a_data_set_that_names_one_that_it_cannot_be_in(
    character_set: str, encoded: bytes, text: str, wrong: str
) -> None:
    assert str(codec.decode(named(encoded, wrong), EXPLICIT, character_set).PatientName) == text


def test_utf_8_that_is_none() -> None:
    data = named("Jérôme".encode("latin-1"), "ISO_IR 192")
    assert str(codec.decode(data, EXPLICIT, "ISO_IR 100").PatientName) == "Jérôme"


@pytest.mark.parametrize(("character_set", "encoded", "text"), SETS)
def test_whoever_names_a_set_that_fits_is_believed(character_set: str, encoded: bytes, text: str) -> None:
    data = named(encoded, *character_set.split("\\"))
    for other in ("", "ISO_IR 101", "GB18030"):
        assert str(codec.decode(data, EXPLICIT, other).PatientName) == text


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("wrong", [(), ("ISO_IR 6",)])
def test_sequences_are_in_it_too(undefined: bool, wrong: tuple[str, ...]) -> None:
    inner = element((0x0008, 0x0104), "LO", "Schädel".encode("latin-1"))
    if undefined:
        inner = pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + pack("<HHI", 0xFFFE, 0xE00D, 0)
        ending = pack("<HHI", 0xFFFE, 0xE0DD, 0)
        sequence = pack("<HH2sHI", 0x0008, 0x1032, b"SQ", 0, 0xFFFFFFFF) + inner + ending
    else:
        sequence = element((0x0008, 0x1032), "SQ", pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner)
    said = element((0x0008, 0x0005), "CS", wrong[0].encode()) if wrong else b""
    name = element(NAME, "PN", "Jérôme".encode("latin-1"))
    for character_set, expected in (("ISO_IR 100", "Schädel"), ("ISO_IR 101", "Schädel"), ("ISO_IR 144", "Schфdel")):
        dataset = codec.decode(said + sequence + name, EXPLICIT, character_set)
        assert dataset.ProcedureCodeSequence[0].CodeMeaning == expected


def test_a_private_element_of_an_unknown_vr_is_passed_over() -> None:
    data = element((0x0009, 0x1001), "", b"\xe9", IMPLICIT) + element(NAME, "PN", b"J\xe9r", IMPLICIT)
    assert str(codec.decode(data, IMPLICIT, "ISO_IR 100").PatientName) == "Jér"


def test_text_is_looked_for_only_where_it_can_be_read() -> None:
    """What a data set that cannot be read is in is told by who decodes it."""
    private = element((0x0009, 0x1001), "", b"\xe9", IMPLICIT)
    assert not character_sets.is_unnamed(private, IMPLICIT)
    assert character_sets.is_unnamed(private + element(NAME, "PN", b"J\xe9r", IMPLICIT), IMPLICIT)
    endless = pack("<HH2sHI", 0x0040, 0x0260, b"SQ", 0, 0xFFFFFFFF)
    assert character_sets.is_unnamed(named(b"J\xe9r"), EXPLICIT)
    assert not character_sets.is_unnamed(named(b"J\xe9r") + endless, EXPLICIT)


def test_a_set_that_there_is_not() -> None:
    with pytest.raises(InvalidArgument, match="KOI-8"):
        codec.decode(named(b"A"), EXPLICIT, "KOI-8")


# ---- where data sets come from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", faces.FACES)
@pytest.mark.parametrize(("character_set", "encoded", "text"), SETS)
def test_matches_of_a_peer(user: str, character_set: str, encoded: bytes, text: str) -> None:
    def configure(listener: Any) -> None:
        @listener.on_find("STUDY_ROOT")
        def find(request: Any) -> list[bytes]:
            return [named(encoded, syntax=request.transfer_syntax_uid)]

    with faces.provider("sync", configure) as provider:
        profile = Peer(dn.Entity("A", "127.0.0.1", provider.port), character_set=character_set)
        with faces.USERS[user](profile, contexts=dn.contexts.query_retrieve()) as association:
            (match,) = association.find("STUDY", PatientID="1")
            assert str(match.PatientName) == text
            assert match.data.endswith(encoded + b" " * (len(encoded) % 2))


@pytest.mark.parametrize("face", faces.FACES)
def test_identifiers_of_a_peer(face: str) -> None:
    asked: list[str] = []

    def configure(listener: Any) -> None:
        @listener.on_find("STUDY_ROOT")
        def find(request: Any) -> list[bytes]:
            asked.append(str(request.identifier.PatientName))
            return []

    peers = [Peer(dn.Entity("CT1", "127.0.0.1", 104), character_set="GB18030")]
    with faces.provider(face, configure, peers=peers) as provider:
        for calling in ("CT1", "CT2"):
            with dn.connect(provider.peer(), calling=calling, contexts=dn.contexts.query_retrieve()) as association:
                exchange = association._exchange
                context = exchange.context_for(uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
                identifier = named(CHINESE, syntax=context.transfer_syntax)
                list(association._requestor.results(scu.find(exchange, context, identifier, 0)))
    assert asked[0] == "Wang^XiaoDong=王^小东"
    assert asked[1] != asked[0]


def test_a_reply_of_a_peer() -> None:
    def configure(listener: Any) -> None:
        @listener.on_n_get(uids.MODALITY_PERFORMED_PROCEDURE_STEP)
        def get(request: Any) -> bytes:
            return named(CHINESE, syntax=request.transfer_syntax_uid)

    contexts = [dn.ProposedContext(uids.MODALITY_PERFORMED_PROCEDURE_STEP, (EXPLICIT,))]
    with faces.provider("sync", configure) as provider:
        profile = Peer(dn.Entity("A", "127.0.0.1", provider.port), character_set="GB18030")
        with dn.connect(profile, contexts=contexts) as association:
            reply = association.n_get(uids.MODALITY_PERFORMED_PROCEDURE_STEP, "1.2.3")
            assert str(reply.dataset.PatientName) == "Wang^XiaoDong=王^小东"
