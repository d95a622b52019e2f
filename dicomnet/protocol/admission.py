"""Who may have an association: rules in an order, of which the first that objects refuses (PS3.8 Section 9.3.4).

A rule looks at the A-ASSOCIATE-RQ and at what the acceptor knows of the caller beside it. It has no socket, no clock
and no lock: how many associations a caller has already, and what became of its user's identity, is in `Caller`.

`AcceptancePolicy` says the usual ones as data; `Admission.of` makes rules of it. A listener is asked for its own by
``listener.admission``, and given others by assigning to it, also while it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from .. import uids
from .._pdu import AssociateAC, AssociateRJ, AssociateRQ
from ..errors import escaped
from .negotiation import (
    SMALLEST_PDU,
    AcceptancePolicy,
    Caller,
    UserIdentity,
    accept,
    maximum_length,
    user_identity,
)

__all__ = [
    "LOCAL_LIMIT_EXCEEDED",
    "TEMPORARY_CONGESTION",
    "Admission",
    "AdmissionRule",
    "CalledTitle",
    "CallerLimits",
    "CallingTitles",
    "Certificates",
    "Refusal",
    "SoundRequest",
    "UserIdentification",
    "evaluate",
]

_PERMANENT, _TRANSIENT = 1, 2
_SERVICE_USER, _SERVICE_PROVIDER, _PRESENTATION = 1, 2, 3
TEMPORARY_CONGESTION = (_TRANSIENT, _PRESENTATION, 1)
LOCAL_LIMIT_EXCEEDED = (_TRANSIENT, _PRESENTATION, 2)


class Refusal(NamedTuple):
    """Why there is no association.

    Attributes:
        result, source, reason: of the A-ASSOCIATE-RJ (PS3.8 Table 9-21).
        why: one line for the log; what a peer wrote is escaped in it.
        kind: the same in a word or two, for metrics; empty where it has no name.
    """

    result: int
    source: int
    reason: int
    why: str
    kind: str = ""


class AdmissionRule(Protocol):
    """One rule of an `Admission`: any object with this method.

    A rule with a true attribute ``late`` is asked once the user is identified, when `Caller` has the counts and the
    verdict; all others are asked before that, too.
    """

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """Why this caller may have no association; None where this rule has nothing against it."""


class SoundRequest:
    """The application context is DICOM's, and the caller takes PDUs in which there is room for data."""

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        name, length = request.application_context_name, maximum_length(request)
        if name != uids.APPLICATION_CONTEXT:
            return Refusal(_PERMANENT, _SERVICE_USER, 2, f'its application context is "{escaped(name)}"')
        if 0 < length < SMALLEST_PDU:
            return Refusal(_PERMANENT, _SERVICE_PROVIDER, 1, f"it takes PDUs of {length} bytes: no data fits")
        return None


class CalledTitle(NamedTuple):
    """The called AE title is one of these; without any, it is a title at all.

    Attributes:
        titles: what may be asked for, aliases too; empty takes any title.
    """

    titles: frozenset[str] = frozenset()

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        title = request.called_ae_title
        if title in self.titles or (not self.titles and _is_title(title)):
            return None
        wanted = f", not {' or '.join(sorted(self.titles))}" if self.titles else ", which is no AE title"
        return Refusal(_PERMANENT, _SERVICE_USER, 7, f'it calls "{escaped(title)}"{wanted}')


class CallingTitles(NamedTuple):
    """The calling AE title is one of these; without a list, it is a title at all.

    Attributes:
        titles: who is let in; None lets in all.
    """

    titles: frozenset[str] | None = None

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        title = request.calling_ae_title
        if title in self.titles if self.titles is not None else _is_title(title):
            return None
        why = "its AE title is not among those that may call" if self.titles is not None else "it has no AE title"
        return Refusal(_PERMANENT, _SERVICE_USER, 3, why)


class Certificates(NamedTuple):
    """A caller that uses one of these AE titles shows a certificate that goes with it.

    Attributes:
        by_title: by AE title, SHA-256 fingerprints or alternative names, one of which the certificate must have.
    """

    by_title: Mapping[str, frozenset[str]]

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        wanted, link = self.by_title.get(request.calling_ae_title), caller.tls
        if wanted is None:
            return None
        if link is None or not link.certificate:
            return Refusal(_PERMANENT, _SERVICE_USER, 3, "its AE title needs a certificate, and it showed none")
        if wanted.isdisjoint((link.fingerprint, *link.names)):
            what = f"its AE title needs another certificate than {escaped(link.subject)} ({link.fingerprint})"
            return Refusal(_PERMANENT, _SERVICE_USER, 3, what)
        return None


class CallerLimits(NamedTuple):
    """How many associations a caller may have at a time.

    Attributes:
        per_title, per_host: by AE title and by host; None for any number.
    """

    per_title: int | None = None
    per_host: int | None = None

    @property
    def late(self) -> bool:
        """It waits for what is found out beside the request."""
        return True

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        if self.per_title is not None and caller.same_title >= self.per_title:
            return Refusal(*LOCAL_LIMIT_EXCEEDED, f"its AE title has {caller.same_title} associations already")
        if self.per_host is not None and caller.same_host >= self.per_host:
            return Refusal(*LOCAL_LIMIT_EXCEEDED, f"its host has {caller.same_host} associations already")
        return None


class UserIdentification(NamedTuple):
    """The user of the calling application is who it says (PS3.7 Annex D.3.3.7).

    Attributes:
        identify: called with the `UserIdentity` and the `Caller`, before the late rules; true, or the bytes of a server
            response, lets in. None takes any identity.
        required: refuse a caller that names no user.
    """

    identify: Callable[[UserIdentity, Caller], bool | bytes] | None = None
    required: bool = False

    @property
    def late(self) -> bool:
        """It waits for what is found out beside the request."""
        return True

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        if user_identity(request) is None:
            return self._refusal("it does not say who its user is") if self.required else None
        if self.identify is None or (caller.verdict is not None and caller.verdict is not False):
            return None
        return self._refusal("its user was not let in")

    def _refusal(self, why: str) -> Refusal:
        return Refusal(_PERMANENT, _SERVICE_PROVIDER, 1, why)


class Admission:
    """Rules in an order; immutable.

    Args:
        rules: what is asked, in this order.

    Attributes:
        rules: the same.
        identify: that of the first rule that has one: how users are identified.
        counts: whether any rule asks how many associations a caller has.
    """

    __slots__ = ("counts", "identify", "rules")

    def __init__(self, *rules: AdmissionRule) -> None:
        self.rules: tuple[AdmissionRule, ...] = rules
        asked = (getattr(rule, "identify", None) for rule in rules)
        self.identify: Callable[[UserIdentity, Caller], bool | bytes] | None = next(filter(None, asked), None)
        self.counts: bool = any(_counts(rule) for rule in rules)

    @classmethod
    def of(cls, policy: AcceptancePolicy) -> Admission:
        """The rules that an `AcceptancePolicy` says."""
        return cls(*_rules_of(policy))

    def with_rules(self, *rules: AdmissionRule) -> Admission:
        """These rules, and others behind them."""
        return Admission(*self.rules, *rules)

    def evaluate(self, request: AssociateRQ, caller: Caller, *, early: bool = False) -> Refusal | None:
        """The first objection of a rule; None where there is none.

        Args:
            request: the A-ASSOCIATE-RQ.
            caller: what is known of who sent it.
            early: leave out the rules that wait for the user's identity and the counts.
        """
        for rule in self.rules:
            if early and getattr(rule, "late", False):
                continue
            refusal = rule.evaluate(request, caller)
            if refusal is not None:
                return refusal
        return None


def evaluate(request: AssociateRQ, policy: AcceptancePolicy, caller: Caller | None = None) -> AssociateAC | AssociateRJ:
    """The acceptor's answer to a request, by a policy alone."""
    caller = caller or Caller()
    refusal = Admission.of(policy).evaluate(request, caller)
    if refusal is not None:
        return AssociateRJ(refusal.result, refusal.source, refusal.reason)
    return accept(request, policy, caller)


def _counts(rule: AdmissionRule) -> bool:
    return isinstance(rule, CallerLimits) or bool(getattr(rule, "counts", False))


def _rules_of(policy: AcceptancePolicy) -> Iterable[AdmissionRule]:
    yield SoundRequest()
    yield CalledTitle(frozenset() if policy.ae_title is None else frozenset({policy.ae_title}))
    if policy.certificates:
        yield Certificates(policy.certificates)
    listed = policy.calling_ae_titles
    if policy.anonymous_callers or (listed is None and not policy.certificates):
        yield CallingTitles()
    else:
        yield CallingTitles((listed or frozenset()).union(policy.certificates))
    if policy.associations_per_title is not None or policy.associations_per_host is not None:
        yield CallerLimits(policy.associations_per_title, policy.associations_per_host)
    if policy.identify is not None or policy.identity_required:
        yield UserIdentification(policy.identify, policy.identity_required)


def _is_title(text: str) -> bool:
    """Whether it is an AE title at all: not blank, nothing that could fool a log (PS3.8 Section 9.3.2)."""
    return bool(text) and text.isascii() and text.isprintable() and "\\" not in text
