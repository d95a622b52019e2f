"""Proposing and judging associations: presentation contexts and what travels beside them (PS3.8 Annex D).

Everything here is a value or a function from values to values. The requestor's half: `propose` makes the A-ASSOCIATE-RQ
and `outcome` reads the answer. The acceptor's half: `AcceptancePolicy` says what is wanted and `judge` answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from . import uids
from ._pdu import (
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SubItem,
)
from .config import check_ae_title
from .errors import InvalidArgument
from .values import Value

__all__ = [
    "ACCEPTED",
    "MAX_CONTEXTS",
    "SMALLEST_PDU",
    "AcceptancePolicy",
    "PresentationContext",
    "ProposedContext",
    "SecureLink",
    "judge",
    "maximum_length",
    "outcome",
    "propose",
]

MAX_CONTEXTS = 128
SMALLEST_PDU = 8  # a P-DATA-TF with two bytes of data; whoever announces less takes nothing
ACCEPTED, USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = range(5)

_DEFAULT_ROLES = (True, False)  # user, not provider: what holds without role selection
_PERMANENT = 1
_SERVICE_USER, _SERVICE_PROVIDER = 1, 2
_REJECT_APPLICATION_CONTEXT = (_PERMANENT, _SERVICE_USER, 2)
_REJECT_CALLING_AE = (_PERMANENT, _SERVICE_USER, 3)
_REJECT_CALLED_AE = (_PERMANENT, _SERVICE_USER, 7)
_REJECT_WITHOUT_REASON = (_PERMANENT, _SERVICE_PROVIDER, 1)


class ProposedContext(Value):
    """What the requestor offers for one abstract syntax: its transfer syntaxes, the preferred first.

    Attributes:
        abstract_syntax: the SOP class or meta SOP class.
        transfer_syntaxes: at least one.
        scu, scp: the roles that the requestor wants to play (PS3.7 Annex D.3.3.4). Anything but the default, user
            only, is proposed as SCP/SCU role selection, which holds for all contexts of the SOP class.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scu: bool = True
    scp: bool = False


class PresentationContext(Value):
    """One presentation context as negotiated (PS3.8 Section 7.1.1.14).

    Attributes:
        id: odd, 1 to 255.
        abstract_syntax: the SOP class or meta SOP class.
        transfer_syntax: what the acceptor chose; empty where the context was refused.
        result: 0 accepted, 1 refused by the user, 2 without a reason; not supported: 3 the abstract syntax,
            4 the transfer syntaxes.
        offered: the transfer syntaxes that were proposed.
        scu, scp: the roles that the requestor may play in this context.
    """

    id: int
    abstract_syntax: str
    transfer_syntax: str
    result: int
    offered: tuple[str, ...] = ()
    scu: bool = True
    scp: bool = False

    @property
    def accepted(self) -> bool:
        """Whether messages may use this context."""
        return self.result == ACCEPTED


class SecureLink(Value):
    """What TLS negotiated under an association.

    Attributes:
        version, cipher: such as "TLSv1.3" and "TLS_AES_256_GCM_SHA384".
        certificate: the peer's, verified, in DER form; empty where it showed none.
        fingerprint: SHA-256 of the certificate, 64 hexadecimal digits in lower case; empty where there is none.
        subject: the distinguished name in the certificate, for people.
        names: its subject alternative names, of every type.
    """

    version: str
    cipher: str
    certificate: bytes = b""
    fingerprint: str = ""
    subject: str = ""
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        whom = f", subject={self.subject!r}, fingerprint={self.fingerprint!r}" if self.certificate else ""
        return f"SecureLink({self.version!r}, {self.cipher!r}{whom})"


class AcceptancePolicy(Value):
    """What an acceptor takes, as data.

    Attributes:
        ae_title: the called AE title that must be asked for; None takes any.
        calling_ae_titles: the callers that are let in; None lets in all.
        abstract_syntaxes: what is supported, each with its transfer syntaxes in order of preference; an empty tuple
            takes any transfer syntax, in the order in which the requestor offers them.
        requestor_as_scp: the SOP classes in which a requestor that asks for it may be provider, as C-GET needs.
        unknown_abstract_syntaxes: also take abstract syntaxes that are not listed, in any transfer syntax.
        max_pdu: the maximum length to announce, in bytes; never 0.
    """

    ae_title: str | None = None
    calling_ae_titles: frozenset[str] | None = None
    abstract_syntaxes: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    requestor_as_scp: frozenset[str] = frozenset()
    unknown_abstract_syntaxes: bool = False
    max_pdu: int = 262144


def propose(
    contexts: Sequence[ProposedContext], *, calling: str, called: str, max_pdu: int
) -> AssociateRQ:
    """The A-ASSOCIATE-RQ that offers these contexts, numbered 1, 3, 5 ….

    Raises:
        InvalidArgument: no context, more than 128, one without a transfer syntax, or an AE title that is none.
    """
    if not 0 < len(contexts) <= MAX_CONTEXTS:
        raise InvalidArgument(
            f"an association takes 1 to {MAX_CONTEXTS} presentation contexts, not {len(contexts)}",
            hint="Split them over several associations.",
        )
    for context in contexts:
        if not context.transfer_syntaxes:
            raise InvalidArgument(f"no transfer syntax is offered for {uids.name_of(context.abstract_syntax)}")
    return AssociateRQ(
        check_ae_title(called),
        check_ae_title(calling),
        tuple(
            PresentationContextRQ(2 * index + 1, context.abstract_syntax, tuple(context.transfer_syntaxes))
            for index, context in enumerate(contexts)
        ),
        _user_information(max_pdu) + _role_proposals(contexts),
    )


def _role_proposals(contexts: Sequence[ProposedContext]) -> tuple[RoleSelection, ...]:
    """One role selection for each SOP class in which the requestor wants to be more, or less, than a user."""
    wanted: dict[str, tuple[bool, bool]] = {}
    for context in contexts:
        scu, scp = wanted.get(context.abstract_syntax, (False, False))
        wanted[context.abstract_syntax] = (scu or context.scu, scp or context.scp)
    return tuple(RoleSelection(uid, *roles) for uid, roles in wanted.items() if roles != _DEFAULT_ROLES)


def _roles(pdu: AssociateRQ | AssociateAC) -> dict[str, RoleSelection]:
    return {item.sop_class_uid: item for item in pdu.user_information if isinstance(item, RoleSelection)}


def outcome(request: AssociateRQ, accept: AssociateAC) -> dict[int, PresentationContext]:
    """What was negotiated, by presentation context ID; a context that the answer leaves out counts as refused.

    A context that is accepted in a transfer syntax that was not offered is refused, too: nothing can be sent in it.
    """
    answers = {context.id: context for context in accept.presentation_contexts}
    offered, granted = _roles(request), _roles(accept)
    return {
        proposed.id: _outcome(
            proposed,
            answers.get(proposed.id),
            _agreed_roles(offered.get(proposed.abstract_syntax), granted.get(proposed.abstract_syntax)),
        )
        for proposed in request.presentation_contexts
    }


def _outcome(
    proposed: PresentationContextRQ, answer: PresentationContextAC | None, roles: tuple[bool, bool]
) -> PresentationContext:
    result = NO_REASON if answer is None else answer.result
    chosen = (answer.transfer_syntax or "") if answer is not None and result == ACCEPTED else ""
    if result == ACCEPTED and chosen not in proposed.transfer_syntaxes:
        result, chosen = TRANSFER_SYNTAXES_NOT_SUPPORTED, ""
    return PresentationContext(
        proposed.id, proposed.abstract_syntax, chosen, result, proposed.transfer_syntaxes, *roles
    )


def _agreed_roles(offered: RoleSelection | None, granted: RoleSelection | None) -> tuple[bool, bool]:
    """The requestor's roles: what was offered and granted; without both, user only (PS3.7 Annex D.3.3.4)."""
    if offered is None or granted is None:
        return _DEFAULT_ROLES
    return offered.scu and granted.scu, offered.scp and granted.scp


def judge(request: AssociateRQ, policy: AcceptancePolicy) -> AssociateAC | AssociateRJ:
    """The acceptor's answer to a request.

    An association is accepted even where every context is refused: the requestor then learns why, context by context.
    """
    if request.application_context_name != uids.APPLICATION_CONTEXT:
        return AssociateRJ(*_REJECT_APPLICATION_CONTEXT)
    if not _is_called(request.called_ae_title, policy):
        return AssociateRJ(*_REJECT_CALLED_AE)
    if not _may_call(request.calling_ae_title, policy):
        return AssociateRJ(*_REJECT_CALLING_AE)
    if 0 < maximum_length(request) < SMALLEST_PDU:
        return AssociateRJ(*_REJECT_WITHOUT_REASON)
    return AssociateAC(
        request.called_ae_title,
        request.calling_ae_title,
        tuple(_judge_context(context, policy) for context in request.presentation_contexts),
        _user_information(policy.max_pdu) + tuple(_judge_role(role, policy) for role in _roles(request).values()),
    )


def _is_called(title: str, policy: AcceptancePolicy) -> bool:
    return title == policy.ae_title if policy.ae_title is not None else _is_title(title)


def _may_call(title: str, policy: AcceptancePolicy) -> bool:
    return title in policy.calling_ae_titles if policy.calling_ae_titles is not None else _is_title(title)


def _is_title(text: str) -> bool:
    """Whether it is an AE title at all: not blank, nothing that could fool a log (PS3.8 Section 9.3.2)."""
    return bool(text) and text.isascii() and text.isprintable() and "\\" not in text


def _judge_role(offered: RoleSelection, policy: AcceptancePolicy) -> RoleSelection:
    """Grant what was offered and is wanted, and nothing else."""
    uid = offered.sop_class_uid
    known = uid in policy.abstract_syntaxes or policy.unknown_abstract_syntaxes
    return RoleSelection(uid, offered.scu and known, offered.scp and uid in policy.requestor_as_scp)


def _judge_context(context: PresentationContextRQ, policy: AcceptancePolicy) -> PresentationContextAC:
    preferred = policy.abstract_syntaxes.get(context.abstract_syntax)
    if context.abstract_syntax in policy.requestor_as_scp:
        preferred = preferred or ()
    if preferred is None and not policy.unknown_abstract_syntaxes:
        return PresentationContextAC(context.id, ABSTRACT_SYNTAX_NOT_SUPPORTED, _placeholder(context))
    offered = context.transfer_syntaxes
    candidates: Iterable[str] = (syntax for syntax in preferred if syntax in offered) if preferred else offered
    chosen = next(iter(candidates), None)
    if chosen is None:
        return PresentationContextAC(context.id, TRANSFER_SYNTAXES_NOT_SUPPORTED, _placeholder(context))
    return PresentationContextAC(context.id, ACCEPTED, chosen)


def _placeholder(context: PresentationContextRQ) -> str:
    """A refused context carries a transfer syntax all the same: it is not significant, but the item needs one."""
    return context.transfer_syntaxes[0]


def maximum_length(pdu: AssociateRQ | AssociateAC) -> int:
    """The largest P-DATA-TF that the sender of this PDU takes; 0, or no item, is no limit (PS3.8 Annex D.1)."""
    return next((item.value for item in pdu.user_information if isinstance(item, MaximumLength)), 0)


def _user_information(max_pdu: int) -> tuple[SubItem, ...]:
    return (
        MaximumLength(max_pdu),
        ImplementationClassUID(uids.IMPLEMENTATION_CLASS_UID),
        ImplementationVersionName(uids.IMPLEMENTATION_VERSION_NAME),
    )
