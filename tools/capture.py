"""Capture the PDUs that DCMTK's programs exchange, as golden vectors for the tests of the codec.

Usage: capture.py DIRECTORY. Needs DCMTK 3.6 on the path, pydicom's test files and pynetdicom. Each scene runs a DCMTK
client against a DCMTK provider on the loopback interface, through a proxy that records both directions; the streams
are split into PDUs, and every PDU that is new is written to DIRECTORY as a file, with a line in its README.md. The
sub-items that no program of DCMTK sends come from pynetdicom.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pydicom
import pynetdicom
from pynetdicom import build_context, pdu_primitives
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
CT = str(FILES / "CT_small.dcm")
HOST = "127.0.0.1"
LONGEST = 20_000  # longer PDUs say nothing more about the codec,
LONGEST_DATA = 4_096  # nor do larger fragments,
LARGE_FRAGMENTS = 4  # nor more of the large ones from one side
NAMES = {
    1: "associate-rq",
    2: "associate-ac",
    3: "associate-rj",
    4: "data",
    5: "release-rq",
    6: "release-rp",
    7: "abort",
}

# pynetdicom installs programs of the same names beside the interpreter: those must not be found.
PATH = [folder for folder in os.get_exec_path() if Path(folder) != Path(sys.executable).parent]
ENVIRONMENT = {**os.environ, "PATH": os.pathsep.join(PATH)}

STORE_PROFILES = r"""
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[Compressed]
TransferSyntax1 = JPEG2000LosslessOnly
[[PresentationContexts]]
[Images]
PresentationContext1 = CTImageStorage\Uncompressed
PresentationContext2 = MRImageStorage\Compressed
PresentationContext3 = 1.2.3.4.5\Uncompressed
[[SCPSCURoleSelection]]
[Roles]
Role1 = CTImageStorage\BOTH
Role2 = MRImageStorage\SCP
[[ExtendedNegotiation]]
[Options]
ExtendedNegotiation1 = CTImageStorage\020003000000
ExtendedNegotiation2 = MRImageStorage\0101
[[Profiles]]
[Default]
PresentationContexts = Images
SCPSCURoleSelection = Roles
ExtendedNegotiation = Options
"""

# An acceptor answers roles and options by a profile of its own.
ACCEPT_PROFILES = STORE_PROFILES.replace("PresentationContext2 = MRImageStorage\\Compressed\n", "").replace(
    "PresentationContext3 = 1.2.3.4.5\\Uncompressed", "PresentationContext2 = MRImageStorage\\Uncompressed"
)

ARCHIVE = """
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {directory} RW (200, 1024mb) ANY
AETable END
"""


class Scene(NamedTuple):
    name: str
    provider: list[str]
    client: list[str]


class Tap:
    """A proxy that passes bytes on, both ways, and keeps them."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.sent: list[tuple[str, bytearray]] = []  # per direction of each connection, in order
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.pumps: list[threading.Thread] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            provider = socket.create_connection((HOST, self.target))
            for who, source, sink in (("client", client, provider), ("provider", provider, client)):
                record = bytearray()
                self.sent.append((who, record))
                pump = threading.Thread(target=self.pump, args=(source, sink, record))
                pump.start()
                self.pumps.append(pump)

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        try:
            while data := source.recv(65536):
                record += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        for pump in self.pumps:
            pump.join(3)
        self.listener.close()


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """The provider, once it listens."""
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def split(stream: bytes) -> Iterator[bytes]:
    while stream:
        size = 6 + int.from_bytes(stream[2:6], "big")
        yield stream[:size]
        stream = stream[size:]


def scenes(work: Path) -> list[Scene]:
    """What is played. PORT in a command is replaced; clients get host and port of the proxy."""
    for name, text in (("store.cfg", STORE_PROFILES), ("accept.cfg", ACCEPT_PROFILES)):
        (work / name).write_text(text)
    (work / "archive").mkdir()
    (work / "archive.cfg").write_text(ARCHIVE.format(directory=work / "archive"))
    (work / "ticket").write_bytes(b"a ticket that no one issued")
    received = ["-od", str(work)]
    storescp = ["storescp", *received, "PORT"]
    archive = ["dcmqrscp", "-c", str(work / "archive.cfg"), "PORT"]
    to_archive = ["-aec", "ARCHIVE"]
    study = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"]
    return [
        Scene("echo", storescp, ["echoscu"]),
        Scene("echo-titles", storescp, ["echoscu", "-aet", "A", "-aec", "SIXTEEN LETTERS."]),
        Scene("echo-128-contexts", storescp, ["echoscu", "-ppc", "128", "-pts", "3"]),
        Scene("echo-abort", storescp, ["echoscu", "--abort"]),
        Scene("echo-refused", ["storescp", "--refuse", "PORT"], ["echoscu"]),
        Scene("archive-unknown-title", archive, ["echoscu", "-aec", "NOBODY"]),
        Scene("store", storescp, ["storescu", CT]),
        Scene("store-required", storescp, ["storescu", "-R", "+C", CT]),
        Scene("store-compressed", ["storescp", "+xv", *received, "PORT"], ["storescu", "-xv", "-R", CT]),
        Scene(
            "store-small-pdus", ["storescp", "-pdu", "4096", *received, "PORT"], ["storescu", "-R", "-pdu", "4096", CT]
        ),
        Scene("store-no-context", ["storescp", "+xi", *received, "PORT"], ["storescu", "-xb", "-R", CT]),
        Scene("store-aborted-after", ["storescp", "--abort-after", *received, "PORT"], ["storescu", "-R", CT]),
        Scene("store-aborted-during", ["storescp", "--abort-during", *received, "PORT"], ["storescu", "-R", CT]),
        Scene("store-user", storescp, ["storescu", "-R", "-usr", "joe", CT]),
        Scene("store-password", storescp, ["storescu", "-R", "-usr", "joe", "-pwd", "secret", "-rsp", CT]),
        Scene("store-empty-password", storescp, ["storescu", "-R", "-usr", "joe", "-epw", CT]),
        Scene("store-kerberos", storescp, ["storescu", "-R", "-kt", str(work / "ticket"), CT]),
        Scene("store-saml", storescp, ["storescu", "-R", "--saml", str(work / "ticket"), "-rsp", CT]),
        Scene("store-jwt", storescp, ["storescu", "-R", "--jwt", str(work / "ticket"), CT]),
        Scene(
            "store-options",
            ["storescp", "-xf", str(work / "accept.cfg"), "Default", *received, "PORT"],
            ["storescu", "-xf", str(work / "store.cfg"), "Default", CT],
        ),
        Scene("dcmsend", storescp, ["dcmsend", CT]),
        Scene("find-refused", storescp, ["findscu", "-W", "-k", "PatientName=*"]),
        Scene("terminate", storescp, ["termscu"]),
        Scene("archive-store", archive, ["storescu", "-R", *to_archive, CT]),
        Scene("archive-find", archive, ["findscu", "-S", *to_archive, *study, "-k", "PatientName"]),
        Scene("archive-get", archive, ["getscu", "-S", "-od", str(work), *to_archive, *study]),
        Scene("archive-move-unknown", archive, ["movescu", "-S", "-aem", "NOWHERE", *to_archive, *study]),
    ]


def play(scene: Scene) -> list[tuple[str, bytearray]]:
    port = free_port()
    with running([str(port) if word == "PORT" else word for word in scene.provider], port):
        tap = Tap(port)
        run_client(scene.client, tap.port)
        tap.close()
    return tap.sent


def run_client(command: list[str], port: int) -> None:
    program, *arguments = command
    files = [word for word in arguments if word == CT]
    options = [word for word in arguments if word != CT]
    subprocess.run(
        [program, *options, HOST, str(port), *files], env=ENVIRONMENT, capture_output=True, timeout=60, check=False
    )


def pynetdicom_associates() -> Iterator[tuple[str, bytes]]:
    """A request and an answer with the sub-items that DCMTK's programs do not send: 53H, 57H and 59H."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "PYNETDICOM", "ANY-SCP"
    primitive.presentation_context_definition_list = [build_context("1.2.840.10008.5.1.4.1.1.88.22")]
    primitive.presentation_context_definition_list[0].context_id = 1
    length = pdu_primitives.MaximumLengthNotification()
    length.maximum_length_received = 16382
    implementation = pdu_primitives.ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "1.2.826.0.1.3680043.9.3811.3.0.4"
    window = pdu_primitives.AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 3, 2
    common = pdu_primitives.SOPClassCommonExtendedNegotiation()
    common.sop_class_uid = "1.2.840.10008.5.1.4.1.1.88.22"
    common.service_class_uid = "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = ["1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.11"]
    options = pdu_primitives.SOPClassExtendedNegotiation()
    options.sop_class_uid, options.service_class_application_information = "1.2.840.10008.5.1.4.1.2.2.1", b"\1\1\0"
    primitive.user_information = [length, implementation, window, options, common]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(primitive)
    yield "pynetdicom-associate-rq.bin", request.encode()

    answer = pdu_primitives.UserIdentityNegotiation()
    answer.server_response = b"a response"
    primitive.presentation_context_definition_results_list = primitive.presentation_context_definition_list
    primitive.presentation_context_definition_list[0].result = 0
    primitive.user_information = [length, implementation, window, options, answer]
    primitive.result, primitive.result_source = 0, 1
    acceptance = A_ASSOCIATE_AC()
    acceptance.from_primitive(primitive)
    yield "pynetdicom-associate-ac.bin", acceptance.encode()


def worth_keeping(pdu: bytes, number: int) -> bool:
    if NAMES[pdu[0]] != "data":
        return len(pdu) <= LONGEST
    return len(pdu) <= LONGEST_DATA and (number <= LARGE_FRAGMENTS or len(pdu) < LONGEST_DATA // 2)


def shown(command: list[str], work: Path) -> str:
    words = (word.replace(f"{work}/", "").replace(str(work), ".").replace(f"{FILES}/", "") for word in command)
    return " ".join(word for word in words if word != "PORT")


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    seen: set[bytes] = set()
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for scene in scenes(work):
            for who, stream in play(scene):
                for number, pdu in enumerate(split(bytes(stream)), 1):
                    if pdu in seen or not worth_keeping(pdu, number):
                        continue
                    seen.add(pdu)
                    name = f"{scene.name}-{who}-{number}-{NAMES[pdu[0]]}.bin"
                    (directory / name).write_bytes(pdu)
                    command = shown(scene.client if who == "client" else scene.provider, work)
                    lines.append(f"| `{name}` | {len(pdu)} | `{command}` |\n")
    for name, pdu in pynetdicom_associates():
        (directory / name).write_bytes(pdu)
        lines.append(f"| `{name}` | {len(pdu)} | pynetdicom {pynetdicom.__version__} |\n")
    version = subprocess.run(
        ["storescp", "--version"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout.split("\n")[0]
    (directory / "README.md").write_text(
        "# Golden vectors\n\n"
        f"One PDU each, as sent by the programs of DCMTK ({version.strip('$ ')}) or encoded by pynetdicom where\n"
        "those have nothing to show; recorded by `tools/capture.py`.\n"
        "The name says: the scene, who sent it, its place among what that side sent, the PDU.\n\n"
        "| file | bytes | sent by |\n| --- | --- | --- |\n" + "".join(lines)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
