"""A real object store for the tests: OpenStack Swift with its S3 interface, in four processes on loopback.

Swift wants packages that nothing else here does, hence an environment of its own: ``$DICOMNET_SWIFT``, or
``build/swift`` of the checkout, which `make swift` makes. One account, one replica, rings by Swift's own builder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import peers

ROOT = Path(__file__).parent.parent
USER, KEY = "test:tester", "testing"
PATIENCE = 60.0 * float(os.environ.get("DICOMNET_PATIENCE", "1"))  # seconds

_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {root}
log_address = /dev/null
eventlet_debug = false
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
check_bucket_owner = false
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
"""

_CLUSTER = """\
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = p0
default = true
"""

_BACKEND = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {root}
devices = {root}/devices
mount_check = false
log_address = /dev/null
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""


@dataclass
class Swift:
    """A store that runs.

    Attributes:
        endpoint: of its S3 interface.
    """

    endpoint: str
    root: Path

    def url(self, bucket: str, endpoint: str = "") -> str:
        """For ``--storage``; by another endpoint, such as a proxy's, where one is given."""
        return f"s3://{bucket}?endpoint={quote(endpoint or self.endpoint, safe='')}"

    @property
    def environment(self) -> dict[str, str]:
        """The keys, as the environment has them."""
        return {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": KEY}

    def make_bucket(self, name: str) -> str:
        """A bucket; its URL. (obstore makes objects only: the bucket is the object without a name.)"""
        import obstore
        from obstore.store import S3Store

        options = {"access_key_id": USER, "secret_access_key": KEY, "region": "us-east-1"}
        store = S3Store(name, endpoint=self.endpoint, client_options={"allow_http": True}, **options)
        address = obstore.sign(store, "PUT", "", timedelta(minutes=5))
        urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=PATIENCE).close()
        return self.url(name)


def python() -> Path | None:
    """The interpreter of Swift's environment."""
    base = Path(os.environ.get("DICOMNET_SWIFT") or ROOT / "build" / "swift")
    found = base / "bin" / "python"
    return found if found.exists() else None


_RINGS = """
import sys
from swift.common.ring import RingBuilder
root = sys.argv[1]
for name, port in zip(("account", "container", "object"), map(int, sys.argv[2:])):
    builder = RingBuilder(8, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(f"{root}/{name}.ring.gz")
"""


@contextmanager
def swift() -> Iterator[Swift]:
    """Start Swift; its directory is on a file system that keeps extended attributes."""
    interpreter = python()
    if interpreter is None:
        peers.absent("Swift (make swift)")
        return
    with tempfile.TemporaryDirectory(prefix="dicomnet-swift-", dir="/var/tmp") as place:
        root = Path(place)
        (root / "devices" / "d1").mkdir(parents=True)
        (root / "swift.conf").write_text(_CLUSTER)
        found = set[int]()  # Swift's rings name ports before anything listens
        while len(found) < 4:
            found.add(peers.free_port())
        ports = list(found)
        subprocess.run([interpreter, "-c", _RINGS, place, *map(str, ports[1:])], check=True, timeout=PATIENCE)
        processes = []
        try:
            for name, port in zip(("proxy", "account", "container", "object"), ports, strict=True):
                text = (_PROXY if name == "proxy" else _BACKEND).format(root=root, port=port, name=name)
                (root / f"{name}.conf").write_text(text)
                command = [interpreter.parent / f"swift-{name}-server"]
                processes.append(subprocess.Popen([*command, str(root / f"{name}.conf")], cwd=root))
            for port in ports:
                _wait(port)
            yield Swift(f"http://127.0.0.1:{ports[0]}", root)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(PATIENCE)


def _wait(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            threading.Event().wait(0.05)


if __name__ == "__main__":
    with swift() as one:
        print(one.make_bucket("archive"), flush=True)
        sys.stdin.read()
