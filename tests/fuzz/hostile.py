"""Commands against what is hostile: ``python -m tests.fuzz.hostile archives --count 13000``, or ``providers``.

Crafted zip archives are given to `dicomnet store`; `get`, `retrieve`, `commit` and `find` talk to a provider whose
answers are mutated on the way, cut, doubled, dropped or withheld. No traceback, no other exit code than the documented
ones, and none that says more than happened. Everything follows from a seed, which is named where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import socket
import sys
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from pydicom import examples

import dicomnet as dn
from dicomnet import uids
from dicomnet.cli.app import run
from dicomnet.cli.exits import Exit
from dicomnet.dataset import codec
from dicomnet.errors import InputProblem
from dicomnet.files.part10 import meta_header

from .mutate import mutate

CODES = {int(one) for one in (*Exit, *InputProblem)} - {Exit.INTERNAL, Exit.USAGE}
SYNTAX = uids.EXPLICIT_VR_LITTLE_ENDIAN
INSTANCES = 3


def _of_the_command(record: logging.LogRecord) -> bool:
    """The provider behind the door logs to the same place, from other threads; what it logs is not the command's."""
    if threading.current_thread() is threading.main_thread():
        return True
    if record.exc_info:
        provider_failures.append(logging.Formatter().format(record))
    return False


#: Tracebacks that the provider logged; `main` prints them, and fails.
provider_failures: list[str] = []


class Wrong(Exception):
    """A command did what it must not."""


def instance(number: int) -> bytes:
    """A small Part 10 file."""
    values = {"SOPClassUID": uids.CT_IMAGE_STORAGE, "SOPInstanceUID": f"2.25.{number}", "StudyInstanceUID": "1.2"}
    header = meta_header(values["SOPClassUID"], values["SOPInstanceUID"], SYNTAX, "HOSTILE")
    return bytes(header) + codec.encode(values, SYNTAX)


def command(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    out, err = StringIO(), StringIO()
    log = logging.getLogger("dicomnet")
    before, level, propagate = list(log.handlers), log.level, log.propagate
    log.addFilter(_of_the_command)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(words)
    finally:
        log.removeFilter(_of_the_command)
        log.handlers, log.propagate = before, propagate
        log.setLevel(level)
    said = err.getvalue()
    if code not in CODES or "Traceback" in said or "internal error" in said:
        raise Wrong(f"exit code {code}: {said[-2000:]}")
    return code, out.getvalue(), said


# ---- archives --------------------------------------------------------------------------------------------------------


def zip_archives() -> list[bytes]:
    """Good ones, of every compression that Python knows."""
    made = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = BytesIO()
        with zipfile.ZipFile(file, "w", compression) as archive:
            for number in range(1, 3):
                archive.writestr(f"folder/{number}.dcm", instance(number))
            archive.comment = b"a comment"
        made.append(file.getvalue())
    return made


def archives(count: int, seed: int) -> Counter[int]:
    """Store so many crafted archives; how many ended in which exit code."""
    good, codes = zip_archives(), Counter[int]()
    listener = dn.Listener("A", port=0, limits=dn.Limits(associations=1000))
    listener.on_store(unknown_classes=True)(lambda _: None)
    with listener, tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "crafted.zip")
        for number in range(count):
            rng = random.Random(seed + number)
            data = bytearray(mutate(rng, rng.choice(good)))
            data[:4] = b"PK\3\4"  # or else it would be no archive at all
            path.write_bytes(data)
            with said_which(seed + number):
                codes[command("store", f"A@127.0.0.1:{listener.address[1]}", str(path), "--timeout", "5")[0]] += 1
    return codes


# ---- providers -------------------------------------------------------------------------------------------------------


def archive() -> dn.Listener:
    """A provider that does everything right."""
    listener = dn.Listener("A", port=0, timeouts=dn.Timeouts(artim=1, response=1, progress=1, idle=1))
    instances = [instance(number) for number in range(1, INSTANCES + 1)]
    listener.on_find("STUDY_ROOT")(lambda _: [{"StudyInstanceUID": "1.2", "PatientID": str(one)} for one in range(5)])
    listener.on_get("STUDY_ROOT")(lambda _: instances)

    @listener.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)
    def report(request: dn.NormalizedRequest) -> None:
        request.report(1, request.data)

    return listener


def pdus(sock: socket.socket) -> Iterator[bytes]:
    """What comes, cut into PDUs."""
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
        while len(data) >= 6 and len(data) >= 6 + int.from_bytes(data[2:6], "big"):
            size = 6 + int.from_bytes(data[2:6], "big")
            yield bytes(data[:size])
            del data[:size]


class HostileDoor:
    """Passes connections on to a provider, and does something to one PDU of its answers."""

    def __init__(self, there: tuple[str, int]) -> None:
        self.rng = random.Random(0)
        self._there = there
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                user = self._door.accept()[0]
                provider = socket.create_connection(self._there)
                for work in (self._to_provider, self._to_user):
                    threading.Thread(target=work, args=(user, provider), daemon=True).start()

    def _to_provider(self, user: socket.socket, provider: socket.socket) -> None:
        with suppress(OSError):
            while data := user.recv(65536):
                provider.sendall(data)
        with suppress(OSError):
            provider.shutdown(socket.SHUT_WR)

    def _to_user(self, user: socket.socket, provider: socket.socket) -> None:
        rng = self.rng
        which, what = rng.randrange(8), rng.choices(list(FAULTS), (8, 1, 2, 1, 2, 2))[0]
        with suppress(OSError):
            for number, pdu in enumerate(pdus(provider)):
                sent = FAULTS[what](rng, pdu) if number == which else pdu
                if sent is None:  # silence
                    return
                user.sendall(sent)
                if number == which and what == "cut":
                    break
            user.shutdown(socket.SHUT_RDWR)


FAULTS: dict[str, Callable[[random.Random, bytes], bytes | None]] = {
    "mutated": mutate,
    "silence": lambda _, __: None,
    "cut": lambda rng, pdu: pdu[: rng.randrange(len(pdu))],
    "dropped": lambda _, __: b"",
    "doubled": lambda rng, pdu: pdu * rng.choice((2, 50)),
    "foreign": lambda rng, pdu: rng.randbytes(rng.randrange(1, 200)) + pdu,
}


def providers(count: int, seed: int) -> Counter[int]:
    """Talk to so many hostile providers; how many ended in which exit code."""
    codes = Counter[int]()
    with archive() as listener, tempfile.TemporaryDirectory() as directory:
        door = HostileDoor(listener.address)
        peer = f"A@127.0.0.1:{door.port}"
        for number in range(count):
            door.rng = random.Random(seed + number)
            with said_which(seed + number):
                codes[_talk(number % 4, peer, Path(directory, str(number)))] += 1
        door.close()
    return codes


def _talk(kind: int, peer: str, out: Path) -> int:
    options = ("--timeout", "300ms", "--json")
    key = ("STUDY", "-k", "StudyInstanceUID=1.2")
    if kind == 0:
        return command("find", peer, *key, *options)[0]
    if kind == 1:
        code, told, _ = command("commit", peer, str(examples.get_path("ct")), *options)
        if code == 0 and json.loads(told.splitlines()[-1])["summary"]["committed"] != 1:
            raise Wrong(f"exit code 0: {told}")
        return code
    code, told, _ = command("get" if kind == 2 else "retrieve", peer, *key, "--out", str(out), *options)
    kept = len(os.listdir(out)) if out.exists() else 0
    if code == 0 and json.loads(told.splitlines()[-1])["summary"]["instances"] > kept:
        raise Wrong(f"exit code 0 and {kept} files: {told}")
    return code


@contextmanager
def said_which(seed: int) -> Iterator[None]:
    """Name the seed of what goes wrong."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


def main() -> int:
    """Do it; the exit codes are printed with how often each was."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("archives", "providers"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    work: dict[str, Any] = {"archives": archives, "providers": providers}
    codes = work[chosen.what](chosen.count, chosen.seed)
    ends = ", ".join(f"{number} with {code}" for code, number in sorted(codes.items()))
    for failure in provider_failures:
        print(f"the provider logged: {failure}", file=sys.stderr)
    failed = len(provider_failures)
    print(f"{codes.total()} {chosen.what}: {failed or 'no'} tracebacks; exit codes: {ends}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
