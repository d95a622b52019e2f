"""Who is let in: rules of an `Admission`, asked for each association, by the settings and AE titles of that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .. import uids
from .._pdu import AssociateRQ
from ..errors import escaped
from ..protocol.admission import Admission, AdmissionRule, Refusal, SoundRequest, UserIdentification
from ..protocol.messages import CommandField
from ..protocol.negotiation import Caller, UserIdentity
from ..services.query_models import model_uid
from ..services.scp import host_of
from ..services.service_registry import ServiceSnapshot
from .ae_entry import RIGHTS, AEEntry, Right, key_of
from .base import AEDirectory
from .settings import Settings

__all__ = ["ServerAdmission", "right_for"]

_CALLED, _CALLING = (1, 1, 7), (1, 1, 3)
_CONGESTED, _LIMIT = (2, 3, 1), (2, 3, 2)


class ServerAdmission:
    """The rules of a server.

    Attributes:
        settings: those that hold now.
        paused, stopping: no new associations, for the time being, or ever.

    Args:
        settings: those of the start.
        titles: who is known.
        more: the rules of add-ins, of now.
    """

    def __init__(
        self, settings: Settings, titles: AEDirectory, more: Callable[[], Iterable[AdmissionRule]] = tuple
    ) -> None:
        self.settings = settings
        self._more = more
        self.paused = False
        self.stopping = False
        self._titles = titles

    def rules(self, identify: Callable[[UserIdentity, Caller], bool | bytes]) -> Admission:
        """For a listener; they look at what holds when they are asked."""
        return Admission(SoundRequest(), self, _Counts(self), UserIdentification(identify))

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """What is against an association; None where nothing is."""
        settings = self.settings
        if self.stopping or self.paused:
            kind = "stopping" if self.stopping else "paused"
            return Refusal(*_CONGESTED, f"the server is {kind}", kind)
        called = request.called_ae_title
        if not self._is_called(settings, called):
            why = f'its called AE title is "{escaped(called)}", and this is {settings.server.ae_title}'
            return Refusal(*_CALLED, why, "called title")
        entry = self._titles.find(request.calling_ae_title)
        refusal: Refusal | None = None
        if entry is not None:
            refusal = _known(entry, caller, settings)
        elif not settings.access.anonymous:
            refusal = Refusal(*_CALLING, "its AE title is not known", "unknown")
        return refusal or next(filter(None, (rule.evaluate(request, caller) for rule in self._more())), None)

    def _is_called(self, settings: Settings, title: str) -> bool:
        mine = {key_of(one) for one in (settings.server.ae_title, *settings.server.aliases)}
        return settings.server.any_called_title or key_of(title) in mine

    def narrowed(self, services: ServiceSnapshot, calling: str) -> ServiceSnapshot:
        """The services without those that a caller has no right to."""
        entry = self._titles.find(calling)
        if entry is None or set(entry.rights) == set(RIGHTS):
            return services
        return ServiceSnapshot(
            one for one in services.registrations
            if all(right_for(one.message, uid) in entry.rights for uid in one.sop_classes)
        )  # fmt: skip


def _known(entry: AEEntry, caller: Caller, settings: Settings) -> Refusal | None:
    bound = bool(entry.addresses) or (settings.access.require_address and entry.host is not None)
    if bound and not entry.may_call_from(host_of(caller.address)):
        return Refusal(*_CALLING, "its AE title is known, but not from this address", "address")
    fingerprints = {one.replace(":", "").lower() for one in entry.certificates}
    if fingerprints and (caller.tls is None or caller.tls.fingerprint.lower() not in fingerprints):
        return Refusal(*_CALLING, "its AE title is bound to another certificate", "certificate")
    return None


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many associations a caller may have, by the settings of now."""

    admission: ServerAdmission
    late: bool = True
    counts: bool = True

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        access = self.admission.settings.access
        if access.per_title is not None and caller.same_title >= access.per_title:
            return Refusal(*_LIMIT, f"its AE title has {caller.same_title} associations already", "limit")
        if access.per_address is not None and caller.same_host >= access.per_address:
            return Refusal(*_LIMIT, f"its address has {caller.same_host} associations already", "limit")
        return None


_WORKLIST = model_uid("WORKLIST", "find")
_PLAIN: dict[int, Right] = {
    CommandField.C_ECHO_RQ: "echo",
    CommandField.C_STORE_RQ: "store",
    CommandField.C_GET_RQ: "get",
    CommandField.C_MOVE_RQ: "move",
}


def right_for(message: int, sop_class: str) -> Right:
    """Which right a message of a SOP class needs."""
    if message == CommandField.C_FIND_RQ:
        return "worklist" if sop_class == _WORKLIST else "find"
    if sop_class == uids.MODALITY_PERFORMED_PROCEDURE_STEP:
        return "mpps"
    if sop_class == uids.STORAGE_COMMITMENT_PUSH_MODEL:
        return "commit"
    return _PLAIN.get(message, "other")
