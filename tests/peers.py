"""What tests need from outside: programs to talk to, free ports, real files."""

from __future__ import annotations

import functools
import importlib
import os
import random
import shutil
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pydicom
import pytest
from pydicom.errors import InvalidDicomError


def absent(what: str) -> None:
    """Skip the test, or fail it where peers are required."""
    if os.environ.get("DICOMNET_REQUIRE_PEERS") == "1":
        pytest.fail(f"{what} is not installed, and DICOMNET_REQUIRE_PEERS=1")
    pytest.skip(f"{what} is not installed")


def peer_program(name: str) -> str:
    """Return the path of a program such as DCMTK's "storescp".

    Never one beside this Python: pynetdicom installs programs of the same names there.
    """
    own = Path(sys.executable).parent
    folders = [folder for folder in os.get_exec_path() if Path(folder) != own]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        absent(name)
    return str(path)


def peer_module(name: str) -> ModuleType:
    """Return an importable peer such as "pynetdicom"."""
    try:
        return importlib.import_module(name)
    except ImportError:
        absent(name)
        raise


class Checkpoint:
    """The gate between the threads of one of pynetdicom's associations, without its race.

    Its reactor says that it is paused, then waits; a user who looks in between, with the gate still open, takes it for
    paused, and the reactor eats the response that the user then waits 30 s for. Here whoever closes the gate waits
    until the reactor stands before it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open, self._is_reached = True, False

    def set(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.wait_for(lambda: self._is_reached, timeout=10)

    def wait(self) -> None:
        with self._changed:
            self._is_reached = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open)
            self._is_reached = False


def steadied(association: Any) -> Any:
    """An association that pynetdicom's user has just got, with its race mended."""
    association._reactor_checkpoint = Checkpoint()
    return association


def free_port() -> int:
    """Return a loopback port for a peer that cannot pick its own.

    It lies below 32768, where Linux begins to hand out ports to outgoing connections: none of those can take it
    between this call and the peer's bind.
    """
    for port in random.sample(range(20000, 32768), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 20000 and 32767")


@functools.cache
def sample_files() -> tuple[Path, ...]:
    """The files of pydicom's wheel that are Part 10 and have a SOP Instance UID in their data set; some are truncated.

    They are found by reading, not by `get_testdata_files`, which goes to the network.
    """
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    return tuple(path for path in sorted(root.rglob("*")) if path.is_file() and _has_an_instance(path))


def _has_an_instance(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some files are there because they are odd
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        except InvalidDicomError:
            return False
    return bool(dataset.get("SOPInstanceUID")) and "TransferSyntaxUID" in dataset.file_meta


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port on which connecting takes for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for filler in fillers:
            filler.close()
