"""Proposing and judging associations: presentation contexts and what travels beside them (PS3.8 Annex D).

Everything here is a value or a function from values to values. The requestor's half: `propose` makes the A-ASSOCIATE-RQ
and `outcome` reads the answer. The acceptor's half: `AcceptancePolicy` says what is wanted, `admission` who may call,
and `accept` answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from .. import uids
from .._pdu import (
    AssociateAC,
    AssociateRQ,
    AsynchronousOperationsWindow,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    SubItem,
    UserIdentityAC,
    UserIdentityRQ,
)
from ..config import OFFERED_SYNTAXES, OPERATIONS_WINDOW, RELATED_CLASSES, check_ae_title, listed
from ..errors import InvalidArgument, escaped

__all__ = [
    "ABSTRACT_SYNTAX_NOT_SUPPORTED",
    "ACCEPTED",
    "MAX_CONTEXTS",
    "SMALLEST_PDU",
    "AcceptancePolicy",
    "Caller",
    "NegotiationOptions",
    "PresentationContext",
    "ProposedContext",
    "SecureLink",
    "UserIdentity",
    "accept",
    "extended_answers",
    "identity_response",
    "maximum_length",
    "offers_window",
    "operations_window",
    "outcome",
    "propose",
    "user_identity",
]

MAX_CONTEXTS = 128
SMALLEST_PDU = 8  # a P-DATA-TF with two bytes of data; a peer that announces less takes nothing
ACCEPTED, USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = range(5)

_NATIVE = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)  # what any data set can be sent in
_DEFAULT_ROLES = (True, False)  # user, not provider: what holds without role selection
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ProposedContext(NamedTuple):
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


class PresentationContext(NamedTuple):
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


class UserIdentity(NamedTuple):
    """Who the user of the calling application is (PS3.7 Annex D.3.3.7). What proves it is never shown.

    Attributes:
        type: 1 a name, 2 a name and a passcode, 3 a Kerberos ticket, 4 a SAML assertion, 5 a JSON web token.
        primary: the name in UTF-8, the ticket, the assertion or the token.
        secondary: the passcode in UTF-8; empty but for type 2.
        confirm: ask for a positive response, see `identity_response`.
    """

    type: int
    primary: bytes
    secondary: bytes = b""
    confirm: bool = False

    @classmethod
    def named(cls, name: str, passcode: str | None = None, *, confirm: bool = False) -> Self:
        """A user by name, with a passcode or without: type 2 or 1."""
        if passcode is None:
            return cls(1, name.encode(), b"", confirm)
        return cls(2, name.encode(), passcode.encode(), confirm)

    @property
    def name(self) -> str:
        """The name of a user of type 1 or 2; empty for the others, which only who checks them can read."""
        return self.primary.decode("utf-8", "replace") if self.type in (1, 2) else ""

    @property
    def passcode(self) -> str:
        """The passcode of type 2; compare it by ``hmac.compare_digest``, which tells nothing by the time it takes."""
        return self.secondary.decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"UserIdentity(type={self.type}, name={self.name!r}, confirm={self.confirm})"


class NegotiationOptions(NamedTuple):
    """What a requestor may propose beside its presentation contexts; nothing unless asked for: some peers balk at it.

    Attributes:
        identity: who the user is.
        operations_window: how many operations may be under way at a time, those that we invoke and those that we
            perform; 0 is any number (PS3.7 Annex D.3.3.3). Without it, one; (1, 1) is that, and not proposed.
        unproven_window: whether that window is used with an acceptor that is not known to keep it, see
            `config.WINDOW_KEEPERS`; so where the user asks for one.
        extended: application information by SOP class (SOP class extended negotiation, PS3.7 Annex D.3.3.5).
        related: by SOP class, its service class and its related general SOP classes, by which a peer can tell what a
            SOP class is that it does not know (SOP class common extended negotiation, PS3.7 Annex D.3.3.6).
    """

    identity: UserIdentity | None = None
    operations_window: tuple[int, int] | None = None
    unproven_window: bool = True
    extended: Mapping[str, bytes] = _NOTHING
    related: Mapping[str, tuple[str, tuple[str, ...]]] = _NOTHING

    def items(self) -> tuple[SubItem, ...]:
        """The sub-items of user information that say so."""
        items: list[SubItem] = []
        if self.operations_window not in (None, (1, 1)):  # nothing else holds where nothing is said
            items.append(AsynchronousOperationsWindow(*self.operations_window))
        items += [SOPClassExtendedNegotiation(uid, information) for uid, information in self.extended.items()]
        items += [SOPClassCommonExtendedNegotiation(uid, *related) for uid, related in self.related.items()]
        if self.identity is not None:
            one = self.identity
            items.append(UserIdentityRQ(one.type, one.primary, one.secondary, one.confirm))
        return tuple(items)


class Caller(NamedTuple):
    """What an acceptor knows of a requestor beside its request.

    Attributes:
        address: where it connected from, ``host:port``.
        tls: what TLS negotiated.
        same_title, same_host: the associations that its AE title, and its host, have already.
        verdict: of `AcceptancePolicy.identify` on its identity; None where it was not asked.
    """

    address: str = ""
    tls: SecureLink | None = None
    same_title: int = 0
    same_host: int = 0
    verdict: bool | bytes | None = None

    def __repr__(self) -> str:
        return f"Caller(address={self.address!r}, tls={self.tls!r})"  # a verdict may be a ticket


class SecureLink(NamedTuple):
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


class AcceptancePolicy(NamedTuple):
    """What an acceptor takes, as data.

    Attributes:
        ae_title: the called AE title that must be asked for; None takes any.
        calling_ae_titles: the callers that are let in; None lets in all.
        abstract_syntaxes: what is supported, each with its transfer syntaxes in order of preference; an empty tuple
            takes any transfer syntax, in the order in which the requestor offers them.
        transfer_syntaxes: what is preferred, in order, where ``abstract_syntaxes`` does not say; then what is offered.
        requestor_as_scp: the SOP classes in which a requestor that asks for it may be provider, as C-GET needs.
        refused_abstract_syntaxes: what is not taken, whatever else says that it is.
        unknown_abstract_syntaxes: also take abstract syntaxes that are not listed, in any transfer syntax.
        service_classes: also take abstract syntaxes whose common extended negotiation names one of these.
        max_pdu: the maximum length to announce, in bytes; never 0.
        anonymous_callers: also let in callers that neither ``calling_ae_titles`` nor ``certificates`` names.
        certificates: by AE title, the SHA-256 fingerprints or alternative names one of which the caller's certificate
            must have; a caller that uses such a title without it is rejected as not recognised.
        associations_per_title, associations_per_host: how many a caller may have at a time; None for any number.
        operations_window: the most operations at a time that a requestor may invoke, and perform; 0 is any number.
        extended: by SOP class, the application information that is supported; of what is offered, the bits that are
            set here are granted.
        identify: called with the `UserIdentity` and the `Caller`; true, or the bytes of a server response, lets in.
        identity_required: reject callers that do not say who they are.
    """

    ae_title: str | None = None
    calling_ae_titles: frozenset[str] | None = None
    abstract_syntaxes: Mapping[str, tuple[str, ...]] = _NOTHING
    requestor_as_scp: frozenset[str] = frozenset()
    unknown_abstract_syntaxes: bool = False
    max_pdu: int = 262144
    transfer_syntaxes: tuple[str, ...] = ()
    service_classes: frozenset[str] = frozenset()
    anonymous_callers: bool = False
    certificates: Mapping[str, frozenset[str]] = _NOTHING
    associations_per_title: int | None = None
    associations_per_host: int | None = None
    operations_window: tuple[int, int] = (OPERATIONS_WINDOW, 1)
    extended: Mapping[str, bytes] = _NOTHING
    identify: Callable[[UserIdentity, Caller], bool | bytes] | None = None
    identity_required: bool = False
    refused_abstract_syntaxes: frozenset[str] = frozenset()


def propose(
    contexts: Sequence[ProposedContext],
    *,
    calling: str,
    called: str,
    max_pdu: int,
    extras: NegotiationOptions | None = None,
) -> AssociateRQ:
    """The A-ASSOCIATE-RQ that offers these contexts, numbered 1, 3, 5 ….

    Raises:
        InvalidArgument: no context, more than 128, one without a transfer syntax, or an AE title or a UID that is none.
    """
    if not 0 < len(contexts) <= MAX_CONTEXTS:
        raise InvalidArgument(
            f"an association takes 1 to {MAX_CONTEXTS} presentation contexts, not {len(contexts)}",
            hint="Split them over several associations." if contexts else "`dicomnet.contexts` makes the usual ones.",
        )
    contexts = [one._replace(transfer_syntaxes=listed(one.transfer_syntaxes)) for one in contexts]
    for context in contexts:
        if not context.transfer_syntaxes:
            raise InvalidArgument(f"no transfer syntax is offered for {uids.name_of(context.abstract_syntax)}")
    for uid in {uid for context in contexts for uid in (context.abstract_syntax, *context.transfer_syntaxes)}:
        if not uids.is_valid(uid):
            raise InvalidArgument(f'"{escaped(uid)}" is not a UID, and is not proposed')
    return AssociateRQ(
        check_ae_title(called),
        check_ae_title(calling),
        tuple(
            PresentationContextRQ(2 * index + 1, context.abstract_syntax, tuple(context.transfer_syntaxes))
            for index, context in enumerate(contexts)
        ),
        _user_information(max_pdu) + _role_proposals(contexts) + (extras.items() if extras is not None else ()),
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


def accept(request: AssociateRQ, policy: AcceptancePolicy, caller: Caller | None = None) -> AssociateAC:
    """The acceptor's answer to a request that is not rejected (see `admission`), context by context.

    An association is accepted even where every context is refused: the requestor then learns why. Nothing is granted
    that was not offered.
    """
    commons, roles = _commons(request), _roles(request)
    granted = {uid: _judge_role(role, policy) for uid, role in roles.items()}
    proposed = {one.abstract_syntax for one in request.presentation_contexts}
    wanted = {uid: _wanted(uid, policy, commons) for uid in proposed}
    return AssociateAC(
        request.called_ae_title,
        request.calling_ae_title,
        tuple(
            _judge_context(one, policy, wanted[one.abstract_syntax], granted.get(one.abstract_syntax))
            for one in request.presentation_contexts
        ),
        _user_information(policy.max_pdu)
        + tuple(granted.values())
        + _judge_extras(request, policy, caller or Caller()),
    )


def _judge_extras(request: AssociateRQ, policy: AcceptancePolicy, caller: Caller) -> tuple[SubItem, ...]:
    items: list[SubItem] = []
    asked = _window_of(request)
    if asked is not None:
        items.append(AsynchronousOperationsWindow(*_lower(asked, policy.operations_window)))
    for uid, offered in _extended(request).items():
        if uid in policy.extended:
            granted = bytes(ours & theirs for ours, theirs in zip(policy.extended[uid], offered, strict=False))
            items.append(SOPClassExtendedNegotiation(uid, granted))
    identity = user_identity(request)
    if identity is not None and identity.confirm and caller.verdict not in (None, False):
        items.append(UserIdentityAC(caller.verdict if isinstance(caller.verdict, bytes) else b""))
    return tuple(items)


def _items(pdu: AssociateRQ | AssociateAC | None) -> tuple[SubItem, ...]:
    return pdu.user_information if pdu is not None else ()  # there is none before an association is accepted


def _window_of(pdu: AssociateRQ | AssociateAC | None) -> tuple[int, int] | None:
    items = (item for item in _items(pdu) if isinstance(item, AsynchronousOperationsWindow))
    return next(((item.invoked, item.performed) for item in items), None)


def _lower(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The smaller numbers of two windows, where 0 is any number."""
    invoked, performed = (min(pair) or max(pair) for pair in zip(one, other, strict=True))
    return invoked, performed


def _extended(pdu: AssociateRQ | AssociateAC | None) -> dict[str, bytes]:
    items = (item for item in _items(pdu) if isinstance(item, SOPClassExtendedNegotiation))
    return {item.sop_class_uid: item.application_information for item in items}


def _commons(request: AssociateRQ) -> dict[str, SOPClassCommonExtendedNegotiation]:
    items = (item for item in request.user_information if isinstance(item, SOPClassCommonExtendedNegotiation))
    return {item.sop_class_uid: item for item in items}


def offers_window(request: AssociateRQ | None) -> bool:
    """Whether the requestor asks for more than one operation at a time."""
    return _window_of(request) is not None


def operations_window(request: AssociateRQ | None, accept: AssociateAC | None) -> tuple[int, int]:
    """How many operations the requestor may invoke, and perform, at a time; an acceptor can only lower what it asked.

    Without an answer, or without a question, one of each (PS3.7 Annex D.3.3.3); 0 is any number.
    """
    asked, granted = _window_of(request), _window_of(accept)
    return (1, 1) if asked is None or granted is None else _lower(asked, granted)


def implementation_class_uid(pdu: AssociateRQ | AssociateAC) -> str:
    """Which implementation the peer is; empty where it does not say (PS3.7 Annex D.3.3.2)."""
    items = (item.uid for item in pdu.user_information if isinstance(item, ImplementationClassUID))
    return next(items, "")


def extended_answers(request: AssociateRQ | None, accept: AssociateAC | None) -> dict[str, bytes]:
    """The acceptor's application information by SOP class, for those that were asked about."""
    asked = _extended(request)
    return {uid: information for uid, information in _extended(accept).items() if uid in asked}


def user_identity(request: AssociateRQ) -> UserIdentity | None:
    """Who the requestor says that its user is."""
    items = (item for item in request.user_information if isinstance(item, UserIdentityRQ))
    found = ((item.type, item.primary, item.secondary, item.positive_response_requested) for item in items)
    return next((UserIdentity(*one) for one in found), None)


def identity_response(accept: AssociateAC | None) -> bytes | None:
    """The positive response to a user identity, empty for types 1 and 2; None where there is none.

    An acceptor that does not know of user identities accepts without one: a caller that must be sure asks, and looks.
    """
    items = (item for item in _items(accept) if isinstance(item, UserIdentityAC))
    return next((item.response for item in items), None)


def _judge_role(offered: RoleSelection, policy: AcceptancePolicy) -> RoleSelection:
    """Grant what was offered and is wanted, and nothing else."""
    uid = offered.sop_class_uid
    if uid in policy.refused_abstract_syntaxes:
        return RoleSelection(uid, False, False)
    known = uid in policy.abstract_syntaxes or policy.unknown_abstract_syntaxes
    return RoleSelection(uid, offered.scu and known, offered.scp and uid in policy.requestor_as_scp)


def _judge_context(
    context: PresentationContextRQ,
    policy: AcceptancePolicy,
    wanted: tuple[str, ...] | None,
    role: RoleSelection | None,
) -> PresentationContextAC:
    """The answer to one context.

    Args:
        context: what is proposed.
        policy: the acceptor's.
        wanted: the transfer syntaxes that are preferred for its abstract syntax; None where that is refused.
        role: what is granted of it.
    """
    if wanted is None:
        return PresentationContextAC(context.id, ABSTRACT_SYNTAX_NOT_SUPPORTED, _placeholder(context))
    offered = context.transfer_syntaxes[:OFFERED_SYNTAXES]
    known = frozenset(offered)
    # In a context in which we are to send, the first that is offered may be one that we cannot convert to.
    sendable = _NATIVE if role is not None and role.scp else ()
    order: Iterable[str] = wanted or (*policy.transfer_syntaxes, *sendable, *offered)
    chosen = next((syntax for syntax in order if syntax in known and uids.is_valid(syntax)), None)
    if chosen is None:
        return PresentationContextAC(context.id, TRANSFER_SYNTAXES_NOT_SUPPORTED, _placeholder(context))
    return PresentationContextAC(context.id, ACCEPTED, chosen)


def _wanted(
    uid: str, policy: AcceptancePolicy, commons: Mapping[str, SOPClassCommonExtendedNegotiation]
) -> tuple[str, ...] | None:
    """The transfer syntaxes for an abstract syntax, in order, empty for any; None where it is not taken."""
    if uid in policy.refused_abstract_syntaxes:
        return None
    preferred = policy.abstract_syntaxes.get(uid)
    if preferred is None:
        preferred = _by_kind(uid, policy, commons)
    if preferred is None and policy.unknown_abstract_syntaxes and uids.is_valid(uid):
        return ()
    return preferred


def _by_kind(
    uid: str, policy: AcceptancePolicy, commons: Mapping[str, SOPClassCommonExtendedNegotiation]
) -> tuple[str, ...] | None:
    """The transfer syntaxes for an abstract syntax that is not listed, but of a kind that is wanted."""
    if uid in policy.requestor_as_scp:
        return ()
    common = commons.get(uid)
    if common is None:
        return None
    general = common.related_general_sop_class_uids[:RELATED_CLASSES]
    known = next((policy.abstract_syntaxes[one] for one in general if one in policy.abstract_syntaxes), None)
    return () if known is None and common.service_class_uid in policy.service_classes else known


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
