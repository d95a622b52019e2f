"""HL7 v2: messages that lose nothing, blocks that are cut anywhere, and what they do to the worklist."""

from __future__ import annotations

import socket

import archives
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError, OperationalError

from dicomnet.archive.archive import Archive
from dicomnet.archive.hl7_message import Message
from dicomnet.errors import CannotListen, InvalidArgument
from dicomnet.net.mllp import MllpReader, framed
from dicomnet.repository.worklist import Worklist

PATIENCE = 30


def message(kind, *segments, control="1", charset="UNICODE UTF-8"):
    head = rf"MSH|^~\&|RIS|HOSPITAL|PACS|RADIOLOGY|20260131100000||{kind}|{control}|P|2.5.1||||||{charset}"
    return "".join(f"{one}\r" for one in (head, *segments)).encode()


PID = "PID|1||P1^^^HOSP||Müller^Jörg^K^Jr^Dr||19700102|M"
ORC = "ORC|NW|PL1|FI1||||1^once^^20260131103000^^S"
OBR = "OBR|1|PL1|FI1|CTH^CT Head^LOCAL||||||||||||4711^House^Gregory||A1|R1|S1|CT1|||CT|||1^once^^20260131103000^^S"
ORM = message("ORM^O01^ORM_O01", PID, "PV1|1|I|ICU^2^B||||99|1234^Wilson^James", ORC, OBR, "ZDS|1.2.3^^^^")
OMI = message(
    "OMI^O23^OMI_O23",
    PID,
    ORC.replace("NW", "NW"),
    "TQ1|1||||||20260201090000",
    "OBR|1|PL1|FI1|CTH^CT Head^LOCAL",
    "IPC|A2|R2|1.2.4|S1|CT|CTH1^Head^LOCAL|CTROOM|R1|CT1",
    "IPC|A2|R2|1.2.4|S2|MR|MRH1^Head^LOCAL|MRROOM|R2|MR1",
)
OMG = message("OMG^O19^OMG_O19", PID, ORC, "TQ1|1||||||202602011015", OBR.replace("A1|R1", "A3|R3"), "ZDS|1.2.5")


class TestMessages:
    @pytest.mark.parametrize("data", [ORM, OMI, OMG])
    def test_nothing_is_lost(self, data):
        assert str(Message.decode(data)).encode() == data

    @given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20), max_size=8))
    def test_nothing_is_lost_of_whatever(self, fields):
        text = "MSH|^~\\&|A\rZZZ|" + "|".join(fields) + "|x\r"
        assert str(Message.parse(text)) == text

    def test_escapes_and_places(self):
        segment = Message.parse('MSH|^~\\&|\rZZZ|a&b^c~d|x\\T\\y\\F\\z\\E\\\\.br\\\\X41\\|""\r').first("ZZZ")
        assert [segment.get(1), segment.get(1, 1, 2), segment.get(1, 2), segment.get(1, 1, 1, 2)] == [
            "a",
            "b",
            "c",
            "d",
        ]
        assert segment.get(2) == "x&y|z\\\nA"
        assert (segment.get(3), segment.get(9), segment.get(1, 9)) == ("", "", "")

    def test_other_separators(self):
        segment = Message.parse("MSH#*!?%#A\rZZZ#a*b!c%d\r").first("ZZZ")
        assert [segment.get(1, 2), segment.get(1, 1, 2, 2)] == ["b", "d"]

    @pytest.mark.parametrize("charset", ["8859/1", "", "UNICODE UTF-8"])
    def test_character_sets(self, charset):
        data = message("ADT^A08", PID, charset=charset).decode().encode("latin-1" if charset == "8859/1" else "utf-8")
        assert Message.decode(data).first("PID").get(5) == "Müller"
        assert Message.decode(message("ADT^A08", PID).decode().encode("latin-1")).first("PID").get(5) == "Müller"

    @pytest.mark.parametrize("data", [b"", b"\r\r", b"PID|1", b"MSH", b"MSH|"])
    def test_what_is_none(self, data):
        with pytest.raises(InvalidArgument, match="MSH"):
            Message.decode(data)


class TestBlocks:
    def test_byte_by_byte_and_two_at_once(self):
        data = framed(b"one") + b"noise" + framed(b"two\x1cand\rmore")
        expected = [b"one", b"two\x1cand\rmore"]
        assert list(MllpReader().feed(data)) == expected
        reader = MllpReader()
        assert [one for place in range(len(data)) for one in reader.feed(data[place : place + 1])] == expected

    @given(st.lists(st.binary(max_size=30), max_size=5), st.data())
    def test_cut_anywhere(self, messages, draw):
        messages = [one.replace(b"\x1c", b"").replace(b"\x0b", b"") for one in messages]
        data = b"".join(map(framed, messages))
        cut = draw.draw(st.integers(0, len(data)))
        reader = MllpReader()
        assert [*reader.feed(data[:cut]), *reader.feed(data[cut:])] == messages

    def test_a_message_without_an_end(self):
        with pytest.raises(ValueError, match="more than 10"):
            list(MllpReader(10).feed(b"\x0b" + b"x" * 11))


@pytest.fixture
def archive(tmp_path):
    with Archive(tmp_path / "archive", archives.make(tmp_path / "archive", hl7_port=0)) as archive:
        yield archive


@pytest.fixture
def sender(archive):
    with socket.create_connection(archive.hl7.server.address, PATIENCE) as connection:
        yield connection


def answers(connection, count):
    reader, found = MllpReader(), []
    while len(found) < count:
        data = connection.recv(65536)
        assert data
        found += reader.feed(data)
    return [Message.decode(one) for one in found]


def sent(connection, *messages):
    """The codes of the answers to messages that are sent at once."""
    connection.sendall(b"".join(map(framed, messages)))
    return [one.first("MSA").get(1) for one in answers(connection, len(messages))]


def items_of(archive):
    return [entry.item for entry in Worklist(archive.holdings.database)]


def value(item, tag):
    return item[tag]["Value"][0]


class TestOrders:
    def test_an_order_is_an_item(self, archive, sender):
        assert sent(sender, ORM) == ["AA"]
        (item,) = items_of(archive)
        assert value(item, "00100010") == {"Alphabetic": "Müller^Jörg^K^Dr^Jr"}
        names = {"00100020": "P1", "00100021": "HOSP", "00100030": "19700102", "00100040": "M", "0020000D": "1.2.3"}
        names |= {"00080050": "A1", "00401001": "R1", "00321060": "CT Head"}
        assert {tag: value(item, tag) for tag in names} == names
        assert value(item, "00321032") == {"Alphabetic": "House^Gregory"}
        assert value(item, "00080090") == {"Alphabetic": "Wilson^James"}
        (step,) = item["00400100"]["Value"]
        names = {"00400009": "S1", "00080060": "CT", "00400001": "CT1", "00400002": "20260131", "00400003": "103000"}
        assert {tag: value(step, tag) for tag in names} == names

    def test_several_steps_and_every_kind(self, archive, sender):
        assert sent(sender, OMI, OMG) == ["AA", "AA"]
        imaging, general = items_of(archive)
        assert [value(step, "00400009") for step in imaging["00400100"]["Value"]] == ["S1", "S2"]
        assert [value(step, "00400001") for step in imaging["00400100"]["Value"]] == ["CT1", "MR1"]
        assert value(general["00400100"]["Value"][0], "00400003") == "1015"

    def test_the_same_message_twice_is_one_item(self, archive, sender):
        assert sent(sender, ORM, ORM) == ["AA", "AA"]
        assert len(items_of(archive)) == 1

    def test_byte_by_byte(self, archive, sender):
        for place, _ in enumerate(data := framed(ORM)):
            sender.sendall(data[place : place + 1])
        (answer,) = answers(sender, 1)
        assert answer.type == "ACK^O01"
        assert (answer.first("MSA").get(1), answer.first("MSA").get(2)) == ("AA", "1")
        assert len(items_of(archive)) == 1

    def test_an_order_is_changed_and_cancelled(self, archive, sender):
        later = ORM.replace(b"ORC|NW", b"ORC|XO").replace(b"20260131103000", b"20260202103000")
        assert sent(sender, ORM, later) == ["AA", "AA"]
        (item,) = items_of(archive)
        assert value(item["00400100"]["Value"][0], "00400002") == "20260202"
        assert sent(sender, ORM.replace(b"ORC|NW", b"ORC|CA")) == ["AA"]
        (item,) = items_of(archive)
        assert value(item["00400100"]["Value"][0], "00400020") == "CANCELLED"

    def test_patients_are_corrected_and_merged(self, archive, sender):
        married = PID.replace("Müller", "Maier")
        assert sent(sender, ORM, message("ADT^A08", married), message("ADT^A01", married)) == ["AA"] * 3
        assert value(items_of(archive)[0], "00100010")["Alphabetic"].startswith("Maier")
        merge = message("ADT^A40", PID.replace("P1^", "P2^"), "MRG|P1^^^HOSP")
        assert sent(sender, merge, merge) == ["AA", "AA"]
        assert value(items_of(archive)[0], "00100020") == "P2"

    def test_what_cannot_be_is_said(self, archive, sender):
        without = ORM.replace(b"|CT|||", b"||||")
        refused = [without, message("QBP^Q11"), b"garbage", message("ORM^O01", ORC, OBR)]
        assert sent(sender, *refused, ORM) == ["AE", "AR", "AR", "AE", "AA"]
        sender.sendall(framed(without))
        (answer,) = answers(sender, 1)
        assert "no Modality" in answer.first("MSA").get(3)

    def test_it_is_kept(self, tmp_path):
        directory = tmp_path / "archive"
        archive = Archive(directory, archives.make(directory, hl7_port=0))
        with archive, socket.create_connection(archive.hl7.server.address, PATIENCE) as connection:
            assert sent(connection, ORM) == ["AA"]
        with Archive(directory, archives.make(directory)) as archive:
            assert len(items_of(archive)) == 1

    def test_a_port_that_is_taken(self, archive, tmp_path):
        other = tmp_path / "other"
        port = archive.hl7.server.address[1]
        with pytest.raises(CannotListen), Archive(other, archives.make(other, hl7_port=port)):
            pass


class TestGroups:
    def orders(self, count):
        return [
            ORM.replace(b"A1|R1", b"A%d|R%d" % (one, one)).replace(b"1.2.3^", b"1.2.3.%d^" % one)
            for one in range(count)
        ]

    def test_what_comes_together_is_one_transaction_and_answered_in_order(self, archive, sender, monkeypatch):
        begun = []
        real = archive.holdings.database.transaction

        def transaction(work, **options):
            begun.append(work)
            return real(work, **options)

        sent(sender, self.orders(1)[0])  # what it needs is loaded
        monkeypatch.setattr(archive.holdings.database, "transaction", transaction)
        wrong = message("ZZZ^Z99", PID, control="7")
        orders = self.orders(20)
        sender.sendall(b"".join(map(framed, [*orders, wrong, *orders])))
        reader, answers = MllpReader(), []
        while len(answers) < 41:
            answers += [Message.decode(one).first("MSA").get(1) for one in reader.feed(sender.recv(1 << 16))]
        assert answers == ["AA"] * 20 + ["AR"] + ["AA"] * 20
        assert len(items_of(archive)) == 20
        assert len(begun) < 20

    def test_one_that_fails_spoils_no_other(self, archive):
        good, other = map(Message.decode, self.orders(2))
        bad = Message.decode(ORM.replace(b"P1^^^HOSP", b"").replace(b"A1|R1", b"A8|R8"))
        results = archive.hl7._commit([good, bad, other])
        assert [code for code, _ in results] == ["AA", "AE", "AA"]
        assert len(items_of(archive)) == 2

    def test_where_a_group_cannot_be_written_each_is_tried_by_itself(self, archive, monkeypatch):
        real = archive.hl7._perform
        times = []

        def perform(connection, message):
            times.append(message.control_id)
            if len(times) == 2:
                raise IntegrityError("another process has it", None, Exception())
            return real(connection, message)

        monkeypatch.setattr(archive.hl7, "_perform", perform)
        results = archive.hl7._commit([Message.decode(one) for one in self.orders(2)])
        assert [code for code, _ in results] == ["AA", "AA"]
        assert len(times) == 4
        assert len(items_of(archive)) == 2


def test_a_port_that_there_is_not(tmp_path):
    for port in (-1, 65536):
        with pytest.raises(InvalidArgument, match=f"hl7_port {port}: 0 to 65535"):
            archives.make(tmp_path / "archive", hl7_port=port)


def only_patients(archive):
    """Who is in the worklist, by the patient's ID."""
    return sorted(value(item, "00100020") for item in items_of(archive))


@pytest.mark.parametrize(("wrong", "why"), [
    (message("ADT^A40", PID, "MRG|"), "MRG names no patient"),
    (message("ADT^A40", "PID|1||", "MRG|P1^^^HOSP"), "PID names no patient"),
    (message("ADT^A47", PID), "MRG names no patient"),
    (message("ADT^A37", PID), "two PIDs name"),
    (message("ADT^A37", PID, "PID|2||"), "two PIDs name"),
])  # fmt: skip
def test_who_is_meant_has_to_be_said(archive, sender, wrong, why):
    assert sent(sender, ORM) == ["AA"]
    sender.sendall(framed(wrong))
    (answer,) = answers(sender, 1)
    assert answer.first("MSA").get(1) == "AE"
    assert why in answer.first("MSA").get(3)
    assert only_patients(archive) == ["P1"]


def test_two_orders_of_one_message_are_two_items(archive, sender):
    second = [ORC.replace("PL1", "PL2"), OBR.replace("A1|R1", "A2|R2"), "ZDS|1.2.4"]
    assert sent(sender, message("ORM^O01", PID, ORC, OBR, "ZDS|1.2.3", *second)) == ["AA"]
    assert [(value(item, "00080050"), value(item, "0020000D")) for item in items_of(archive)] == [
        ("A1", "1.2.3"), ("A2", "1.2.4"),
    ]  # fmt: skip


def test_a_database_that_refuses_is_told_of_and_the_message_can_come_again(archive, sender, monkeypatch):
    def away(connection, message):
        raise OperationalError("", {}, Exception("disk I/O error"))

    with monkeypatch.context() as patch:
        patch.setattr(archive.hl7, "_perform", away)
        sender.sendall(framed(ORM))
        (answer,) = answers(sender, 1)
    assert (answer.first("MSA").get(1), answer.first("MSA").get(3)) == ("AE", "the database cannot be written")
    assert sent(sender, ORM) == ["AA"]
    assert len(items_of(archive)) == 1


def test_what_comes_at_the_end_is_refused_and_kept_by_its_sender(archive):
    archive.hl7._committer.close()
    answer = Message.decode(archive.hl7.take(ORM).result(PATIENCE))
    assert (answer.first("MSA").get(1), answer.first("MSA").get(2)) == ("AE", "1")
    assert items_of(archive) == []
