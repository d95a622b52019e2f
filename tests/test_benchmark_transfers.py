"""How the benchmarks see a transfer (benchmarks/transfers.py), and what their tables and chart make of it."""

from __future__ import annotations

import socket
import struct
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import transfers
from benchmarks.transfers import Event, Segment

BENCHMARKS = Path(transfers.__file__).parent
PORT, SENDER = 11112, 40000
SYN, FIN, RST, ACK = 2, 1, 4, 16
ACCEPT, RELEASE = b"\2\0" + bytes(300), b"\5\0\0\0\0\4\0\0\0\0"


def packet(
    source: int, destination: int, flags: int, payload: bytes = b"", *, options: int = 0, tcp_options: int = 3
) -> bytes:
    """An IPv4 packet, headers with so many words of options."""
    length = 40 + 4 * (options + tcp_options) + len(payload)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45 + options, 0, length, 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
    tcp = struct.pack("!HHIIBBHHH", source, destination, 1, 1, 5 + tcp_options << 4, flags, 1, 0, 0)
    return ip + bytes(4 * options) + tcp + bytes(4 * tcp_options) + payload


def events(data: bytes) -> list[Event]:
    found = list(transfers.parse(data[: transfers.KEPT], PORT, 7))
    assert all(segment.connection == SENDER and segment.time == 7 for segment in found)
    return [segment.event for segment in found]


@pytest.mark.parametrize(
    ("flags", "payload", "expected"),
    [
        (SYN, b"", [Event.OPENED]),
        (ACK, RELEASE, [Event.RELEASING]),
        (ACK | FIN, RELEASE, [Event.RELEASING, Event.CLOSED]),
        (ACK | FIN, b"", [Event.CLOSED]),
        (RST, b"", [Event.CLOSED]),
        (ACK, b"", []),
        (ACK, ACCEPT, []),
        (ACK, RELEASE + b"\4", []),
        (ACK, b"\4" + bytes(9), []),
    ],
)
def test_a_segment_of_the_sender_says(flags: int, payload: bytes, expected: list[Event]) -> None:
    assert events(packet(SENDER, PORT, flags, payload)) == expected
    assert events(packet(SENDER, PORT, flags, payload, options=10, tcp_options=10)) == expected


@pytest.mark.parametrize(
    ("flags", "payload", "expected"),
    [
        (ACK, ACCEPT, [Event.ACCEPTED]),
        (RST, b"", [Event.CLOSED]),
        (SYN | ACK, b"", []),
        (FIN | ACK, b"", []),
        (ACK, RELEASE, []),
        (ACK, b"\4" + bytes(100), []),
    ],
)
def test_a_segment_of_the_receiver_says(flags: int, payload: bytes, expected: list[Event]) -> None:
    assert events(packet(PORT, SENDER, flags, payload)) == expected
    assert events(packet(PORT, SENDER, flags, payload, options=10, tcp_options=10)) == expected


def test_other_ports_say_nothing() -> None:
    assert events(packet(SENDER, PORT + 1, SYN)) == []


def kept(code: list[transfers.Instruction], data: bytes) -> int:
    """What the kernel makes of the filter: how many bytes it keeps."""
    a = x = at = 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == transfers.RETURN:
            return k
        place = k + (x if operation in (transfers.LOAD_BYTE_AT, transfers.LOAD_HALF_AT) else 0)
        size = 2 if operation in (transfers.LOAD_HALF, transfers.LOAD_HALF_AT) else 1
        match operation:
            case transfers.LOAD_BYTE | transfers.LOAD_HALF | transfers.LOAD_BYTE_AT | transfers.LOAD_HALF_AT:
                if place + size > len(data):
                    return 0
                a = int.from_bytes(data[place : place + size], "big")
            case transfers.LOAD_HEADER:
                x = (data[k] & 15) * 4
            case transfers.EQUAL:
                at += yes if a == k else no
            case transfers.ANY_BIT:
                at += yes if a & k else no
            case transfers.AND:
                a &= k
            case transfers.SHIFT_RIGHT:
                a >>= k
            case transfers.ADD_X:
                a += x
            case transfers.SUBTRACT_X:
                a -= x
            case transfers.TO_X:
                x = a
            case _:
                raise AssertionError(operation)


@given(
    ports=st.sampled_from([(SENDER, PORT), (PORT, SENDER), (SENDER, PORT + 1), (PORT + 1, SENDER)]),
    flags=st.integers(0, 63),
    payload=st.sampled_from([b"", ACCEPT, RELEASE, RELEASE + b"\4"]) | st.binary(max_size=12),
    options=st.integers(0, 10),
    tcp_options=st.integers(0, 10),
)
def test_the_filter_keeps_what_says_something(
    ports: tuple[int, int], flags: int, payload: bytes, options: int, tcp_options: int
) -> None:
    data = packet(*ports, flags, payload, options=options, tcp_options=tcp_options)
    assert bool(kept(transfers.program(PORT), data)) == bool(list(transfers.parse(data, PORT, 0)))


def test_the_filter_drops_what_is_no_tcp() -> None:
    data = bytearray(packet(SENDER, PORT, SYN))
    data[9] = 17
    assert kept(transfers.program(PORT), bytes(data)) == 0


def connection(port: int, start: int, *, associated: bool = True) -> list[Segment]:
    """Opened at ``start`` nanoseconds, accepted 10 later, releasing 100 later, closed 115 later."""
    found = [Segment(port, Event.OPENED, start), Segment(port, Event.CLOSED, start + 115)]
    if associated:
        found += [Segment(port, Event.ACCEPTED, start + 10), Segment(port, Event.RELEASING, start + 100)]
    return found


def test_a_transfer_is_from_acceptance_to_release() -> None:
    assert transfers.transfer_seconds(connection(1, 0)) == pytest.approx(90e-9)


def test_where_no_association_is_seen_the_connection_counts() -> None:
    assert transfers.transfer_seconds(connection(1, 0, associated=False)) == pytest.approx(115e-9)


def test_several_senders_count_from_the_first_to_the_last() -> None:
    assert transfers.transfer_seconds(connection(1, 0) + connection(2, 50) + connection(3, 20)) == pytest.approx(140e-9)


def test_a_connection_opened_before_is_left_out() -> None:
    before = [Segment(9, Event.CLOSED, 5)]
    assert transfers.transfer_seconds(before) is None
    assert transfers.transfer_seconds(before + connection(1, 10)) == pytest.approx(90e-9)
    assert not transfers.all_closed(before)
    assert transfers.all_closed(before + connection(1, 10))


def test_a_connection_still_open_is_waited_for() -> None:
    open_still = [Segment(2, Event.OPENED, 0)]
    assert not transfers.all_closed(connection(1, 0) + open_still)
    assert transfers.transfer_seconds(open_still) is None


def test_a_rst_after_the_end_does_not_move_it() -> None:
    late = [Segment(1, Event.CLOSED, 900)]
    assert transfers.transfer_seconds(connection(1, 0, associated=False) + late) == pytest.approx(115e-9)


def exchange(port: int, listener: socket.socket) -> float:
    """An association, as far as its segments tell; the seconds from its acceptance to its release, at the most."""
    with socket.create_connection(("127.0.0.1", port)) as sender, listener.accept()[0] as receiver:
        began = time.perf_counter()
        receiver.sendall(ACCEPT)
        received = 0
        while received < len(ACCEPT):
            received += len(sender.recv(len(ACCEPT)))
        sender.sendall(RELEASE)
        return time.perf_counter() - began


def test_a_transfer_on_the_loopback_interface_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not transfers.can_watch():
            assert transfers.how() == transfers.HOW_TOLD
            return
        assert transfers.how() == transfers.HOW_SEEN
        exchange(port, listener)  # before: not seen
        with transfers.Watch(port) as watch:
            at_most = exchange(port, listener)
            seconds = watch.seconds()
        assert seconds is not None
        assert 0 < seconds < at_most


# ---- what is made of it --------------------------------------------------------------------------------------------


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType, ModuleType, ModuleType]:
    """The modules report, plot, contest and rigs, which import one another by these names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    report, plot, contest, rigs = (import_module(name) for name in ("report", "plot", "contest", "rigs"))
    return report, plot, contest, rigs


Modules = tuple[ModuleType, ModuleType, ModuleType, ModuleType]


def series(modules: Modules, *times: tuple[float, float | None]) -> object:
    """Runs by the seconds of their process and their transfer."""
    _, _, contest, rigs = modules
    return contest.Series([rigs.Run(seconds, transfer, 0.1, 0.1, 0.0) for seconds, transfer in times])


def test_transfers_lead_and_processes_are_judged_too(benchmarks: Modules) -> None:
    report = benchmarks[0]
    standings = {"ct": {"dicomnet": series(benchmarks, (2.0, 0.5)), "dcmtk": series(benchmarks, (2.5, 1.0))}}
    ratios = [one for one in report.store_ratios(standings) if one.basis != "cpu"]
    assert [(one.basis, one.ratio, one.at_most, one.met) for one in ratios] == [
        ("transfer", 0.5, 0.65, True),
        ("process", 0.8, 0.65, False),
    ]


def test_without_transfers_processes_stand_alone(benchmarks: Modules) -> None:
    report = benchmarks[0]
    standings = {"ct": {"dicomnet": series(benchmarks, (2.0, 0.5)), "dcmtk": series(benchmarks, (2.5, None))}}
    assert [one.basis for one in report.store_ratios(standings)] == ["process", "cpu"]
    assert not benchmarks[2].transfers_known(standings["ct"].values())


def test_a_line_has_the_transfer_and_its_throughput_first(benchmarks: Modules) -> None:
    corpora = import_module("corpora")
    rigs = {
        "dicomnet": series(benchmarks, (3.0, 2.0), (3.5, 2.5), (4.0, 3.0)),
        "dcmtk": series(benchmarks, (5.0, None)),
    }
    lines = list(benchmarks[0].standing_lines(corpora.Recipe("ct", 10, pixels=1 << 20), 25_000_000, rigs))
    assert lines[1].split() == ["rig", "transfer", "best", "MB/s", "objects/s", "process", "cpu", "rounds"]
    assert lines[2].split() == ["dicomnet", "2.500", "2.000", "10", "4", "3.500", "0.200", "3"]
    assert lines[3].split() == ["dcmtk", "—", "—", "—", "—", "5.000", "0.200", "1"]


def test_a_sample_is_scaled_by_its_transfer_or_not_at_all(benchmarks: Modules) -> None:
    _, _, contest, rigs = benchmarks
    run = contest._scaled(rigs.Run(1.0, 0.25, 0.1, 0.1, 0.0), 4)
    assert (run.seconds, run.transfer) == (1.75, 1.0)
    with pytest.raises(rigs.Broken, match="not known"):
        contest._scaled(rigs.Run(1.0, None, 0.1, 0.1, 0.0), 4)


def test_the_chart_has_a_bar_of_the_transfer_before_that_of_the_process(benchmarks: Modules) -> None:
    plot = benchmarks[1]
    ran = {"dicomnet": {"transfer": 0.2, "seconds": 0.5}, "dcmtk": {"transfer": 0.3, "seconds": 0.4}}
    absent = {"pynetdicom": {"transfer": None, "seconds": None}}
    assert plot.bars(ran | absent) == [plot.Bar("dicomnet", 0.2, 0.5), plot.Bar("dcmtk", 0.3, 0.4)]
    drawn = "".join(plot.panel("ct", plot.bars(ran), 0))
    assert drawn.index("fill-opacity") < drawn.index('fill="#0b7285"/>')
    assert "200 ms, process 500 ms" in drawn


def test_the_chart_has_processes_alone_where_one_transfer_is_not_known(benchmarks: Modules) -> None:
    plot = benchmarks[1]
    rigs = {"dicomnet": {"transfer": 0.2, "seconds": 0.5}, "dcmtk": {"transfer": None, "seconds": 0.4}}
    assert plot.bars(rigs) == [plot.Bar("dcmtk", 0.4), plot.Bar("dicomnet", 0.5)]
    assert "process" not in "".join(plot.panel("ct", plot.bars(rigs), 0))
