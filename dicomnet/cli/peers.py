"""``dicomnet peers``: whom we know by name."""

from __future__ import annotations

import click

from ..client import peer_directory
from .exits import Exit
from .options import output_options
from .output import Output, counted
from .tables import Table

__all__ = ["command"]


@click.command("peers")
@output_options
def command(output: Output) -> int:
    """List the peers of /etc/dicomnet/peers.toml and ~/.config/dicomnet/peers.toml, or of the file in DICOMNET_PEERS.

    Their names may stand wherever a command takes a PEER. A peer is a table of such a file:

    \b
        [archive]
        address = "ARCHIVE@pacs.local:11112"
        calling = "WS1"
    """  # noqa: D301  click's mark of what is not to be wrapped
    known = peer_directory.load()
    table = Table(output, ("name", "address", "calling", "security", "where"))
    for one in known.values():
        entity = one.peer.address()
        calling = one.options.get("calling")
        secured = entity.tls or one.peer.tls is not None
        table.add((one.name, entity, calling, "TLS" if secured else "", one.place))
        output.record(name=one.name, address=str(entity), calling=calling, tls=secured, place=one.place)
    for web in peer_directory.load_web().values():
        table.add((web.name, web.url, "", "TLS" if web.url.startswith("https:") else "", web.place))
        output.record(name=web.name, web=web.url, place=web.place)
    table.close()
    looked = " and ".join(peer_directory.places())
    output.summary(counted(len(known), "peer") if known else f"no peers in {looked}", peers=len(known))
    return Exit.DONE
