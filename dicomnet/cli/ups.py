"""``dicomnet ups``: work items of a peer, made, found, performed and watched (unified procedure steps)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from ..client import UpsScu, Workitem, WorkitemState
from ..client.workitem import ALL, KNOWN_BY, Code, WorkitemEvent
from ..config import Entity
from ..errors import DeadlineExceeded, InvalidArgument, ServiceFailure
from ..protocol.peer_profile import Peer
from ..services import query_models
from .connect import client_options, from_option, listen_option, peer_options
from .exits import Exit
from .keys import key_option, parse_keys
from .options import AE_TITLE, SECONDS, Parsed, Settings, common
from .output import counted
from .tables import Table

__all__ = ["command"]

_EVENTS = {1: "state", 2: "cancel requested", 3: "progress", 4: "peer", 5: "assigned"}


def _code(text: str) -> Code:
    parts = tuple(text.split(":", 2))
    if len(parts) != 3 or not all(parts):
        raise InvalidArgument(f'"{text}" is no code', hint='Write it as VALUE:SCHEME:MEANING, "110513:DCM:Stopped".')
    return parts


_CODE = Parsed("code", _code)
_uid = click.argument("uid")
_transaction = click.option("--txn", required=True, metavar="UID", help="The Transaction UID that `claim` printed.")
_receiver = click.option("--receiver", type=AE_TITLE, default="", metavar="AET",
                         help="Who is told; without it, we.")  # fmt: skip
_reason = click.option("--reason", default="", metavar="TEXT", help="Why, in words.")
_code_option = click.option("--code", type=_CODE, metavar="VALUE:SCHEME:MEANING", help="Why, as a code of CID 9300.")


@click.group("ups")
def command() -> None:
    """Work items of a peer: unified procedure steps, made, found, performed and watched."""


def _scu(peer: Peer, settings: Settings) -> UpsScu:
    return UpsScu(peer, **client_options(settings, peer))


def _told(settings: Settings, item: Workitem) -> int:
    """Say what became of an item."""
    status = item.status
    warned = "" if status.is_success else f", {status}"
    settings.output.summary(
        f"{item.uid}: {item.state.value}{warned}", uid=item.uid, state=item.state.value, status=int(status),
        transaction_uid=item.transaction_uid,
    )  # fmt: skip
    return Exit.WARNINGS if status.is_warning else Exit.DONE


@command.command("create")
@peer_options
@click.argument("label")
@click.option("--uid", default="", metavar="UID", help="Of the item; without it, a new one.")
@key_option
@common
def create(peer: Peer, label: str, uid: str, keys: tuple[str, ...], settings: Settings) -> int:
    """Make a work item at PEER, which people know by LABEL; the keys are its attributes."""
    with _scu(peer, settings) as scu:
        return _told(settings, scu.create(label, uid=uid, **parse_keys(keys)))


@command.command("find")
@peer_options
@key_option
@click.option("--by", type=click.Choice(("pull", "watch", "query")), default="pull", show_default=True,
              help="The SOP class that is asked.")  # fmt: skip
@common
def find(peer: Peer, keys: tuple[str, ...], by: str, settings: Settings) -> int:
    """List the work items of PEER that match the keys: -k ProcedureStepState=SCHEDULED."""
    asked, model = parse_keys(keys), "UPS" if by == "pull" else f"UPS_{by.upper()}"
    query_models.identifier(query_models.model_of(model), "", asked)
    columns = list(dict.fromkeys([*KNOWN_BY, *asked]))
    table, count = Table(settings.output, columns), 0
    with _scu(peer, settings) as scu:
        for match in scu.items(model=model, **asked):
            count += 1
            if settings.output.json:
                settings.output.record(**match.dataset.to_json_dict())
            else:
                table.add(match.text(column) for column in columns)
    table.close()
    settings.output.summary(counted(count, "work item"), matches=count)
    return Exit.DONE


@command.command("get")
@peer_options
@_uid
@common
def get(peer: Peer, uid: str, settings: Settings) -> int:
    """Show the work item UID of PEER."""
    with _scu(peer, settings) as scu:
        item = scu.get(uid)
    settings.output.say(str(item))
    settings.output.record(**item.to_json_dict())
    return Exit.DONE


@command.command("claim")
@peer_options
@_uid
@click.option("--txn", default="", metavar="UID", help="The Transaction UID; without it, a new one.")
@common
def claim(peer: Peer, uid: str, txn: str, settings: Settings) -> int:
    """Take the work item UID of PEER; prints the Transaction UID, which all that follows needs."""
    with _scu(peer, settings) as scu:
        item = scu.claim(uid, transaction_uid=txn)
    settings.output.say(item.transaction_uid)
    return _told(settings, item)


@command.command("set")
@peer_options
@_uid
@click.option("--txn", default="", metavar="UID", help="The Transaction UID, of an item in progress.")
@click.option("--percent", type=click.FloatRange(0, 100), help="How far it is.")
@click.option("--description", default="", metavar="TEXT", help="How far it is, in words.")
@key_option
@common
def change(
    peer: Peer, uid: str, txn: str, percent: float | None, description: str, keys: tuple[str, ...], settings: Settings
) -> int:
    """Change attributes of the work item UID of PEER, or say how far it is."""
    item = Workitem(uid, txn, WorkitemState.IN_PROGRESS if txn else WorkitemState.SCHEDULED)
    attributes = parse_keys(keys)
    with _scu(peer, settings) as scu:
        if attributes:
            scu.update(item, **attributes)
        if percent is not None:
            scu.progress(item, percent, description)
    return _told(settings, item)


@command.command("complete")
@peer_options
@_uid
@_transaction
@click.option("--station", type=_CODE, required=True, metavar="VALUE:SCHEME:MEANING", help="Where it was performed.")
@click.option("--work", type=_CODE, required=True, metavar="VALUE:SCHEME:MEANING", help="What was performed.")
@click.option("--start", required=True, metavar="TIME", help="When that began: 202601311430.")
@common
def complete(peer: Peer, uid: str, txn: str, station: Code, work: Code, start: str, settings: Settings) -> int:
    """End the work item UID of PEER: it is COMPLETED."""
    item = Workitem(uid, txn, WorkitemState.IN_PROGRESS)
    with _scu(peer, settings) as scu:
        scu.complete(item, station=station, work=work, start=start)
    return _told(settings, item)


@command.command("cancel")
@peer_options
@_uid
@click.option("--txn", default="", metavar="UID", help="The Transaction UID, where we perform it.")
@_reason
@_code_option
@common
def cancel(peer: Peer, uid: str, txn: str, reason: str, code: Code | None, settings: Settings) -> int:
    """Cancel the work item UID of PEER; without --txn, ask that it be cancelled."""
    with _scu(peer, settings) as scu:
        if txn:
            item = Workitem(uid, txn, WorkitemState.IN_PROGRESS)
            scu.discontinue(item, reason=reason, code=code)
            return _told(settings, item)
        status = scu.request_cancel(uid, reason=reason, code=code)
    settings.output.summary(f"{uid}: {'asked' if status.is_success else status}", uid=uid, status=int(status))
    return Exit.WARNINGS if status.is_warning else Exit.DONE


@command.command("subscribe")
@peer_options
@click.argument("uid", required=False, default=ALL)
@_receiver
@click.option("--lock", is_flag=True, help="Keep what has ended until it is unsubscribed from.")
@key_option
@common
def subscribe(peer: Peer, uid: str, receiver: str, lock: bool, keys: tuple[str, ...], settings: Settings) -> int:
    """Have PEER tell of the work item UID, or of all; with keys, of all that match."""
    return _subscribed(peer, settings, lambda scu: scu.subscribe(uid, receiver=receiver, lock=lock, **parse_keys(keys)))


@command.command("unsubscribe")
@peer_options
@click.argument("uid", required=False, default=ALL)
@_receiver
@click.option("--suspend", is_flag=True, help="Be told of no new ones, and go on with those there are.")
@common
def unsubscribe(peer: Peer, uid: str, receiver: str, suspend: bool, settings: Settings) -> int:
    """Have PEER tell no more of the work item UID, or of any; deletion locks go."""
    if suspend:
        return _subscribed(peer, settings, lambda scu: scu.suspend(receiver=receiver))
    return _subscribed(peer, settings, lambda scu: scu.unsubscribe(uid, receiver=receiver))


def _subscribed(peer: Peer, settings: Settings, work: Callable[[UpsScu], Any]) -> int:
    with _scu(peer, settings) as scu:
        status = work(scu)
    settings.output.summary(str(status), status=int(status))
    return Exit.WARNINGS if status.is_warning else Exit.DONE


@command.command("watch")
@peer_options
@click.argument("uid", required=False, default=ALL)
@listen_option("Where PEER reports to: it has to know our AE title, and this address.")
@from_option
@click.option("--lock", is_flag=True, help="Keep what has ended until we are done.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after so many events.")
@click.option("--for", "patience", type=SECONDS, default=3600.0, metavar="SECONDS",
              help="End after so long without an event.  [default: 1h]")  # fmt: skip
@key_option
@common
def watch(
    peer: Peer, uid: str, where: Entity | None, senders: tuple[str, ...], lock: bool, limit: int | None,
    patience: float, keys: tuple[str, ...], settings: Settings,
) -> int:  # fmt: skip
    """Subscribe to the work item UID of PEER, or to all, and show what it tells until Ctrl-C."""
    if where is None:
        raise click.UsageError("--listen is missing: the address at which PEER knows us")
    count = 0
    with _scu(peer, settings) as scu, scu.watch(where, listen_tls=settings.tls, senders=senders) as watching:
        scu.subscribe(uid, lock=lock, **parse_keys(keys))
        settings.output.say(f"{scu.peer} tells us at {watching.address[0]}:{watching.address[1]}")
        try:
            while limit is None or count < limit:
                _show(watching.next(patience), settings)
                count += 1
        except DeadlineExceeded:
            settings.output.warn(f"nothing was told for {patience:g} s")
        finally:
            _leave(scu, uid, settings)
    settings.output.summary(counted(count, "event"), events=count)
    return Exit.DONE


def _leave(scu: UpsScu, uid: str, settings: Settings) -> None:
    try:
        scu.unsubscribe(uid)
    except ServiceFailure as error:
        settings.output.warn(f"still subscribed: {error}")


def _show(event: WorkitemEvent, settings: Settings) -> None:
    said: Mapping[str, Any] = event.dataset.to_json_dict()
    state = f" {event.state.value}" if event.state else ""
    settings.output.say(f"{event.uid}: {_EVENTS.get(event.kind, event.kind)}{state}")
    settings.output.record(uid=event.uid, event=event.kind, **said)
