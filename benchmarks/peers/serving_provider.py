"""The same handler on a bare listener, in a server, and in one with a spy: ``serving_provider.py KIND DIRECTORY``.

Prints the port, and ends when standard input does.
"""

import gc
import logging
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any

import dicomnet as dn
from dicomnet.server import Server, Settings, hookimpl

#: The information model whose queries are not answered.
STUCK = "WORKLIST"


def keep_in(directory: str, registry: Any) -> None:
    """Have each instance kept as a file."""

    @registry.on_store(spool=directory)
    def keep(request: dn.StoreRequest) -> None:
        request.file.commit(f"{directory}/{request.sop_instance_uid}", replace=True)


class Keeping:
    """Keeps what is stored."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @hookimpl
    def services(self, registry: Any) -> None:
        """Take C-STORE."""
        keep_in(self._directory, registry)


class Watching(Keeping):
    """Sees every PDU and message, too."""

    seen = 0

    @hookimpl
    def spy(self, seen: Any) -> None:
        """Count."""
        self.seen += 1


class Stuck(Keeping):
    """Has handlers of queries that do not return before their deadline."""

    @hookimpl
    def services(self, registry: Any) -> None:
        """Take C-STORE, and C-FIND."""
        super().services(registry)
        registry.on_find(STUCK, deadline=30)(lambda request: threading.Event().wait(60))


class Full(Keeping):
    """Has a spy that takes nothing."""

    @hookimpl
    def spy(self) -> None:
        """Wait for ever."""
        threading.Event().wait()


def provider(kind: str, directory: str) -> AbstractContextManager[Any]:
    """What serves."""
    if kind in ("listener", "control"):
        listener = dn.Listener("SERVER", port=0)
        keep_in(directory, listener)
        return listener
    addin = {"server": Keeping, "spied": Watching, "stuck": Stuck, "full": Full}[kind](directory)
    tables = {"server": {"ae_title": "SERVER"}, "listen": {"port": 0}, "addins": {"enable": ["verification"]},
              "timeouts": {"drain": 0.1}}  # fmt: skip
    return Server(Settings.parse(tables), addins={"keeping": addin})


if __name__ == "__main__":
    logging.disable(logging.INFO)
    with provider(*sys.argv[1:]) as serving:
        gc.freeze()  # as `dicomnet recv` and `dicomnet server run` do
        print(serving.address[1], flush=True)
        sys.stdin.read()
