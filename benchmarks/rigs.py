"""The rigs: a sender and a receiver, each a process of its own, and the files between them counted and compared.

A rig is a context manager; its receiver lives as long as it does. ``run`` sends one corpus and gives a ``Run``. Its
times are the same for every peer: the transfer, as `transfers` sees it, and the sender's process from its start to its
end, imports included.
"""

import atexit
import compileall
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

from corpora import Corpus, dataset_offset
from transfers import Watch, can_watch

HOST = "127.0.0.1"
DEADLINE = 300.0  # seconds until a sender that does not end is killed
HANDICAPS = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPROFILEIMPORTTIME", "PYTHONMALLOC")
PORTS = 3  # ports that are tried again for a peer that cannot pick one itself
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Run:
    """One sending of one corpus, in seconds."""

    seconds: float  # the sender's process, from start to end
    transfer: float | None  # from the first request to the last response; None where it cannot be seen nor told
    sender_cpu: float
    receiver_cpu: float | None
    others_cpu: float | None  # what everything else on the machine used meanwhile


class PeerMissing(Exception):
    """A program or package that a rig needs is not installed."""


class Broken(Exception):
    """A run that did not deliver what it was given: no time of it counts."""


class Peer(ABC):
    """How one implementation is started as receiver and as sender, at the best settings that its users have."""

    environment: Mapping[str, str] = {}
    fixed_port = False  # True: it cannot pick a free port and print it

    @abstractmethod
    def receiver(self, port: int, directory: Path) -> list[str]:
        """The command that receives into ``directory``."""

    @abstractmethod
    def sender(self, port: int, directory: Path) -> list[str]:
        """The command that sends every file of ``directory``."""

    def transfer(self, output: str) -> float | None:
        """The transfer's seconds, as the sender printed them: for where they cannot be seen."""
        return float(output.rsplit(maxsplit=1)[-1])


class RawSocket(Peer):
    """sendfile to recv-and-write: the bound."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [sys.executable, "-IS", str(PEERS / "raw_socket.py"), "receive", str(directory)]

    def sender(self, port: int, directory: Path) -> list[str]:
        return [sys.executable, "-IS", str(PEERS / "raw_socket.py"), "send", str(port), str(directory)]


class Dcmtk(Peer):
    """storescu and storescp in bit-preserving mode, with the largest PDU they take and without Nagle's delay.

    Without ``-R``: storescu then does not read every file twice before it connects, and is faster.
    """

    environment = {"TCP_NODELAY": "1"}
    fixed_port = True

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [dcmtk_program("storescp"), "-q", "+B", "-pdu", "131072", "-od", str(directory), str(port)]

    def sender(self, port: int, directory: Path) -> list[str]:
        return [dcmtk_program("storescu"), "-q", "-pdu", "131072", HOST, str(port), "+sd", str(directory)]

    def transfer(self, output: str) -> float | None:
        return None


class ForkingDcmtk(Dcmtk):
    """storescp with a process for each association: what its users have where several send at once."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [*super().receiver(port, directory), "--fork"]


class Pynetdicom(Peer):
    """The pynetdicom of this interpreter, by a script after its own documentation."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [python("pynetdicom"), str(PEERS / "pynetdicom_peer.py"), "receive", str(directory)]

    def sender(self, port: int, directory: Path) -> list[str]:
        return [python("pynetdicom"), str(PEERS / "pynetdicom_peer.py"), "send", str(port), str(directory)]


class Dicomnet(Peer):
    """dicomnet's command line, as installed, at its defaults."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [*dicomnet_command(), "recv", f"{HOST}:{port}", "--out", str(directory)]

    def sender(self, port: int, directory: Path) -> list[str]:
        return [*dicomnet_command(), "store", f"{HOST}:{port}", str(directory), "--json", "-q"]

    def transfer(self, output: str) -> float | None:
        return float(json.loads(output.splitlines()[-1])["summary"]["seconds"])


class ParallelDicomnet(Dicomnet):
    """With as many processes that receive as there are cores, and four associations that send."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [*super().receiver(port, directory), "--workers", str(max(os.cpu_count() or 1, 2))]

    def sender(self, port: int, directory: Path) -> list[str]:
        return [*super().sender(port, directory), "--associations", "4"]


class DicomnetOne(Dicomnet):
    """With one instance under way at a time, as the others have it, rather than the sixteen of its defaults."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [*super().receiver(port, directory), "--window", "1"]

    def sender(self, port: int, directory: Path) -> list[str]:
        return [*super().sender(port, directory), "--window", "1"]


class DicomnetTls(Dicomnet):
    """Over TLS 1.3 with certificates on both sides, at its defaults."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [*super().receiver(port, directory), *self._identity("server")]

    def sender(self, port: int, directory: Path) -> list[str]:
        return [*super().sender(port, directory), *self._identity("client")]

    def _identity(self, name: str) -> list[str]:
        made = certificates()
        return ["--tls-ca", f"{made}/ca.pem", "--tls-cert", f"{made}/{name}.pem", "--tls-key", f"{made}/{name}.key"]


class DcmtkTls(Dcmtk):
    """As `Dcmtk`, over TLS 1.3 with certificates on both sides; by its default profile, as dicomnet's."""

    def receiver(self, port: int, directory: Path) -> list[str]:
        return self._secured(super().receiver(port, directory), "server")

    def sender(self, port: int, directory: Path) -> list[str]:
        return self._secured(super().sender(port, directory), "client")

    def _secured(self, command: list[str], name: str) -> list[str]:
        made = certificates()
        return [command[0], "+tls", f"{made}/{name}.key", f"{made}/{name}.pem", "+cf", f"{made}/ca.pem", *command[1:]]


@cache
def certificates() -> str:
    """A directory with an authority of our own and what it vouches for, removed at the end."""
    directory = mkdtemp(prefix="dicomnet-bench-certificates-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    subprocess.run([*dicomnet_command(), "cert", "make", directory, "--host", HOST, "-q"], check=True)
    return directory


RAW, DCMTK, PYNETDICOM, DICOMNET = RawSocket(), Dcmtk(), Pynetdicom(), Dicomnet()
FORKING, PARALLEL = ForkingDcmtk(), ParallelDicomnet()
DICOMNET_ONE, DICOMNET_TLS, DCMTK_TLS = DicomnetOne(), DicomnetTls(), DcmtkTls()

# name: (sender, receiver), in the order in which a round runs them
RIGS: dict[str, tuple[Peer, Peer]] = {
    "raw": (RAW, RAW),
    "dicomnet": (DICOMNET, DICOMNET),
    "dcmtk": (DCMTK, DCMTK),
    "dicomnet-dcmtk": (DICOMNET, DCMTK),
    "dcmtk-dicomnet": (DCMTK, DICOMNET),
    "pynetdicom": (PYNETDICOM, PYNETDICOM),
    "dicomnet-4": (PARALLEL, DICOMNET),
    "dicomnet-4-workers": (PARALLEL, PARALLEL),
    "dcmtk-fork": (DCMTK, FORKING),
    "dcmtk-workers": (DCMTK, PARALLEL),
    "dicomnet-one": (DICOMNET_ONE, DICOMNET_ONE),
    "dicomnet-tls": (DICOMNET_TLS, DICOMNET_TLS),
    "dcmtk-tls": (DCMTK_TLS, DCMTK_TLS),
}
# Who takes part in which work.
EVERYBODY = ("raw", "dicomnet", "dcmtk", "dicomnet-dcmtk", "dcmtk-dicomnet", "pynetdicom")
CONTESTS = {
    "ct": (*EVERYBODY, "dicomnet-4", "dicomnet-4-workers", "dicomnet-one", "dicomnet-tls", "dcmtk-tls"),
    "small": (*EVERYBODY, "dicomnet-4", "dicomnet-4-workers", "dicomnet-one"),
    "large": EVERYBODY,
    "ct by 8": ("dcmtk-fork", "dcmtk-dicomnet", "dcmtk-workers"),
    "small by 8": ("dcmtk-fork", "dcmtk-dicomnet", "dcmtk-workers"),
}


class Receiver:
    """A receiver that runs, with a directory of its own, for as long as this is entered.

    Args:
        peer: whose it is.
        directory: where the received files go; made, and removed at the end.
    """

    def __init__(self, peer: Peer, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self._peer = peer
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir()
        try:
            self._process, self.port = _start_receiver(self._peer, self.directory)
        except BaseException:
            shutil.rmtree(self.directory)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        _stop(self._process)
        shutil.rmtree(self.directory)

    def while_running(self, work: Callable[[], tuple[Run, list[str]]]) -> tuple[Run, list[str]]:
        """Do ``work``, and say what the receiver and all others used meanwhile.

        Raises:
            Broken: what ``work`` raised, and whether the receiver had ended.
        """
        assert self._process is not None
        try:
            before, busy = _cpu_seconds(self._process.pid), _busy_seconds()
            run, outputs = work()
            after, busy_after = _cpu_seconds(self._process.pid), _busy_seconds()
        except Broken as error:
            ended = self._process.poll()
            raise error if ended is None else Broken(f"{error}\n(the receiver had ended, with {ended})") from error
        if before is None or after is None or busy is None or busy_after is None:
            return run, outputs
        others = max(0.0, busy_after - busy - run.sender_cpu - (after - before))
        return replace(run, receiver_cpu=after - before, others_cpu=others), outputs


class Rig(Receiver):
    """A receiver that runs, and a sender that is run against it.

    Args:
        name: one of ``RIGS``.
        parent: where the received files go (a directory of the rig's own is made in it).
    """

    def __init__(self, name: str, parent: Path) -> None:
        self.name = name
        self._send, receive = RIGS[name]
        super().__init__(receive, parent / f"{name}-received")

    def run(self, corpus: Corpus, *, compare: bool = False) -> Run:
        """Send ``corpus``, check what arrived (bit for bit with ``compare``), remove it.

        Raises:
            Broken: the sender failed, or what arrived is not what was sent.
        """
        commands = [self._send.sender(self.port, directory) for directory in corpus.directories]
        try:
            run = self._watched(commands) if can_watch() else self._told(commands)
            self._check(corpus, compare)
        finally:
            for path in self.directory.iterdir():
                path.unlink()
        return run

    def _watched(self, commands: list[list[str]]) -> Run:
        with Watch(self.port) as watch:
            run, _ = self.while_running(lambda: timed(commands, environment(self._send)))
            return replace(run, transfer=watch.seconds())

    def _told(self, commands: list[list[str]]) -> Run:
        run, outputs = self.while_running(lambda: timed(commands, environment(self._send)))
        return replace(run, transfer=self._send.transfer(outputs[0])) if len(outputs) == 1 else run

    def _check(self, corpus: Corpus, compare: bool) -> None:
        received = list(self.directory.iterdir())
        if len(received) != len(corpus.files):
            raise Broken(f"{self.name}: {len(corpus.files)} files sent, {len(received)} received")
        if sum(path.stat().st_size for path in received) < corpus.data_bytes:
            raise Broken(f"{self.name}: fewer bytes received than sent")
        if compare and _digests(received) != _digests(corpus.files):
            raise Broken(f"{self.name}: a received data set differs from the one sent")


def dicomnet_command() -> list[str]:
    """The installed console script, or the module where the package is only built in place."""
    if find_spec("dicomnet.cli") is None:
        raise PeerMissing("dicomnet.cli is not there")
    script = Path(sys.executable).with_name("dicomnet")
    return [str(script)] if script.exists() else [sys.executable, "-m", "dicomnet"]


def environment(peer: Peer) -> dict[str, str]:
    """Ours, with what ``peer`` needs, and without what would make any Python slow to start or to print."""
    inherited = {name: value for name, value in os.environ.items() if name not in HANDICAPS}
    return {**inherited, **peer.environment}


def compile_bytecode() -> None:
    """Have dicomnet's modules compiled, as in every installed package; a checkout built in place may lack that."""
    spec = find_spec("dicomnet")
    if spec is not None and spec.origin is not None:
        compileall.compile_dir(Path(spec.origin).parent, quiet=2)


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise PeerMissing(f"{name} is not installed (Debian: apt install dcmtk)")
    return path


@cache
def dcmtk_program(name: str) -> str:
    """The program of DCMTK: pynetdicom has some of the same names, and may come first where it is installed."""
    for directory in os.get_exec_path():
        path = shutil.which(name, path=directory)
        if path is None:
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if "dcmtk" in said:
            return path
    raise PeerMissing(f"{name} is not installed (Debian: apt install dcmtk)")


def python(package: str) -> str:
    if find_spec(package) is None:
        raise PeerMissing(f"{package} is not installed (pip install {package})")
    return sys.executable


def _start_receiver(peer: Peer, directory: Path) -> tuple[subprocess.Popen[str], int]:
    """Start ``peer`` as receiver and wait until it accepts connections."""
    for _ in range(PORTS if peer.fixed_port else 0):
        try:
            return _started(peer, directory)
        except Broken:
            continue  # somebody else took the port that was free
    return _started(peer, directory)


def _started(peer: Peer, directory: Path) -> tuple[subprocess.Popen[str], int]:
    port = free_port() if peer.fixed_port else 0
    process = subprocess.Popen(
        peer.receiver(port, directory),
        env=environment(peer),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if peer.fixed_port:
        _wait_for_port(process, port)
        return process, port
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("listening on "):
        _stop(process)
        raise Broken(f"{' '.join(process.args)}: expected 'listening on HOST:PORT', got {line!r}")  # type: ignore[arg-type]
    return process, int(line.rsplit(":", 1)[1])


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_for_port(process: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((HOST, port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    _stop(process)
    raise Broken(f"{process.args!r} does not listen")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def timed(commands: Sequence[list[str]], environ: Mapping[str, str]) -> tuple[Run, list[str]]:
    """Run senders, all at once, to the end of the last: their time, and what each printed."""
    cpu, outputs = 0.0, []
    with open(os.devnull, "rb") as nothing, ExitStack() as stack:
        files = [stack.enter_context(_output()) for _ in commands]
        started = time.perf_counter()
        processes = [
            subprocess.Popen(command, env=environ, stdin=nothing, stdout=write, stderr=subprocess.STDOUT)
            for command, (write, _) in zip(commands, files, strict=True)
        ]
        watchdog = threading.Timer(DEADLINE, lambda: [process.kill() for process in processes])
        watchdog.daemon = True
        watchdog.start()
        for process in processes:
            # Not Popen.wait(timeout): that polls, in steps of up to 50 ms.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
        seconds = time.perf_counter() - started
        watchdog.cancel()
        outputs = [read() for _, read in files]
    for process, command, output in zip(processes, commands, outputs, strict=True):
        if process.returncode != 0:
            raise Broken(f"{' '.join(command)}: exit code {process.returncode}\n{output[-2000:]}")
    return Run(seconds, None, cpu, None, None), outputs


@contextmanager
def _output() -> Iterator[tuple[int, Callable[[], str]]]:
    """A file in memory for what a sender prints: a pipe could fill and stop it."""
    descriptor = os.memfd_create("output") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
    try:
        yield descriptor, lambda: os.pread(descriptor, 1 << 24, 0).decode(errors="replace")
    finally:
        os.close(descriptor)


def _cpu_seconds(pid: int) -> float | None:
    """The CPU time of a running process and its children so far, in clock ticks; None where there is no /proc."""
    try:
        return sum(map(_ticks, family(pid))) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def _ticks(pid: int) -> int:
    """CPU time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _busy_seconds() -> float | None:
    """What all processes have used of all processors so far; None where there is no /proc."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=4)
    except OSError:
        return None
    user, nice, system = fields[1], fields[2], fields[3]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def _digests(paths: list[Path] | tuple[Path, ...]) -> Counter[bytes]:
    return Counter(_digest(path) for path in paths)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(dataset_offset(file.read(144)))
        return hashlib.file_digest(file, "sha256").digest()
