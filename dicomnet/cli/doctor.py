"""``dicomnet doctor``: what keeps one from talking to a peer, step by step, and what to try."""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import monotonic

import click

from .. import uids
from ..config import Entity
from ..errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    NoAcceptedContext,
    TLSFailed,
)
from ..protocol.peer_profile import Peer
from ..services import presentation_contexts
from ..sync import Association
from .connect import associate, peer_options
from .exits import Exit, exit_code
from .options import Settings, common
from .output import Output

__all__ = ["command"]

STEPS = ("dns", "tcp", "tls", "association", "contexts", "echo", "window")
_TITLES = ("DNS", "TCP", "TLS", "AE title", "contexts", "echo", "operations window")

# What is offered, to see what the peer takes: one SOP class of each service that archives and modalities have.
_SERVICES = {
    "verification": uids.VERIFICATION,
    "store CT": uids.CT_IMAGE_STORAGE,
    "store MR": uids.MR_IMAGE_STORAGE,
    "find study": uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
    "get study": uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
    "move study": uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
    "find patient": uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
    "worklist": uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
    "procedure step": uids.MODALITY_PERFORMED_PROCEDURE_STEP,
    "commitment": uids.STORAGE_COMMITMENT_PUSH_MODEL,
}


class _Failed(Exception):
    """A step failed: those after it make no sense.

    Args:
        detail: what happened.
        advice: what to try.
        code: the exit code.
    """

    def __init__(self, detail: str, advice: str, code: int) -> None:
        super().__init__(detail)
        self.advice, self.code = advice, code


@click.command("doctor")
@peer_options
@common
def command(peer: Peer, settings: Settings) -> int:
    """Look at PEER step by step: DNS, TCP, TLS, AE title, contexts, echo, operations window; each with what to try.

    Nothing is stored, and nothing is asked for but an echo.
    """
    return _Examination(peer, settings).run()


class _Examination:
    """The steps, in order; the first that fails ends it."""

    def __init__(self, peer: Peer, settings: Settings) -> None:
        self._peer, self._address = peer, peer.address()
        self._settings = settings
        self._output: Output = settings.output
        self._association: Association | None = None
        self._refusal: DicomNetError | None = None
        examine = (self._dns, self._tcp, self._tls, self._title, self._contexts, self._echo, self._window)
        self._examine: dict[str, Callable[[], tuple[str, str]]] = dict(zip(STEPS, examine, strict=True))

    def run(self) -> int:
        code, done = int(Exit.DONE), 0
        try:
            for step, title in zip(STEPS, _TITLES, strict=True):
                code = self._try(step, title, self._examine[step])
                if code:
                    break
                done += 1
        finally:
            if self._association is not None:
                self._association.abort() if code else self._release(self._association)
        for step, title in zip(STEPS[done + 1 :], _TITLES[done + 1 :], strict=True):
            self._tell(step, title, "skipped", "", "", 0.0)
        failed = "" if done == len(STEPS) else _TITLES[done]
        line = f"{self._address}: {failed} is what to look at" if failed else f"{self._address} is well"
        self._output.summary(line, steps=len(STEPS), failed=int(bool(failed)), healthy=not failed)
        return code

    def _try(self, step: str, title: str, examine: Callable[[], tuple[str, str]]) -> int:
        start = monotonic()
        try:
            verdict, detail = examine()
        except _Failed as failed:
            self._tell(step, title, "failed", str(failed), failed.advice, monotonic() - start)
            return failed.code
        self._tell(step, title, verdict, detail, "", monotonic() - start)
        return Exit.DONE

    def _tell(self, step: str, title: str, verdict: str, detail: str, advice: str, seconds: float) -> None:
        line = f"{verdict:8}{title}" + (f": {detail}" if detail else "")
        if verdict == "failed":
            self._output.error(f"{title}: {detail}")
        else:
            self._output.say(line)
        if advice:
            self._output.say(f"        try: {advice}")
        self._output.record(step=step, verdict=verdict, detail=detail, advice=advice, seconds=seconds)

    # ---- the steps ---------------------------------------------------------------------------------------------

    def _dns(self) -> tuple[str, str]:
        host = self._address.host
        try:
            found = socket.getaddrinfo(host, self._address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            advice = "Is the name spelt right, and does the name server know it? An address does without."
            raise _Failed(f"{host}: {reason}", advice, Exit.CONNECTION) from error
        return "ok", f"{host} is {', '.join(dict.fromkeys(str(one[4][0]) for one in found))}"

    def _tcp(self) -> tuple[str, str]:
        """The connection, and all that comes with it: the next steps tell what became of that."""
        try:
            self._association = associate(
                self._peer, presentation_contexts.sop_classes(*_SERVICES.values()), self._settings
            )
        except DicomNetError as error:
            self._refusal = error
            if isinstance(error, DeadlineExceeded) and error.timeout == "connect":
                advice = "Is the machine on, is the address right, does a firewall drop what comes?"
                raise _Failed("nothing answers", advice, Exit.TIMED_OUT) from error
            if isinstance(error, ConnectionFailed) and error.message.startswith("cannot connect"):
                raise _Failed(error.message, error.hint or "", Exit.CONNECTION) from error
        return "ok", f"connected to port {self._address.port}"

    def _tls(self) -> tuple[str, str]:
        error = self._refusal
        if isinstance(error, TLSFailed):
            advice = error.hint or "Do both sides trust the authority behind the other's certificate? See --tls-ca."
            raise _Failed(error.message, advice, Exit.TLS)
        if isinstance(error, DeadlineExceeded) and error.timeout == "tls":
            raise _Failed(error.message, "Does this port speak TLS at all? Without it: AET@host:port.", Exit.TIMED_OUT)
        if not self._address.tls and self._settings.tls is None:
            return "ok", "not asked for"
        link = self._association.tls if self._association else None
        return "ok", ", ".join(filter(None, (link.version, link.cipher, link.subject))) if link else "secured"

    def _title(self) -> tuple[str, str]:
        error = self._refusal
        if error is None or isinstance(error, NoAcceptedContext):
            return "ok", f"{self._address.ae_title} takes associations from {self._settings.calling(self._peer)}"
        code = exit_code(error)
        raise _Failed(error.message, error.hint or _advice_on(error, self._address), code) from error

    def _contexts(self) -> tuple[str, str]:
        if self._association is None:
            advice = "It takes associations, but none of the usual services: is this the right program, or port?"
            raise _Failed("none of those that were offered is accepted", advice, Exit.NO_CONTEXT)
        accepted = {one.abstract_syntax for one in self._association.contexts.values() if one.accepted}
        names = [name for name, uid in _SERVICES.items() if uid in accepted]
        others = [name for name, uid in _SERVICES.items() if uid not in accepted]
        return "ok", ", ".join(names) + (f" (not: {', '.join(others)})" if others else "")

    def _echo(self) -> tuple[str, str]:
        assert self._association is not None
        start = monotonic()
        try:
            status = self._association.echo()
        except NoAcceptedContext:
            return "warning", "verification is not accepted"
        except DicomNetError as error:
            advice = error.hint or "The peer's log may say why."
            raise _Failed(error.message, advice, exit_code(error, established=True)) from error
        if not status.is_success:
            raise _Failed(f"answered {status}", "The peer's log may say why.", Exit.FAILURES)
        return "ok", f"answered in {(monotonic() - start) * 1000:.2f} ms"

    def _release(self, association: Association) -> None:
        """A peer that closes instead has answered all that was asked."""
        try:
            association.release()
        except DicomNetError as error:
            self._output.warn(f"the peer did not release the association: {error.message}")

    def _window(self) -> tuple[str, str]:
        """How many instances may be under way at a time, as storing proposes it; on another association."""
        offered, extras = (
            presentation_contexts.sop_classes(*_SERVICES.values()),
            self._peer.storing(None),
        )
        if not extras.items():
            return "ok", "none is proposed, as the peer's profile says"
        try:
            if self._association is not None:
                self._release(self._association)  # some peers have room for no more than one
                self._association = None
            association = associate(self._peer, offered, self._settings, extras)
        except DicomNetError as error:
            return "warning", f"{error.message} where one is proposed: `--window 1`, or window = 1 in peers.toml"
        most = association.operations_window[0]
        self._release(association)
        return "ok", f"{most} instances at a time" if most > 1 else "one instance at a time"


def _advice_on(error: DicomNetError, peer: Entity) -> str:
    """What to try where an association does not come about and the error itself has no advice."""
    if isinstance(error, AssociationRejected):
        return "The peer's log may say why."
    if isinstance(error, AssociationAborted):
        return "Is this port for DICOM? Some peers end what they do not like without a word: their log may say why."
    if isinstance(error, ConnectionFailed):
        secure = "" if peer.tls else ", or does it want TLS (dicoms://)"
        return f"It hung up: does it speak DICOM on this port{secure}? It may also know only some addresses."
    if "speaks TLS" in error.message:
        return "Connect with TLS: dicoms://AET@host:port."
    return "What it says is no DICOM: is this the right port?"
