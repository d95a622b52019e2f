"""The same handler on a bare listener, in a server, and in one with a spy: ``serving_provider.py KIND DIRECTORY``.

Prints the port, and ends when standard input does.
"""

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any

import dicomnet as dn
from dicomnet.server import Server, Settings, hookimpl


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
    def spy(self) -> None:
        """Count."""
        self.seen += 1


def provider(kind: str, directory: str) -> AbstractContextManager[Any]:
    """What serves."""
    if kind == "listener":
        listener = dn.Listener("SERVER", port=0)
        keep_in(directory, listener)
        return listener
    addin = {"server": Keeping, "spied": Watching}[kind](directory)
    tables = {"server": {"ae_title": "SERVER"}, "listen": {"port": 0}, "addins": {"enable": []}}
    return Server(Settings.parse(tables), addins={"keeping": addin})


if __name__ == "__main__":
    logging.disable(logging.INFO)
    with provider(*sys.argv[1:]) as serving:
        print(serving.address[1], flush=True)
        sys.stdin.read()
