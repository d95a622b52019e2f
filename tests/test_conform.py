"""The conformance suite: it stands by itself, its cases are sound, and it can fail."""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cases import every

from dicomnet import _pdu
from dicomnet.cli.app import run
from dicomnet.cli.exits import Exit
from dicomnet.conform import layout, program, report, wire
from dicomnet.conform.case import Case, Departure, Expect, Grade, Unavailable
from dicomnet.conform.catalog import PROVIDER_CASES, ordered, selected
from dicomnet.conform.instance import ct_image, new_uid
from dicomnet.conform.listening import USER_CASES, UserRunner
from dicomnet.conform.peer import Answer, Connection, Kind
from dicomnet.conform.runner import Outcome, Result, Runner, run_case, summarize
from dicomnet.conform.session import Facts, Session, Target, probe, store_contexts, user_items
from dicomnet.wire import command_set

ALL_CASES = (*PROVIDER_CASES, *USER_CASES)
FOLDER = Path(program.__file__).parent
SESSION = Session(Target("127.0.0.1", 1))


def conform(arguments: list[str]) -> int:
    """The command, in this process; its exit code."""
    return run(["conform", *arguments])


def case(id_: str) -> Case:
    return next(found for found in PROVIDER_CASES if found.id == id_)


# ---- independence ----------------------------------------------------------------------------------------------------


def test_the_builder_imports_only_the_standard_library():
    for name in ("wire.py", "instance.py", "layout.py"):
        imports = re.findall(r"^(?:from|import) (\S+)", (FOLDER / name).read_text(), re.MULTILINE)
        assert set(imports) <= {
            "__future__",
            "struct",
            "uuid",
            "collections.abc",
            "dataclasses",
            "typing",
            ".",
            ".wire",
        }


# ---- the builder against the codec -----------------------------------------------------------------------------------


def test_what_the_builder_calls_a_request_is_one():
    pdu = _pdu.decode(SESSION.request(contexts=store_contexts(), user=user_items(wire.window(5, 3))))
    assert (pdu.called_ae_title, pdu.calling_ae_title, pdu.protocol_version) == ("ANY-SCP", "CONFORM", 1)
    assert [(c.id, c.abstract_syntax, c.transfer_syntaxes) for c in pdu.presentation_contexts] == [
        (1, wire.VERIFICATION, (wire.IMPLICIT,)),
        (3, wire.CT_STORAGE, (wire.IMPLICIT,)),
    ]
    assert pdu.user_information == (
        _pdu.MaximumLength(16384),
        _pdu.ImplementationClassUID(wire.IMPLEMENTATION),
        _pdu.ImplementationVersionName("CONFORM"),
        _pdu.AsynchronousOperationsWindow(5, 3),
    )


@pytest.mark.parametrize(
    ("sub_item", "value"),
    [
        (wire.role("1.2.3", 1, 0), _pdu.RoleSelection("1.2.3", True, False)),
        (wire.extended("1.2.3", b"\x01\x02"), _pdu.SOPClassExtendedNegotiation("1.2.3", b"\x01\x02")),
        (
            wire.common_extended("1.2.3", "1.2.4", ("1.2.5", "1.2.6")),
            _pdu.SOPClassCommonExtendedNegotiation("1.2.3", "1.2.4", ("1.2.5", "1.2.6")),
        ),
        (wire.identity(2, b"me", b"secret", response=1), _pdu.UserIdentityRQ(2, b"me", b"secret", True)),
    ],
)
def test_sub_items_are_those_of_the_standard(sub_item, value):
    assert value.encode() == sub_item


def test_short_pdus_and_fragments():
    assert _pdu.decode(wire.reject(1, 2, 2)) == _pdu.AssociateRJ(1, 2, 2)
    assert _pdu.decode(wire.abort(2, 6)) == _pdu.Abort(2, 6)
    assert _pdu.decode(wire.release_rq()) == _pdu.ReleaseRQ()
    assert _pdu.decode(wire.release_rp()) == _pdu.ReleaseRP()
    assert _pdu.decode(wire.data_tf(wire.pdv(1, 3, b"ab"), wire.pdv(1, 0, b"cd"))) == _pdu.PDataTF(
        (_pdu.PDV(1, b"ab", True, True), _pdu.PDV(1, b"cd", False, False))
    )


def test_command_sets():
    command = command_set.decode_command(wire.command_set(wire.store_rq("1.2.3", 7)))
    assert (command.command_field, command.message_id, command.affected_sop_instance_uid) == (1, 7, "1.2.3")
    assert command.affected_sop_class_uid == wire.CT_STORAGE
    assert command.has_data_set
    assert (
        wire.command_set(wire.echo_rq(9))
        == command_set.Command(
            affected_sop_class_uid=wire.VERIFICATION, command_field=0x30, message_id=9, command_data_set_type=0x0101
        ).encode()
    )


def test_the_image_is_one():
    pydicom = pytest.importorskip("pydicom")

    for syntax in (wire.IMPLICIT, wire.EXPLICIT):
        uid = new_uid()
        implicit = syntax == wire.IMPLICIT
        dataset = pydicom.filereader.read_dataset(BytesIO(ct_image(uid, syntax, padding=10)), implicit, True)
        assert (dataset.SOPInstanceUID, dataset.SOPClassUID) == (uid, wire.CT_STORAGE)
        assert (dataset.Rows * dataset.Columns * 2, len(dataset.PixelData)) == (8, 8)
        assert len(dataset.DataSetTrailingPadding) == 10


def test_answers_are_read_strictly():
    accept = wire.associate(
        (
            wire.application(),
            wire.context_result(1),
            wire.context_result(3, 3, None),
            wire.user_information(*user_items()),
        ),
        called="A",
        calling="B",
        kind=wire.ASSOCIATE_AC,
    )
    read = wire.read_associate(accept[6:])
    assert (read.accepts(1), read.accepts(3), read.max_length) == (True, False, 16384)
    for cut in range(1, len(accept) - 6):
        try:
            wire.read_associate(accept[6:][:-cut]).user  # noqa: B018
        except wire.Unreadable:
            continue
        assert len(accept) - 6 - cut in {68, 93, 122, 130}, "a cut between items goes unnoticed here, and nowhere else"


# ---- the table of lengths --------------------------------------------------------------------------------------------


def skimmed(request: bytes) -> None:
    """Read a request as a provider must at least, which skips everything optional; Unreadable where it cannot."""
    read = wire.read_associate(request[6:])
    if len(read.bodies(0x10)) != 1 or not read.bodies(0x20) or len(read.bodies(0x50)) != 1:
        raise wire.Unreadable("an item is missing")
    if read.bodies(0x10) != [wire.APPLICATION_CONTEXT.encode()]:
        raise wire.Unreadable("another application context")
    for abstract, transfers in read.proposed.values():
        if not abstract or not transfers:
            raise wire.Unreadable("a syntax is missing")
    if any(len(body) != 4 for body in read.sub_items(0x51)):
        raise wire.Unreadable("a maximum length that is not four bytes long")


LIES = [(row, lie) for row in layout.ROWS for lie in layout.lies(row, *layout.room(layout.request("A", "B"), row.name))]


def test_the_table_has_every_length_of_a_request():
    skimmed(layout.encode(layout.request("A", "B")))
    pdu = _pdu.decode(layout.encode(layout.request("A", "B")))
    assert len({type(item) for item in pdu.user_information}) == 8
    names = {row.name for row in layout.ROWS}
    assert len(names) == len(layout.ROWS) == 21


@every("row, lie", LIES)
def test_a_lie_that_binds_spoils_the_request_for_every_reader(row, lie):
    mutated = layout.encode(layout.request("A", "B"), row.name, lie.value)
    truth = layout.encode(layout.request("A", "B"))
    assert mutated != truth
    assert len(mutated) == len(truth)
    if lie.binding:
        with pytest.raises(wire.Unreadable):
            skimmed(mutated)
    elif lie.readable:
        skimmed(mutated)


# ---- the cases -------------------------------------------------------------------------------------------------------


def test_ids_are_unique_and_name_a_section():
    ids = [found.id for found in ALL_CASES]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    for name in ids:
        assert re.fullmatch(r"PS3\.[78]/(\d+|[A-F])(\.\d+)*-[1-9]\d*", name), name


def test_there_are_enough_of_every_grade():
    grades = Counter(found.grade for found in PROVIDER_CASES)
    assert sum(grades.values()) >= 150
    assert all(grades[grade] >= 10 for grade in Grade)


@every("found", ALL_CASES)
def test_a_case_says_what_it_is_about(found):
    assert re.fullmatch(r"[A-Z0-9].*\.", found.rule)
    assert found.expected
    assert found.expected.isprintable()


def test_cases_come_in_the_order_of_the_standard():
    sections = [found.section for found in ordered(PROVIDER_CASES)]
    assert sections[0].startswith("PS3.7/6.3.1")
    assert sections.index("PS3.8/9.3.5") < sections.index("PS3.8/9.3.5.1") < sections.index("PS3.8/D.1")
    numbers = [int(found.id.rpartition("-")[2]) for found in ordered(PROVIDER_CASES) if found.section == "PS3.8/9.2.3"]
    assert numbers == sorted(numbers)


def test_cases_are_selected_by_glob_or_by_words():
    assert [found.id for found in selected(PROVIDER_CASES, "PS3.8/7.1.2-1")] == ["PS3.8/7.1.2-1"]
    assert len(selected(PROVIDER_CASES, "PS3.8/9.3.1-2?")) == 9
    assert all("tls" in found.rule.lower() for found in selected(PROVIDER_CASES, "tls 1"))
    assert selected(PROVIDER_CASES, "[") == [found for found in PROVIDER_CASES if "[" in found.rule]
    assert len(selected(PROVIDER_CASES, None)) == len(PROVIDER_CASES)


# ---- bad providers ---------------------------------------------------------------------------------------------------

ACCEPT = wire.associate(
    (
        wire.application(),
        *(wire.context_result(number) for number in (1, 3, 5)),
        wire.user_information(*user_items()),
    ),
    called="ANY-SCP",
    calling="CONFORM",
    kind=wire.ASSOCIATE_AC,
)
SUCCESS = wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.response(wire.echo_rq()))))

Behaviour = Callable[[bytes], bytes | None]


@contextmanager
def fake(behave: Behaviour, places: int = 100) -> Iterator[Target]:
    """A provider by a function: from what one read gave to what is sent, None to close the connection.

    It is waited for, as it may have to wait for a processor, unless it says nothing.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    open_now: set[socket.socket] = set()

    def serve(sock: socket.socket) -> None:
        open_now.add(sock)
        full = len(open_now) > places
        with sock:
            try:
                while data := sock.recv(1 << 20):
                    answer = wire.reject(2, 3, 2) if full else behave(data)
                    if answer is None:
                        return
                    sock.sendall(answer)
            except OSError:
                pass
            finally:
                open_now.discard(sock)

    def accept() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield Target("127.0.0.1", listening.getsockname()[1], timeout=0.2 if behave is say_nothing else 20.0)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def accept_everything(data: bytes) -> bytes:
    return {4: SUCCESS, 5: wire.release_rp()}.get(data[0], ACCEPT)


def say_nothing(_: bytes) -> bytes:
    return b""


def abort_everything(_: bytes) -> bytes:
    return wire.abort(2, 0)


def close_everything(_: bytes) -> None:
    return None


def echo_bytes(data: bytes) -> bytes:
    return data


SAMPLE = [
    "PS3.8/7.1.2-1",  # an ordinary request is accepted
    "PS3.8/9.3.2.2-2",  # context ID 0
    "PS3.8/9.2.3-1",  # A-ASSOCIATE-AC in Sta2
    "PS3.8/9.2.3-9",  # A-ABORT in Sta2 is not answered
    "PS3.8/9.2.3-61",  # HTTP
    "PS3.8/9.3.2.1-101",  # a length that lies
    "PS3.8/D.2-1",  # an unknown sub-item
]


@pytest.mark.parametrize(
    ("behave", "passing"),
    [
        (accept_everything, {"PS3.8/7.1.2-1", "PS3.8/D.2-1"}),
        (say_nothing, set()),
        (abort_everything, set()),
        (close_everything, set()),
        (echo_bytes, set()),
    ],
)
def test_a_bad_provider_fails(behave, passing, monkeypatch):
    monkeypatch.setattr("dicomnet.conform.session._PATIENCE", 0.2)
    with fake(behave) as target:
        results = {name: run_case(case(name), target, Facts()) for name in SAMPLE}
    assert {name for name, result in results.items() if result.outcome is Outcome.PASSED} == passing
    for name in set(SAMPLE) - passing:
        assert results[name].outcome is Outcome.FAILED
        assert results[name].observed


def test_a_provider_that_aborts_everything_passes_hostile_cases_only_as_long_as_it_lives(monkeypatch):
    monkeypatch.setattr("dicomnet.conform.session._PATIENCE", 0.2)
    with fake(abort_everything) as target:
        result = run_case(case("PS3.8/9.3.2.2-2"), target, Facts())
    assert (result.outcome, result.dead) == (Outcome.FAILED, True)
    assert result.observed == "A-ABORT 2/0; afterwards C-ECHO on a new association: A-ABORT 2/0"


def test_a_whole_run_against_a_provider_that_accepts_everything(capsys, tmp_path):
    junit = tmp_path / "report.xml"
    with fake(accept_everything) as target:
        peer = f"127.0.0.1:{target.port}"
        code = conform([peer, "-k", "PS3.8/9.3.2.2-?", "--timeout", "20s", "--junit", str(junit), "--json", "-q"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    summary = lines.pop()["summary"]
    assert code == Exit.FAILURES
    assert summary["cases"] == summary["passed"] + summary["failed"] == len(lines) == 9
    assert not summary["conforms"]
    assert [line["id"] for line in lines] == [f"PS3.8/9.3.2.2-{number}" for number in range(1, 10)]
    assert lines[1]["observed"] == "A-ASSOCIATE-AC"
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("9", str(summary["failed"]))
    assert len(suite.findall("testcase/failure")) == summary["failed"]


def test_a_provider_that_answers_nothing_is_no_provider(capsys):
    with fake(say_nothing) as target:
        code = conform([f"127.0.0.1:{target.port}", "--timeout", "100ms"])
    assert code == Exit.NEGOTIATION
    assert "no association: silence" in capsys.readouterr().err


def test_nobody_listens(capsys, free_port):
    assert conform([f"127.0.0.1:{free_port}"]) == Exit.CONNECTION
    assert capsys.readouterr().err.startswith("error: ANY-SCP@127.0.0.1")


def test_usage(capsys):
    assert conform(["127.0.0.1"]) == Exit.USAGE
    assert conform(["127.0.0.1:1", "-k", "nothing like this"]) == Exit.USAGE
    assert conform([]) == Exit.USAGE
    assert conform(["--list", "-k", "PS3.8/7.2-1"]) == 0
    assert "A release is agreed to." in capsys.readouterr().out


def test_a_provider_that_is_gone_is_not_tried_any_more(monkeypatch):
    calls = []

    def once(data: bytes) -> bytes | None:
        calls.append(data)
        return accept_everything(data) if len(calls) < 4 else None

    monkeypatch.setattr("dicomnet.conform.session._PATIENCE", 0.1)
    cases = [case("PS3.8/9.3.2.2-2"), case("PS3.8/9.3.2.2-3"), case("PS3.8/7.2-1")]
    with fake(once) as target:
        results = Runner(target, Facts(), jobs=1, recovery=0.3).run(cases)
    assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.NOT_RUN, Outcome.NOT_RUN]
    assert "does not recover" in results[0].observed


def test_what_fails_beside_others_is_tried_again_alone():
    """A provider with three places: what it rejects for want of one is no verdict."""
    cases = [
        case("PS3.8/7.2-1"),
        case("PS3.8/7.2-2"),
        case("PS3.8/7.1.2-1"),
        *selected(PROVIDER_CASES, "PS3.8/9.3.2-?"),
    ]
    cases = [found for found in cases if found.id not in ("PS3.8/9.3.2-4", "PS3.8/9.3.2-5")]
    with fake(accept_everything, places=3) as target:
        results = Runner(target, Facts(), jobs=8).run(cases)
    assert [(result.case.id, result.outcome) for result in results] == [(c.id, Outcome.PASSED) for c in cases]


# ---- users -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "failing"),
    [
        (b"", {"PS3.8/9.3.3-201": "no user connects"}),
        (b"GET / HTTP/1.1\r\n\r\n", {"PS3.8/9.3.3-201": "no A-ASSOCIATE-RQ, but bytes that are no PDU"}),
        (SESSION.request(), {"PS3.8/9.3.3-201": "0 requests, then silence"}),
        (
            SESSION.request(version=0, contexts=(wire.context(2), wire.context(2))) + SESSION.request(),
            {"PS3.8/9.3.2-201": "version 0000", "PS3.8/9.3.2.2-201": "IDs [2, 2]"},
        ),
    ],
)
def test_a_bad_user_fails(says, failing):
    cases = [found for found in USER_CASES if found.id in ("PS3.8/9.3.3-201", "PS3.8/9.3.2-201", "PS3.8/9.3.2.2-201")]
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as user:
        if says:
            user.connect(listening.getsockname())
            user.sendall(says)
        results = UserRunner(listening, timeout=0.1, wait=0.2).run(cases)
    found = {result.case.id: result for result in results}
    for id_, words in failing.items():
        assert found[id_].outcome is not Outcome.PASSED
        assert words in found[id_].observed


def test_a_program_is_run_for_each_connection(capsys):
    code = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); "
    command = shlex.join([sys.executable, "-c", f"{code}s.sendall({SESSION.request()!r})", "{host}", "{port}"])
    exit_code = conform(
        ["--as-provider", "127.0.0.1:0", "--run", command, "-k", "PS3.8/9.3.4-20?", "--wait", "10", "-v"]
    )
    out = capsys.readouterr()
    assert exit_code == Exit.DONE
    assert out.out.count("\npass") + out.out.startswith("pass") == 5
    assert out.err.startswith("listening on 127.0.0.1:")


def test_a_report_that_cannot_be_written(capsys, tmp_path):
    with fake(accept_everything) as target:
        where = tmp_path / "nowhere" / "report.xml"
        assert conform([f"127.0.0.1:{target.port}", "-k", "PS3.8/9.3.2.2-1", "--junit", str(where)]) == 40
    assert capsys.readouterr().err == f"error: {where}: cannot be written: No such file or directory\n"


def test_listening_where_nobody_may(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert conform(["--as-provider", f"127.0.0.1:{port}"]) == Exit.CANNOT_LISTEN
    assert "cannot listen on" in capsys.readouterr().err
    assert conform(["--as-provider", "127.0.0.1:0", "127.0.0.1:1"]) == Exit.USAGE
    assert conform(["--as-provider", "127.0.0.1:0", "--list", "-k", "collision"]) == Exit.USAGE
    assert conform(["--as-provider", "127.0.0.1:0", "--list", "-k", "PS3.8/9.2.3-223"]) == Exit.DONE


# ---- parts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours, 0.2, 0.05), theirs


def test_what_a_connection_calls_what_it_sees(pair):
    connection, theirs = pair
    theirs.sendall(wire.abort(2, 6) + wire.reject(1, 1, 7) + wire.release_rp() + b"HTTP/1.1 400 Bad Request")
    seen = [str(connection.answer()) for _ in range(4)]
    assert seen == [
        "A-ABORT 2/6",
        "A-ASSOCIATE-RJ 1/1/7",
        "A-RELEASE-RP",
        "bytes that are no PDU: 48 54 54 50 2f 31 2e 31",
    ]


def test_silence_close_and_half_a_pdu(pair):
    connection, theirs = pair
    assert connection.answer().kind is Kind.SILENCE
    theirs.sendall(b"\x02\x00\x00")
    assert str(connection.answer()) == "bytes that are no PDU: 02 00 00"
    theirs.close()
    assert connection.answer().kind is Kind.CLOSED
    assert not connection.send(b"x") or not connection.send(b"x")


def test_a_message_in_many_fragments(pair):
    connection, theirs = pair
    command = wire.command_set(wire.response(wire.echo_rq(3)))
    theirs.sendall(b"".join(wire.data_tf(wire.pdv(1, 1, command[at : at + 7])) for at in range(0, len(command), 7)))
    theirs.sendall(wire.data_tf(wire.pdv(1, 3)))
    reply = connection.message()
    assert str(reply) == "C-ECHO-RSP with status 0000"
    assert reply.command_bytes == command
    theirs.sendall(wire.data_tf(wire.pdv(1, 3, b"no command")))
    assert connection.message().kind is Kind.NOISE


def test_expectations_say_what_was_seen():
    expect = Expect("an abort", lambda seen: seen.kind is Kind.ABORT)
    assert expect.check(Answer(Kind.ABORT, bytes((0, 0, 2, 1)))) == "A-ABORT 2/1"
    with pytest.raises(Departure, match="silence"):
        expect.check(Answer(Kind.SILENCE))


def test_reports_escape_what_the_peer_says(capsys):
    found = Case("PS3.8/9.1-1", Grade.MUST, "A rule.", "this", lambda _: "")
    evil = Result(found, Outcome.FAILED, "\x1b[2J\nroot\u202e\xff", 0.1)
    report.print_table([evil])
    out = capsys.readouterr().out
    assert r"\x1b[2J\x0aroot\u202eÿ" in out
    assert summarize([evil], 1.0).of(Outcome.FAILED) == 1


def test_a_terminal_gets_a_table(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "160")
    out = StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    report.print_table([Result(case("PS3.8/7.2-1"), Outcome.FAILED, "[red]\x1b[2J")], out)
    table = out.getvalue()
    assert "A release is agreed to." in table
    assert r"[red]\x1b[2J" in table
    assert "(expected: A-RELEASE-RP)" in table


def test_a_rejected_probe_says_why():
    with fake(lambda _: wire.reject(1, 1, 7)) as target, pytest.raises(Unavailable, match="A-ASSOCIATE-RJ 1/1/7"):
        probe(target)


def test_the_tool_that_makes_the_table_of_providers():
    conformance = pytest.importorskip("tools.conformance", reason="a wheel is tested without the tools")
    _, command = conformance.PROVIDERS["dicomnet"]
    grades = conformance.measure(command, "-k", "PS3.8/9.3.2.2*")
    assert conformance.row("ours", grades) == "| ours | 31 of 31 | 0 of 0 | 3 of 3 |"
