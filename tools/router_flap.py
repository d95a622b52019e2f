"""Cut a router's network again and again, and see that it sends what it can and does not spin.

    python tools/router_flap.py --seconds 180 --period 10

A proxy between a router and its destination is open for a period, then gone for one. The destination takes at most
so many instances a second. Told are the share of what could have gone while the network was there, the share of a
processor that the router took while it was not, and what has not arrived when the network stays in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.files.part10 import meta_header
from dicomnet.repository.blob_store import NewBlob
from dicomnet.repository.incoming import Incoming
from dicomnet.router.settings import RouterSettings
from dicomnet.router.spool import Spool
from dicomnet.services.provider_requests import StoreRequest
from dicomnet.status import Status
from dicomnet.sync import Listener

CT, LITTLE = uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN
PAUSE = 0.005  # seconds that the destination takes over an instance
GROUP = 128
#: By the goals: of what could have gone; of a processor.
LEAST_SHARE, MOST_CPU = 0.5, 0.1
DRAINED = 60.0  # seconds without anything new after which what is missing is missing


class Proxy:
    """Passes connections on to a port while it is open; cut, it has none and takes none."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = True
        self.accepted = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            with self._lock:
                if not self._open:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((near, far))
            threading.Thread(target=self._pump, args=(near, far), daemon=True).start()

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        try:
            while True:
                for one in select.select([near, far], [], [])[0]:
                    data = one.recv(1 << 18)
                    if not data:
                        return
                    (far if one is near else near).sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            near.close()
            far.close()

    def set_open(self, is_open: bool) -> None:
        """Open it, or cut it with all that it has."""
        with self._lock:
            self._open = is_open
            pairs, self._pairs = self._pairs, []
        for pair in pairs if not is_open else ():
            for one in pair:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it was over
        if is_open:
            with self._lock:
                self._pairs += pairs


def fill(directory: Path, port: int, count: int) -> None:
    """A router's directory, with so many instances waiting for a destination."""
    settings = RouterSettings.make(directory)
    rules = f'[destinations.A]\naddress = "A@127.0.0.1:{port}"\n[[rules]]\nname = "all"\n'
    (directory / "rules.toml").write_text(f'{rules}actions = [{{ do = "forward", to = ["A"] }}]\n')
    with Spool(directory, settings, serves=True) as spool:
        spool.plans.refresh()
        for start in range(0, count, GROUP):
            spool.store([incoming(number) for number in range(start, min(start + GROUP, count))])


def incoming(number: int) -> Incoming:
    """An instance that has arrived."""
    uid = f"1.2.3.{number}"
    values = {"SOPClassUID": CT, "SOPInstanceUID": uid, "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3"}
    data = codec.encode(values, LITTLE)
    sha = hashlib.sha256(data).digest()
    blob = NewBlob(CT, uid, LITTLE, meta_header(CT, uid, LITTLE, "FLAP"), [data], sha, len(data))
    return Incoming(blob, data, "FLAP", "ROUTER", "127.0.0.1")


def cpu_of(pid: int) -> float:
    """The seconds of a processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Flapped:
    """What was seen.

    Attributes:
        share: of what could have gone while the network was there.
        cpu: the share of a processor that the router took while it was not.
        connections: how many were made.
        sent: how many instances there were; ``twice``: how often one came again; ``missing``: how many never came.
    """

    share: float
    cpu: float
    connections: int
    sent: int
    twice: int
    missing: int

    @property
    def good(self) -> bool:
        """Whether the goals are met."""
        return self.share >= LEAST_SHARE and self.cpu <= MOST_CPU and not self.missing


class Taking(Listener):
    """A destination that takes its time, and writes down what has come."""

    def __init__(self) -> None:
        super().__init__("A", port=0)
        self.taken: list[str] = []
        self.on_store(unknown_classes=True)(self._store)

    def _store(self, request: StoreRequest) -> Status:
        self.taken.append(request.sop_instance_uid)
        time.sleep(PAUSE)
        return Status.SUCCESS


def flap(directory: Path, seconds: float, period: float) -> Flapped:
    """Cut the network for a period, have it for one, and so on; then leave it until all has arrived."""
    destination = Taking()
    with destination:
        proxy = Proxy(destination.address[1])
        count = int((seconds / 2 + period) / PAUSE)
        fill(directory, proxy.port, count)
        command = [sys.executable, "-m", "dicomnet", "router", "run", str(directory), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as router:
            try:
                assert router.stdout is not None
                router.stdout.readline()
                share, cpu = _flapping(proxy, destination, router.pid, seconds, period)
                connections = proxy.accepted
                missing = _drain(destination, count)
            finally:
                router.terminate()
        return Flapped(share, cpu, connections, count, len(destination.taken) - count + missing, missing)


def _flapping(proxy: Proxy, destination: Taking, pid: int, seconds: float, period: float) -> tuple[float, float]:
    threading.Event().wait(period)  # how fast it is where nothing is cut
    taken = destination.taken
    rate, begin = len(taken) / period, len(taken)
    cut_cpu = open_for = cut_for = 0.0
    while open_for + cut_for < seconds:
        proxy.set_open(False)
        before = cpu_of(pid)
        threading.Event().wait(period)
        cut_cpu, cut_for = cut_cpu + cpu_of(pid) - before, cut_for + period
        proxy.set_open(True)
        threading.Event().wait(period)
        open_for += period
    return (len(taken) - begin) / max(rate * open_for, 1), cut_cpu / cut_for


def _drain(destination: Taking, count: int) -> int:
    """Wait until all has arrived, or nothing more comes; how many did not."""
    known, quiet_since = 0, time.monotonic()
    while known < count and time.monotonic() - quiet_since < DRAINED:
        threading.Event().wait(0.2)
        found = len(set(destination.taken))
        if found > known:
            known, quiet_since = found, time.monotonic()
    return count - known


def main() -> int:
    """Run from the command line; 0 if the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--period", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dicomnet-flap-") as root:
        found = flap(Path(root), options.seconds, options.period)
    print(f"{found.share:.0%} of what could have gone, {found.cpu:.1%} of a processor while cut, {found.connections} "
          f"connections; of {found.sent} instances {found.missing} missing, {found.twice} came again; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
