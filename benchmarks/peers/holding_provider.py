"""A provider that may hold many associations, for ever: holding_provider.py sync|aio DIRECTORY keeps what it is sent.

Prints "listening on HOST:PORT".
"""

import asyncio
import sys

import dicomnet as dn

MANY = 20_000


def options() -> dict[str, object]:
    limits = dn.Limits(associations=MANY, pending=MANY)
    # The timer of a beginning, ARTIM, is looked at once more when it would have run out: soon, and not while idle.
    return {"port": 0, "limits": limits, "timeouts": dn.Timeouts(idle=None, artim=5), "drain": 0.1}


def keep(listener: dn.Provider, directory: str) -> None:
    @listener.on_store(spool=directory)
    def store(request: dn.StoreRequest) -> None:
        request.file.commit(f"{request.sop_instance_uid}.dcm", root=directory)


def blocking(directory: str) -> None:
    listener = dn.Listener(**options())  # type: ignore[arg-type]
    keep(listener, directory)
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
    if sys.argv[1] == "sync":
        blocking(sys.argv[2])
    else:
        asyncio.run(asynchronous(sys.argv[2]))
