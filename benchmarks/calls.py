"""Calls without objects: many C-ECHOs on one association, and many associations with a C-ECHO each.

What is compared is the time of one of them. C-ECHO: a sender's process from its start to its end, divided by how many
it made, so many that start-up hardly shows. Associations: the time that a loop took within the sender, divided
likewise; start-up is not in it, since nobody would start a process for each.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from contest import ROUNDS, Series
from rigs import (
    DCMTK,
    DICOMNET,
    HOST,
    PEERS,
    PYNETDICOM,
    Broken,
    Peer,
    PeerMissing,
    Receiver,
    Run,
    dcmtk_program,
    dicomnet_command,
    environment,
    python,
    timed,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls whom: the receiver, the command that calls its port so often, and how often that is."""

    receiver: Peer
    command: Callable[[int, int], list[str]]
    count: int
    inner: bool = False  # the command prints the seconds of its loop, and those count


@dataclass(frozen=True, slots=True)
class Work:
    """What is called, and by whom."""

    title: str
    callers: Mapping[str, Caller]


def _dcmtk_echo(port: int, count: int) -> list[str]:
    return [dcmtk_program("echoscu"), "-q", "--repeat", str(count), HOST, str(port)]


def _dicomnet_echo(port: int, count: int) -> list[str]:
    return [*dicomnet_command(), "echo", f"{HOST}:{port}", "--count", str(count), "-q"]


def _dicomnet_associate(port: int, count: int) -> list[str]:
    return [python("dicomnet"), str(PEERS / "dicomnet_peer.py"), str(port), str(count)]


def _pynetdicom_associate(port: int, count: int) -> list[str]:
    return [python("pynetdicom"), str(PEERS / "pynetdicom_peer.py"), "associate", str(port), str(count)]


WORKS = {
    "echo": Work(
        "C-ECHO round trip on one association",
        {
            "dicomnet": Caller(DICOMNET, _dicomnet_echo, 10_000),
            "dcmtk": Caller(DCMTK, _dcmtk_echo, 10_000),
            "dicomnet-dcmtk": Caller(DCMTK, _dicomnet_echo, 10_000),
            "dcmtk-dicomnet": Caller(DICOMNET, _dcmtk_echo, 10_000),
        },
    ),
    "associate": Work(
        "associate, echo, release",
        {
            "dicomnet": Caller(DICOMNET, _dicomnet_associate, 300, inner=True),
            "pynetdicom": Caller(PYNETDICOM, _pynetdicom_associate, 10, inner=True),
        },
    ),
    "start": Work(
        "start of a process",
        {
            "python": Caller(DICOMNET, lambda *_: [sys.executable, "-c", "pass"], 1),
            "import dicomnet": Caller(DICOMNET, lambda *_: [sys.executable, "-c", "import dicomnet"], 1),
            "dicomnet echo": Caller(DICOMNET, lambda port, _: [*dicomnet_command(), "echo", f"{HOST}:{port}"], 1),
            "echoscu": Caller(DICOMNET, lambda port, _: [dcmtk_program("echoscu"), HOST, str(port)], 1),
        },
    ),
}
ECHO_SECONDS = 0.2  # that `dicomnet echo` may take in all
IMPORT_SECONDS = 0.04  # that importing dicomnet may add to the bare interpreter
SHORT = 5  # calls of the short form


def compete(name: str, who: list[str], parent: Path, *, short: bool) -> dict[str, Series]:
    """The seconds of one call, for each of ``who`` in turn, round by round."""
    series = {caller: Series() for caller in who}
    with ExitStack() as stack:
        receivers: dict[str, Receiver] = {}
        for caller in who:
            try:
                receiver = Receiver(WORKS[name].callers[caller].receiver, parent / f"{name}-{caller}".replace(" ", "-"))
                receivers[caller] = stack.enter_context(receiver)
            except (Broken, PeerMissing, OSError) as error:
                series[caller].error = error
        for _ in range(1 if short else ROUNDS):
            for caller, receiver in receivers.items():
                if series[caller].error is None:
                    try:
                        series[caller].runs.append(_run(WORKS[name].callers[caller], receiver, short))
                    except (Broken, PeerMissing, OSError) as error:
                        series[caller].error = error
                        series[caller].runs.clear()
    return series


def _run(caller: Caller, receiver: Receiver, short: bool) -> Run:
    count = min(SHORT, caller.count) if short else caller.count
    commands = [caller.command(receiver.port, count)]
    run, outputs = receiver.while_running(lambda: timed(commands, environment(caller.receiver)))
    seconds = float(outputs[0].rsplit(maxsplit=1)[-1]) if caller.inner else run.seconds
    return replace(
        run,
        seconds=seconds / count,
        sender_cpu=run.sender_cpu / count,
        receiver_cpu=None if run.receiver_cpu is None else run.receiver_cpu / count,
        others_cpu=None if run.others_cpu is None else run.others_cpu / count,
    )
