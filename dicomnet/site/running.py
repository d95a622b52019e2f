"""Starts and stops the servers of a site, all or none, and says how they are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..errors import DicomNetError
from ..server import manager
from ..server.admin import Client
from ..server.directory import ENVIRONMENT, ServerDirectory
from .plan import ROLES, Node, Site, SiteInvalid, check_ports

__all__ = ["State", "down", "state", "up"]


@dataclass(frozen=True, slots=True)
class State:
    """How a server is.

    Attributes:
        node: which one.
        process: that runs it; None where none does.
        problems: what its readiness lacks, or why it cannot be asked; empty where all is well.
    """

    node: Node
    process: int | None
    problems: tuple[str, ...] = ()


def up(site: Site) -> list[str]:
    """Start what does not run; the roles that were started.

    Raises:
        SiteInvalid: ports are taken; nothing was started.
        DicomNetError: a server does not start; those that were started are stopped again.
    """
    resting = tuple(role for role in site.nodes if ServerDirectory(site.server(role)).process() is None)
    taken = check_ports(site, resting)
    if taken:
        raise SiteInvalid(taken)
    ours = {ENVIRONMENT: str(site.directory / "servers")}  # by which the console finds them all
    with ThreadPoolExecutor(len(site.nodes)) as pool:
        found = {role: pool.submit(manager.start, ServerDirectory(site.server(role)), ours) for role in resting}
    errors = [error for one in found.values() if (error := one.exception()) is not None]
    if errors:
        down(site, [role for role, one in found.items() if one.exception() is None])
        raise errors[0]
    return list(resting)


def down(site: Site, roles: Sequence[str] = ROLES) -> list[str]:
    """Stop what runs of these, the router first, so that it sends nothing to who is going; the roles that were stopped.

    Raises:
        DicomNetError: a server does not stop.
    """
    stopped = []
    for role in reversed(roles):
        server = ServerDirectory(site.server(role))
        if server.process() is not None:
            manager.stop(server)
            stopped.append(role)
    return stopped


def state(site: Site) -> list[State]:
    """How each server is."""
    return [_state(site, node) for node in site.nodes.values()]


def _state(site: Site, node: Node) -> State:
    server = ServerDirectory(site.server(node.role))
    process = server.process()
    if process is None:
        return State(node, None)
    try:
        with Client(server.path) as client:
            found = client.health()
    except DicomNetError as error:
        return State(node, process, (str(error),))
    lacks = [f"{one['name']}: {one.get('detail') or 'not ready'}" for one in found.get("checks", ()) if not one["ok"]]
    return State(node, process, tuple(lacks))
