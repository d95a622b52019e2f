"""Store a folder at several archives at a time, each at its own pace.

python fan_out.py studies ONE@one.local:11112 TWO@two.local:11112 THREE@three.local:11112
"""

import asyncio
import sys

import dicomnet as dn


async def send(peer: str, folder: str) -> str:
    async with dn.client.aio.StoreScu(peer, calling="SELF") as archive:
        results = [result.ok async for result in archive.send(folder)]
    return f"{peer}: {sum(results)} of {len(results)}"


async def main(folder: str, *peers: str) -> None:
    for line in await asyncio.gather(*(send(peer, folder) for peer in peers)):
        print(line)


if len(sys.argv) < 3:
    sys.exit(__doc__)
asyncio.run(main(*sys.argv[1:]))
