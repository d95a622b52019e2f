"""``dicomnet commit``: does a peer take responsibility for these instances?"""

from __future__ import annotations

import click

from ..config import COMMITMENT_PATIENCE, Entity
from ..errors import InputFileError, InputProblem
from ..files.instance_source import open_source
from ..services.user import Commitment
from ..status import Status
from .batch import files_in
from .connect import client_options, listen_option, peer_options
from .exits import Exit
from .options import PATH, SECONDS, Settings, common, profile_of
from .output import Output

__all__ = ["command"]


@click.command("commit")
@peer_options
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "+r", "--recurse", is_flag=True, help="Also the directories in directories.")
@listen_option("Where PEER is to report, on an association of its own; it has to know this, with our AE title.")
@click.option("--wait", type=SECONDS, metavar="SECONDS", help="For the report, with --listen.  [default: 5m]")
@common
def command(
    peer: Entity,
    aec: str | None,
    paths: tuple[str, ...],
    recurse: bool,
    where: Entity | None,
    wait: float | None,
    settings: Settings,
) -> int:
    """Ask PEER to commit itself to the instances of these files, and wait for its report.

    It comes on the same association, or, with --listen, on a later one.
    """
    from ..client import CommitmentScu

    output = settings.output
    codes: list[int] = []

    def refuse(error: InputFileError) -> None:
        codes.append(int(error.problem))
        output.error(str(error))

    instances = []
    for path in files_in(paths, recurse, refuse):
        try:
            with open_source(path) as source:
                instances.append((source.sop_class_uid, source.sop_instance_uid))
        except InputFileError as error:
            refuse(error)
    if not instances and not codes:
        raise InputFileError("no files to commit", problem=InputProblem.CANNOT_READ, path=", ".join(paths))
    if not instances:
        return codes[0]
    called = profile_of(peer.replace(ae_title=aec) if aec else peer)
    patience = COMMITMENT_PATIENCE if wait is None else wait
    with CommitmentScu(called, listen=where, patience=patience, **client_options(settings, peer)) as scu:
        outcome = scu.commit(instances)
    _tell(outcome, output)
    return codes[0] if codes else Exit.FAILURES if outcome.failed or not outcome.committed else Exit.DONE


def _tell(outcome: Commitment, output: Output) -> None:
    for sop_class, uid, reason in outcome.failed:
        output.error(f"not committed: {uid} ({Status(reason, service='N-ACTION')})")
        output.record(sop_class_uid=sop_class, sop_instance_uid=uid, committed=False, reason=reason)
    for sop_class, uid in outcome.committed:
        output.record(sop_class_uid=sop_class, sop_instance_uid=uid, committed=True)
    output.summary(
        f"{len(outcome.committed)} committed, {len(outcome.failed)} not",
        committed=len(outcome.committed),
        failed=len(outcome.failed),
        transaction_uid=outcome.transaction_uid,
    )
