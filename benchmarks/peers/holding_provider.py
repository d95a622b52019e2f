"""A provider that may hold many associations, for ever: holding_provider.py sync|aio|slow DIRECTORY.

Keeps what it is sent, and prints "listening on HOST:PORT". With "slow" it is a blocking one whose C-ECHO has a handler.
The generator of its C-FIND takes 100 ms for each match, and has no end; for the patient root the handler never returns,
and gets a second.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator

import dicomnet as dn

MANY = 20_000
PAUSE = 0.1  # seconds for each match
DEADLINE = 1.0  # seconds for a handler that blocks


def options() -> dict[str, object]:
    limits = dn.Limits(associations=MANY, pending=MANY, responses=1_000_000)
    # The timer of a beginning, ARTIM, is looked at once more when it would have run out: soon, and not while idle.
    return {"port": 0, "limits": limits, "timeouts": dn.Timeouts(idle=None, artim=5), "drain": 0.1}


def keep(listener: dn.Provider, directory: str) -> None:
    @listener.on_store(spool=directory)
    def store(request: dn.StoreRequest) -> None:
        request.file.commit(f"{request.sop_instance_uid}.dcm", root=directory)


def find_slowly(listener: dn.Listener) -> None:
    never = threading.Event()

    @listener.on_echo
    def echo(request: dn.EchoRequest) -> None:
        pass

    @listener.on_find(dn.uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
    def find(request: dn.FindRequest) -> Iterator[bytes]:
        match = request.data
        while not never.wait(PAUSE):
            yield match

    @listener.on_find(dn.uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, deadline=DEADLINE)
    def hang(request: dn.FindRequest) -> None:
        never.wait()


def blocking(directory: str, *, slow: bool) -> None:
    listener = dn.Listener(**options())  # type: ignore[arg-type]
    keep(listener, directory)
    if slow:
        find_slowly(listener)
    listener.open()
    print(f"listening on 127.0.0.1:{listener.address[1]}", flush=True)
    listener.serve_forever()


async def asynchronous(directory: str) -> None:
    listener = dn.aio.Listener(**options())  # type: ignore[arg-type]
    keep(listener, directory)
    await listener.open()
    print(f"listening on 127.0.0.1:{listener.address[1]}", flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] != "aio":
        blocking(sys.argv[2], slow=sys.argv[1] == "slow")
    else:
        asyncio.run(asynchronous(sys.argv[2]))
