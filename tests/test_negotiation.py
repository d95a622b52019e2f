"""Proposing and judging associations: what is asked, what is granted, what came of it."""

import itertools

import pytest
from cases import every
from driving import STANDARD
from hypothesis import given
from hypothesis import strategies as st

from dicomnet import uids
from dicomnet._pdu import (
    AssociateAC,
    AssociateRJ,
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
    UnknownItem,
    UserIdentityRQ,
    decode,
)
from dicomnet.errors import InvalidArgument
from dicomnet.protocol.admission import Admission, evaluate
from dicomnet.protocol.negotiation import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTED,
    MAX_CONTEXTS,
    NO_REASON,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    USER_REJECTION,
    AcceptancePolicy,
    Caller,
    NegotiationOptions,
    PresentationContext,
    ProposedContext,
    SecureLink,
    UserIdentity,
    extended_answers,
    identity_response,
    maximum_length,
    offers_window,
    operations_window,
    outcome,
    propose,
    user_identity,
)

CT, MR, VERIFICATION = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE, uids.VERIFICATION
IMPLICIT, EXPLICIT, BIG = (
    uids.IMPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_BIG_ENDIAN,
)
REJECTIONS = STANDARD["codes"]["reject"]["recommended_use"]


def request(*contexts: ProposedContext, called: str = "CALLED", calling: str = "CALLING", **changes) -> AssociateRQ:
    made = propose(contexts or [ProposedContext(CT, (EXPLICIT,))], calling=calling, called=called, max_pdu=16384)
    fields = {
        "called_ae_title": made.called_ae_title,
        "calling_ae_title": made.calling_ae_title,
        "presentation_contexts": made.presentation_contexts,
        "user_information": made.user_information,
    }
    return AssociateRQ(**fields | changes)


def rejection(code: str) -> AssociateRJ:
    """A rejection as ps38.json writes it, "1/1/7 …"."""
    return AssociateRJ(*map(int, REJECTIONS[code].split()[0].split("/")))


def results(answer: AssociateAC) -> list[tuple[int, int, str | None]]:
    return [(context.id, context.result, context.transfer_syntax) for context in answer.presentation_contexts]


# ---- proposing ----


def test_the_results_are_those_of_the_standard():
    named = [ACCEPTED, USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED]
    assert [str(result) for result in named] == list(STANDARD["codes"]["presentation_context_result"])


def test_a_proposal_numbers_its_contexts_and_says_who_we_are():
    made = propose(
        [ProposedContext(CT, (EXPLICIT, IMPLICIT)), ProposedContext(MR, (IMPLICIT,))],
        calling=" ME ",
        called="YOU",
        max_pdu=16384,
    )
    assert made == AssociateRQ(
        "YOU",
        "ME",
        [PresentationContextRQ(1, CT, [EXPLICIT, IMPLICIT]), PresentationContextRQ(3, MR, [IMPLICIT])],
        [
            MaximumLength(16384),
            ImplementationClassUID(uids.IMPLEMENTATION_CLASS_UID),
            ImplementationVersionName(uids.IMPLEMENTATION_VERSION_NAME),
        ],
    )
    assert decode(made.encode()) == made


@pytest.mark.parametrize("count", [1, 2, 127, 128])
def test_up_to_128_contexts_have_odd_and_unique_ids(count):
    contexts = [ProposedContext(f"1.2.{number}", (IMPLICIT,)) for number in range(count)]
    ids = [context.id for context in request(*contexts).presentation_contexts]
    assert ids == list(range(1, 2 * count, 2))
    assert max(ids) <= 255


@pytest.mark.parametrize(("count", "hint"), [(0, "makes the usual ones"), (MAX_CONTEXTS + 1, "Split them")])
def test_no_context_or_too_many(count, hint):
    with pytest.raises(InvalidArgument, match=f"1 to 128 .* {hint}"):
        propose([ProposedContext(CT, (IMPLICIT,))] * count, calling="A", called="B", max_pdu=0)


def test_a_context_without_a_transfer_syntax():
    with pytest.raises(InvalidArgument, match="CT Image Storage"):
        propose([ProposedContext(CT, ())], calling="A", called="B", max_pdu=0)


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", "A\n", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_an_ae_title_that_is_none(title):
    for titles in ({"calling": title, "called": "B"}, {"calling": "A", "called": title}):
        with pytest.raises(InvalidArgument):
            propose([ProposedContext(CT, (IMPLICIT,))], max_pdu=0, **titles)


# ---- judging ----


def test_contexts_are_judged_one_by_one():
    asked = request(
        ProposedContext(CT, (IMPLICIT, EXPLICIT)),
        ProposedContext(MR, (BIG,)),
        ProposedContext(VERIFICATION, (BIG, IMPLICIT)),
        ProposedContext("1.2.3", (IMPLICIT,)),
    )
    policy = AcceptancePolicy(
        abstract_syntaxes={CT: (EXPLICIT, IMPLICIT), MR: (EXPLICIT, IMPLICIT), VERIFICATION: ()}, max_pdu=4096
    )
    answer = evaluate(asked, policy)
    assert results(answer) == [
        (1, ACCEPTED, EXPLICIT),  # as the acceptor prefers
        (3, TRANSFER_SYNTAXES_NOT_SUPPORTED, BIG),
        (5, ACCEPTED, BIG),  # as the requestor prefers
        (7, ABSTRACT_SYNTAX_NOT_SUPPORTED, IMPLICIT),
    ]
    assert maximum_length(answer) == 4096
    assert (answer.called_ae_title, answer.calling_ae_title) == ("CALLED", "CALLING")
    assert decode(answer.encode()) == answer


def test_an_association_without_an_accepted_context_stands_so_that_the_requestor_learns_why():
    answer = evaluate(request(), AcceptancePolicy())
    assert results(answer) == [(1, ABSTRACT_SYNTAX_NOT_SUPPORTED, EXPLICIT)]


def test_unknown_abstract_syntaxes_are_taken_where_the_policy_says_so():
    policy = AcceptancePolicy(abstract_syntaxes={CT: (IMPLICIT,)}, unknown_abstract_syntaxes=True)
    answer = evaluate(request(ProposedContext("1.2.3", (BIG, IMPLICIT)), ProposedContext(CT, (EXPLICIT,))), policy)
    assert results(answer) == [(1, ACCEPTED, BIG), (3, TRANSFER_SYNTAXES_NOT_SUPPORTED, EXPLICIT)]


@pytest.mark.parametrize(
    ("policy", "asked", "code"),
    [
        (AcceptancePolicy(), {"application_context_name": "1.2.3"}, "bad application context"),
        (AcceptancePolicy(ae_title="OTHER"), {}, "wrong called AE"),
        (AcceptancePolicy(calling_ae_titles=frozenset({"FRIEND"})), {}, "unknown caller"),
        (AcceptancePolicy(calling_ae_titles=frozenset()), {}, "unknown caller"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rejections_are_those_that_the_standard_recommends(policy, asked, code):
    assert evaluate(request(**asked), policy) == rejection(code)


@pytest.mark.parametrize("called", ["ARCHIVE", " ARCHIVE", "ARCHIVE  "])
def test_spaces_around_an_ae_title_do_not_count(called):
    asked = decode(request(called_ae_title=called, calling_ae_title="  FRIEND ").encode())
    policy = AcceptancePolicy(ae_title="ARCHIVE", calling_ae_titles=frozenset({"FRIEND"}))
    assert isinstance(evaluate(asked, policy), AssociateAC)


@pytest.mark.parametrize("called", ["archive", "ARCHIV", "ARCHIVE2", "", "ARC HIVE"])
def test_everything_else_in_an_ae_title_does(called):
    policy = AcceptancePolicy(ae_title="ARCHIVE")
    assert evaluate(request(called_ae_title=called), policy) == rejection("wrong called AE")


TITLES_THAT_ARE_NONE = ["", "\0" * 16, "A\nB", "A\x1b[2J", "A\0B", "A\x7f", "A\\B", "\xc9VIL", "A\xff", "A\xa0"]


@pytest.mark.parametrize("text", TITLES_THAT_ARE_NONE)
def test_what_is_no_ae_title_is_rejected_also_by_who_takes_any(text):
    assert evaluate(request(called_ae_title=text), AcceptancePolicy()) == rejection("wrong called AE")
    assert evaluate(request(calling_ae_title=text), AcceptancePolicy()) == rejection("unknown caller")


@pytest.mark.parametrize("text", ["!", "A B", "16_CHARACTERS_ARE", "a*?/..:<>|"])
def test_any_other_ae_title_is_one(text):
    text = text[:16]
    answer = evaluate(request(called_ae_title=text, calling_ae_title=text), AcceptancePolicy())
    assert isinstance(answer, AssociateAC)


@pytest.mark.parametrize("announced", [*range(10), 16384, 0xFFFFFFFF])
def test_a_requestor_that_takes_no_data_is_rejected(announced):
    answer = evaluate(request(user_information=[MaximumLength(announced)]), AcceptancePolicy())
    assert isinstance(answer, AssociateRJ if 0 < announced < 8 else AssociateAC)


def test_what_is_not_known_in_the_user_information_is_no_reason_to_reject():
    asked = request(
        user_information=[
            UnknownItem(0x5A, b"?"),
            AsynchronousOperationsWindow(0, 0),
            UserIdentityRQ(1, b"somebody"),
            MaximumLength(16384),
        ]
    )
    answer = evaluate(asked, AcceptancePolicy(abstract_syntaxes={CT: ()}))
    assert results(answer) == [(1, ACCEPTED, EXPLICIT)]
    kinds = {type(item) for item in answer.user_information}
    assert kinds == {
        MaximumLength, ImplementationClassUID, ImplementationVersionName, AsynchronousOperationsWindow
    }  # fmt: skip


def test_a_maximum_length_that_is_not_announced_is_no_limit():
    assert maximum_length(request(user_information=[])) == 0
    assert maximum_length(request(user_information=[UnknownItem(0x5A, b""), MaximumLength(7)])) == 7


# ---- what came of it ----


def test_the_outcome_names_every_context_that_was_proposed():
    asked = request(*(ProposedContext(CT, (EXPLICIT, IMPLICIT)) for _ in range(6)))
    answer = AssociateAC(
        "A",
        "B",
        [
            PresentationContextAC(1, ACCEPTED, IMPLICIT),
            PresentationContextAC(3, ACCEPTED, BIG),  # not offered
            PresentationContextAC(5, USER_REJECTION, EXPLICIT),
            PresentationContextAC(7, TRANSFER_SYNTAXES_NOT_SUPPORTED),
            PresentationContextAC(255, ACCEPTED, IMPLICIT),  # not proposed
        ],
        [],
    )
    offered = (EXPLICIT, IMPLICIT)
    found = outcome(asked, answer)
    assert found == {
        1: PresentationContext(1, CT, IMPLICIT, ACCEPTED, offered),
        3: PresentationContext(3, CT, "", TRANSFER_SYNTAXES_NOT_SUPPORTED, offered),
        5: PresentationContext(5, CT, "", USER_REJECTION, offered),
        7: PresentationContext(7, CT, "", TRANSFER_SYNTAXES_NOT_SUPPORTED, offered),
        9: PresentationContext(9, CT, "", NO_REASON, offered),
        11: PresentationContext(11, CT, "", NO_REASON, offered),
    }
    assert [context.accepted for context in found.values()] == [True] + [False] * 5


SYNTAXES = st.lists(st.sampled_from([IMPLICIT, EXPLICIT, BIG]), min_size=1, max_size=3, unique=True).map(tuple)
CLASSES = st.sampled_from([CT, MR, VERIFICATION, "1.2.3"])


@given(
    st.lists(st.builds(ProposedContext, CLASSES, SYNTAXES, st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.fixed_dictionaries(
        {
            "abstract_syntaxes": st.dictionaries(CLASSES, SYNTAXES | st.just(())),
            "requestor_as_scp": st.frozensets(CLASSES),
            "unknown_abstract_syntaxes": st.booleans(),
        }
    ).map(lambda given: AcceptancePolicy(**given)),
)
def test_nothing_is_granted_that_was_not_offered_and_both_sides_agree(proposed, policy):
    asked = decode(request(*proposed).encode())
    answer = decode(evaluate(asked, policy).encode())
    found = outcome(asked, answer)
    assert list(found) == [context.id for context in asked.presentation_contexts]
    for context, offer in zip(found.values(), proposed, strict=True):
        if context.accepted:
            assert context.transfer_syntax in offer.transfer_syntaxes
            wanted = policy.abstract_syntaxes.get(context.abstract_syntax)
            assert wanted is None or wanted == () or context.transfer_syntax in wanted
        if context.scp:
            assert any(other.scp for other in proposed if other.abstract_syntax == context.abstract_syntax)
            assert context.abstract_syntax in policy.requestor_as_scp
        if not context.scu:
            assert not all(other.scu and not other.scp for other in proposed)


# ---- roles (PS3.7 Annex D.3.3.4) ----

BOTH = list(itertools.product([False, True], repeat=2))


@pytest.mark.parametrize("offered", BOTH)
@pytest.mark.parametrize("granted", [None, *BOTH])
def test_roles_are_what_was_offered_and_granted(offered, granted):
    asked = request(ProposedContext(CT, (EXPLICIT,), *offered))
    items = [] if granted is None else [RoleSelection(CT, *granted)]
    found = outcome(asked, AssociateAC("A", "B", [PresentationContextAC(1, 0, EXPLICIT)], items))[1]
    if granted is None or offered == (True, False):
        assert (found.scu, found.scp) == (True, False), "the default holds unless both name other roles"
    else:
        assert (found.scu, found.scp) == (offered[0] and granted[0], offered[1] and granted[1])


def test_roles_are_proposed_once_for_each_class_and_only_where_they_are_not_the_default():
    asked = request(
        ProposedContext(CT, (EXPLICIT,), scu=False, scp=True),
        ProposedContext(CT, (IMPLICIT,)),
        ProposedContext(MR, (IMPLICIT,), scu=False, scp=True),
        ProposedContext(VERIFICATION, (IMPLICIT,)),
    )
    roles = [item for item in asked.user_information if isinstance(item, RoleSelection)]
    assert roles == [RoleSelection(CT, True, True), RoleSelection(MR, False, True)]


def test_the_acceptor_grants_what_its_policy_wants():
    asked = request(
        ProposedContext(CT, (EXPLICIT,), scu=True, scp=True), ProposedContext(MR, (EXPLICIT,), scu=True, scp=True)
    )
    policy = AcceptancePolicy(abstract_syntaxes={MR: ()}, requestor_as_scp=frozenset({CT}))
    answer = evaluate(asked, policy)
    roles = [item for item in answer.user_information if isinstance(item, RoleSelection)]
    assert roles == [RoleSelection(CT, False, True), RoleSelection(MR, True, False)]
    assert [result for _, result, _ in results(answer)] == [ACCEPTED, ACCEPTED]


def test_roles_that_nobody_asked_for_are_not_answered():
    answer = evaluate(request(), AcceptancePolicy(abstract_syntaxes={CT: ()}, requestor_as_scp=frozenset({CT})))
    assert not any(isinstance(item, RoleSelection) for item in answer.user_information)


class TestExtras:
    """What travels beside the contexts: operations window, extended negotiation, user identity (PS3.7 Annex D.3.3)."""

    WINDOWS = [0, 1, 2, 7, 65535]

    def negotiate(self, extras, policy=None, caller=None):
        asked = propose([ProposedContext(CT, (EXPLICIT,))], calling="A", called="B", max_pdu=16384, extras=extras)
        answer = evaluate(decode(asked.encode()), policy or AcceptancePolicy(abstract_syntaxes={CT: ()}), caller)
        return asked, decode(answer.encode())

    def test_nothing_is_proposed_unless_asked_for(self):
        asked, answer = self.negotiate(None)
        kinds = {MaximumLength, ImplementationClassUID, ImplementationVersionName}
        assert {type(item) for item in (*asked.user_information, *answer.user_information)} == kinds
        assert operations_window(asked, answer) == (1, 1)
        assert extended_answers(asked, answer) == {}
        assert identity_response(answer) is None
        assert operations_window(None, None) == (1, 1)

    @every("asked, ours", list(itertools.product(WINDOWS, WINDOWS)))
    def test_the_window_is_only_lowered(self, asked, ours):
        policy = AcceptancePolicy(abstract_syntaxes={CT: ()}, operations_window=(ours, 3))
        request, answer = self.negotiate(NegotiationOptions(operations_window=(asked, 0)), policy)
        invoked, performed = operations_window(request, answer)
        smaller = min((asked or 99999, ours or 99999))
        assert invoked == (0 if smaller == 99999 else smaller)
        assert performed == 3

    @pytest.mark.parametrize(("asked", "agreed"), [(4, 4), (16, 16), (64, 16), (0, 16)])
    def test_a_provider_grants_sixteen_unless_told_otherwise(self, asked, agreed):
        assert operations_window(*self.negotiate(NegotiationOptions(operations_window=(asked, 0)))) == (agreed, 1)

    def test_one_at_a_time_is_not_even_proposed(self):
        asked, _ = self.negotiate(NegotiationOptions(operations_window=(1, 1)))
        assert not offers_window(asked)
        assert not offers_window(None)
        assert offers_window(self.negotiate(NegotiationOptions(operations_window=(1, 2)))[0])

    def test_a_window_that_was_raised_is_not_believed(self):
        asked, _ = self.negotiate(NegotiationOptions(operations_window=(4, 1)))
        lie = AssociateAC("B", "A", (PresentationContextAC(1, 0, EXPLICIT),), (AsynchronousOperationsWindow(0, 9),))
        assert operations_window(asked, lie) == (4, 1)
        assert operations_window(request(), lie) == (1, 1), "nobody asked"

    @given(st.binary(max_size=8), st.binary(max_size=8))
    def test_extended_negotiation_grants_nothing_that_was_not_offered(self, offered, supported):
        policy = AcceptancePolicy(abstract_syntaxes={CT: ()}, extended={CT: supported})
        asked, answer = self.negotiate(NegotiationOptions(extended={CT: offered, MR: b"\1"}), policy)
        granted = extended_answers(asked, answer)
        assert granted.keys() == {CT}
        assert len(granted[CT]) <= len(offered)
        assert all(
            got & ~(wanted & ours) == 0 for got, wanted, ours in zip(granted[CT], offered, supported, strict=False)
        )

    def test_extended_answers_that_were_not_asked_for_are_dropped(self):
        asked, _ = self.negotiate(NegotiationOptions(extended={CT: b"\1"}))
        lie = AssociateAC(
            "B", "A", (PresentationContextAC(1, 0, EXPLICIT),),
            (SOPClassExtendedNegotiation(MR, b"\1"), SOPClassExtendedNegotiation(CT, b"\0")),
        )  # fmt: skip
        assert extended_answers(asked, lie) == {CT: b"\0"}

    PRIVATE, STORAGE_SERVICE = "1.2.826.0.1.3680043.9.9999.1", "1.2.840.10008.4.2"

    @pytest.mark.parametrize(
        ("related", "policy", "result"),
        [
            ((STORAGE_SERVICE, ()), {}, ABSTRACT_SYNTAX_NOT_SUPPORTED),
            ((STORAGE_SERVICE, ()), {"service_classes": frozenset({STORAGE_SERVICE})}, ACCEPTED),
            (("1.2.3", (CT,)), {}, ACCEPTED),
            (("1.2.3", (MR,)), {}, ABSTRACT_SYNTAX_NOT_SUPPORTED),
            (("1.2.3", (MR, CT)), {}, ACCEPTED),
        ],
    )
    def test_unknown_classes_of_a_known_kind(self, related, policy, result):
        asked = propose(
            [ProposedContext(self.PRIVATE, (EXPLICIT,))], calling="A", called="B", max_pdu=16384,
            extras=NegotiationOptions(related={self.PRIVATE: related}),
        )  # fmt: skip
        answer = evaluate(decode(asked.encode()), AcceptancePolicy(abstract_syntaxes={CT: ()}, **policy))
        assert [context.result for context in answer.presentation_contexts] == [result]
        assert not [item for item in answer.user_information if isinstance(item, SOPClassCommonExtendedNegotiation)]


IDENTITIES = [
    UserIdentity.named("jane"),
    UserIdentity.named("jane", "secret-word"),
    UserIdentity(3, b"secret-word"),
    UserIdentity(4, b"<secret-word/>"),
    UserIdentity(5, b"secret-word.b.c"),
]


class TestIdentity:
    @every("identity", IDENTITIES)
    @every("confirm", [False, True])
    @every("verdict", [True, b"ticket", b"", False, None])
    def test_all_types_and_verdicts(self, identity, confirm, verdict):
        identity = identity._replace(confirm=confirm)
        asked = decode(
            propose(
                [ProposedContext(CT, (EXPLICIT,))],
                calling="A",
                called="B",
                max_pdu=0,
                extras=NegotiationOptions(identity=identity),
            ).encode()
        )
        assert user_identity(asked) == identity
        policy = AcceptancePolicy(abstract_syntaxes={CT: ()}, identify=lambda *_: True)
        answer = evaluate(asked, policy, Caller(verdict=verdict))
        if verdict is False or verdict is None:
            assert answer == rejection("bad user identity")
            return
        expected = verdict if isinstance(verdict, bytes) else b""
        assert identity_response(decode(answer.encode())) == (expected if confirm else None)

    def test_identities_that_nobody_judges(self):
        asked = propose(
            [ProposedContext(CT, (EXPLICIT,))], calling="A", called="B", max_pdu=0,
            extras=NegotiationOptions(identity=IDENTITIES[1]._replace(confirm=True)),
        )  # fmt: skip
        answer = evaluate(asked, AcceptancePolicy(abstract_syntaxes={CT: ()}))
        assert isinstance(answer, AssociateAC)
        assert identity_response(answer) is None

    def test_who_does_not_say_who_they_are(self):
        open_policy = AcceptancePolicy(identify=lambda *_: True)
        assert isinstance(evaluate(request(), open_policy), AssociateAC)
        assert isinstance(evaluate(request(), open_policy._replace(identity_required=True)), AssociateRJ)

    @pytest.mark.parametrize("identity", IDENTITIES[1:], ids=lambda one: str(one.type))
    def test_secrets_do_not_show(self, identity):
        options = NegotiationOptions(identity=identity)
        shown = repr(identity) + repr(options) + repr(options.items())
        shown += repr(Caller(verdict=b"secret-word"))
        assert "secret" not in shown
        assert ("jane" in shown) == (identity.type == 2)


class TestWhoMayCall:
    LINK = SecureLink("TLSv1.3", "x", b"der", "f" * 64, "CN=x", ("ws1.local",))

    def answer(self, policy, calling="WS1", **caller):
        return evaluate(request(calling=calling), policy, Caller(**caller))

    @pytest.mark.parametrize("wanted", ["f" * 64, "ws1.local"])
    def test_titles_are_bound_to_certificates(self, wanted):
        policy = AcceptancePolicy(certificates={"WS1": frozenset({wanted, "other"})})
        assert isinstance(self.answer(policy, tls=self.LINK), AssociateAC)
        for link in (None, SecureLink("TLSv1.3", "x"), SecureLink("TLSv1.3", "x", b"d", "e" * 64, "", ("ws2.local",))):
            assert self.answer(policy, tls=link) == AssociateRJ(1, 1, 3)

    @pytest.mark.parametrize("listed", [None, frozenset({"WS1"})])
    def test_a_list_does_not_free_from_the_certificate(self, listed):
        policy = AcceptancePolicy(certificates={"WS1": frozenset({"x"})}, calling_ae_titles=listed)
        assert self.answer(policy, tls=self.LINK) == AssociateRJ(1, 1, 3)

    def test_anonymous_callers(self):
        for fields in ({"certificates": {"WS1": frozenset({"x"})}}, {"calling_ae_titles": frozenset({"WS1"})}):
            policy = AcceptancePolicy(**fields)
            assert self.answer(policy, "WS9") == AssociateRJ(1, 1, 3)
            assert isinstance(self.answer(policy._replace(anonymous_callers=True), "WS9"), AssociateAC)

    @pytest.mark.parametrize("field", ["title", "host"])
    def test_limits(self, field):
        policy = AcceptancePolicy(**{f"associations_per_{field}": 2})
        assert isinstance(self.answer(policy, **{f"same_{field}": 1}), AssociateAC)
        assert self.answer(policy, **{f"same_{field}": 2}) == AssociateRJ(2, 3, 2)
        assert Admission.of(policy).counts
        assert not Admission.of(AcceptancePolicy()).counts

    def test_preferred_transfer_syntaxes(self):
        policy = AcceptancePolicy(
            abstract_syntaxes={CT: (), MR: (IMPLICIT,)},
            transfer_syntaxes=(BIG, EXPLICIT),
            unknown_abstract_syntaxes=True,
        )
        asked = request(
            ProposedContext(CT, (IMPLICIT, EXPLICIT)),
            ProposedContext(MR, (EXPLICIT, IMPLICIT)),
            ProposedContext("1.2.3", (IMPLICIT,)),
        )
        assert [syntax for _, _, syntax in results(evaluate(asked, policy))] == [EXPLICIT, IMPLICIT, IMPLICIT]


# ---- T-UID ---------------------------------------------------------------------------------------------------------

NOT_UIDS = [
    "", "1", "0", ".", "..", "1.", ".1", "1..2", "1.2.", "1.2..3", "01.2", "1.02", "1.2.00", "1.2.03.4", "00.1",
    "1.2 .3", "1. 2", " 1.2", "1.2\t", "1.2\n", "1.2\r\n", "1.2\x003", "1,2", "1.2,3", "1-2", "-1.2", "+1.2", "1.2e3",
    "1.2.x", "x",
    "1.2.840.10008.1.1a", "../1.2", "1.2/../3", "/1.2", "C:\\1.2", "con", "1.2.3;4", "1.2%00", "1.2." + "3" * 61,
    "1.2?", "2.25." + "9" * 60, "1." * 33, "1.2*", "1.2\\1.3",
]  # fmt: skip


@every("uid", NOT_UIDS)
def test_t_uid_what_is_no_uid_is_neither_granted_nor_proposed(uid):
    good, anything = uids.IMPLICIT_VR_LITTLE_ENDIAN, AcceptancePolicy(unknown_abstract_syntaxes=True)
    assert not uids.is_valid(uid)
    for context, result in (((uid, [good]), 3), (("1.2.3", [uid]), 4), (("1.2.3", [uid, good]), 0)):
        asked = AssociateRQ("A", "B", [PresentationContextRQ(1, *context)], [MaximumLength(16384)])
        (answer,) = evaluate(asked, anything).presentation_contexts
        assert answer.result == result
        assert result or answer.transfer_syntax == good
        with pytest.raises(InvalidArgument, match="not a UID"):
            propose([ProposedContext(*context)], calling="A", called="B", max_pdu=16384)


def test_t_uid_there_are_more_than_40_of_them():
    assert len(set(NOT_UIDS)) >= 40
