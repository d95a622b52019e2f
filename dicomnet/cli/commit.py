"""``dicomnet commit``: does a peer take responsibility for these instances?"""

from __future__ import annotations

import click

from ..client import CommitmentScu
from ..client.inputs import gather
from ..config import COMMITMENT_PATIENCE, Entity
from ..errors import DicomNetError
from ..protocol.peer_profile import Peer
from ..services.user import Commitment
from ..status import Status
from .connect import client_options, from_option, listen_option, peer_options
from .exits import Exit, exit_code
from .options import PATH, SECONDS, Settings, common
from .output import Output

__all__ = ["command"]


@click.command("commit")
@peer_options
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "+r", "--recurse", is_flag=True, help="Also the directories in directories.")
@listen_option("Where PEER is to report, on an association of its own; it has to know this, with our AE title.")
@from_option
@click.option("--wait", type=SECONDS, metavar="SECONDS", help="For the report, with --listen.  [default: 5m]")
@common
def command(
    peer: Peer,
    paths: tuple[str, ...],
    recurse: bool,
    where: Entity | None,
    senders: tuple[str, ...],
    wait: float | None,
    settings: Settings,
) -> int:
    """Ask PEER to commit itself to the instances of these files, and wait for its report.

    It comes on the same association, or, with --listen, on a later one.
    """
    output = settings.output
    codes: list[int] = []

    def refuse(_: object, __: str, error: DicomNetError) -> None:
        codes.append(exit_code(error))
        output.error(str(error))

    instances = [(item.pair[0], item.sop_instance_uid) for item in gather(paths, refuse, recurse=recurse)]
    if not instances:
        return codes[0]
    patience = COMMITMENT_PATIENCE if wait is None else wait
    options = {"listen": where, "senders": senders, "patience": patience, **client_options(settings, peer)}
    with CommitmentScu(peer, **options) as scu:
        outcome = scu.commit(instances)
    _tell(outcome, output)
    return codes[0] if codes else Exit.DONE if outcome.ok else Exit.FAILURES


def _tell(outcome: Commitment, output: Output) -> None:
    for sop_class, uid, reason in outcome.failed:
        output.error(f"not committed: {uid} ({Status(reason, service='N-ACTION')})")
        output.record(sop_class_uid=sop_class, sop_instance_uid=uid, committed=False, reason=reason)
    for sop_class, uid in outcome.missing:
        output.error(f"not committed: {uid} (the report does not mention it)")
        output.record(sop_class_uid=sop_class, sop_instance_uid=uid, committed=False)
    for sop_class, uid in outcome.committed:
        output.record(sop_class_uid=sop_class, sop_instance_uid=uid, committed=True)
    output.summary(
        f"{len(outcome.committed)} committed, {len(outcome.failed) + len(outcome.missing)} not",
        committed=len(outcome.committed),
        failed=len(outcome.failed) + len(outcome.missing),
        transaction_uid=outcome.transaction_uid,
    )
