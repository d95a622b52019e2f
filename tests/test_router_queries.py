"""What a router is asked for: passed on to the peer that a rule names, and what rules have done beside that."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import archives
import pytest
from routers import address, eventually, part10, routing, send, settled

import dicomnet as dn
from dicomnet import Entity, uids
from dicomnet.archive.archive import Archive
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.dataset import codec
from dicomnet.errors import ServiceFailure
from dicomnet.protocol.negotiation import NegotiationOptions
from dicomnet.router import queries
from dicomnet.router.extended import granted
from dicomnet.router.plan import Plan, PlanInvalid
from dicomnet.router.queries import NOBODY_ASKED
from dicomnet.router.samples import Sender, outcome_of, sample_message
from dicomnet.router.spool import Spool
from dicomnet.services import scu
from dicomnet.status import Status
from dicomnet.testing import Provider

MODELS = (
    uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
    uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE, uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
)  # fmt: skip
QUERIES = '[[rules]]\nname = "queries"\non = "query"\nactions = [{ do = "ask", source = "PACS" }]\n'
RETRIEVES = QUERIES.replace('"queries"', '"retrieves"').replace('"query"', '"retrieve"')


@pytest.fixture
def station():
    with Provider("WS") as station:
        yield station


@pytest.fixture
def other():
    with Provider("OTHER") as other:
        yield other


@pytest.fixture
def pacs(tmp_path, station, other):
    """An archive with three studies of a patient and one of another."""
    directory = tmp_path / "archive"
    settings = ArchiveSettings.make(directory, port=0, durability="os")
    settings = replace(settings, destinations={one.ae_title: Entity.parse(one.peer) for one in (station, other)})
    archive = Archive(directory, settings)
    archive.holdings.intake.store([
        archives.an_incoming(number, study=study, PatientID=patient, StudyDate=date, Modality=modality)
        for number, study, patient, date, modality in (
            (1, 2, "P1", "20260101", "CT"), (2, 2, "P1", "20260101", "CT"), (1, 3, "P1", "20260201", "CT"),
            (1, 4, "P1", "20260301", "MR"), (1, 5, "P2", "20260101", "CT"),
        )
    ])  # fmt: skip
    with archive:
        yield archive


def to_pacs(archive, *rules):
    return "[destinations.PACS]\n" + address(f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}") + "\n" + "".join(rules)


def asking(router, calling="WS", models=MODELS):
    peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
    return dn.connect(peer, calling=calling, contexts=dn.contexts.sop_classes(*models))


def rule(name, on, action, **more):
    lines = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'[[rules]]\nname = "{name}"\non = "{on}"\nactions = [{{ {action} }}]\n{lines}'


class TestPassedOn:
    def test_a_query_is_answered_by_the_peer_that_a_rule_names(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs, QUERIES)) as router, asking(router) as association:
            found = list(association.find("STUDY", PatientID="P1", returning=["StudyDate"]))
            assert sorted(one.StudyDate for one in found) == ["20260101", "20260201", "20260301"]
            assert router.spool.queue.items() == [], "what is only answered is not kept"

    def test_a_query_that_is_left_is_cancelled_there_and_the_association_goes_on(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs, QUERIES)) as router, asking(router) as association:
            found = association.find("STUDY", PatientID="P1")
            next(found)
            found.close()
            assert [one.StudyInstanceUID for one in association.find("STUDY", PatientID="P2")] == ["1.2.5"]

    def test_a_retrieve_is_sent_by_that_peer_and_its_counts_come_back(self, tmp_path, pacs, station):
        with routing(tmp_path, to_pacs(pacs, RETRIEVES)) as router, asking(router) as association:
            steps = []
            done = association.move("STUDY", destination="WS", StudyInstanceUID="1.2.2", progress=steps.append)
            assert (done.status, done.completed, done.failed) == (Status.SUCCESS, 2, 0)
            assert all(one.status.is_pending for one in steps)
            assert [one.sop_instance_uid for one in station.received] == ["1.2.2.1.1", "1.2.2.1.2"]

    def test_what_the_peer_refuses_is_refused_in_its_words(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs, QUERIES, RETRIEVES)) as router, asking(router) as association:
            with pytest.raises(ServiceFailure) as caught:
                association.move("STUDY", destination="NOWHERE", StudyInstanceUID="1.2.2")
            assert caught.value.status == Status.MOVE_DESTINATION_UNKNOWN
            assert association.established

    def test_instances_that_the_peer_could_not_send_are_named(self, tmp_path, pacs, station):
        station.status = 0xC000
        with routing(tmp_path, to_pacs(pacs, RETRIEVES)) as router, asking(router) as association:
            done = association.move("STUDY", destination="WS", StudyInstanceUID="1.2.3")
            assert (done.failed, done.failed_uids) == (1, ["1.2.3.1.1"])

    def test_a_peer_that_is_away_is_said_to_be(self, tmp_path):
        rules = "[destinations.PACS]\n" + address("ARCHIVE@127.0.0.1:1") + "\n" + QUERIES + RETRIEVES
        with routing(tmp_path, rules) as router, asking(router) as association:
            with pytest.raises(ServiceFailure, match="PACS cannot be asked") as query:
                list(association.find("STUDY", PatientID="P1"))
            assert query.value.status == Status.UNABLE_TO_PROCESS
            with pytest.raises(ServiceFailure, match="PACS cannot be asked") as retrieve:
                association.move("STUDY", destination="WS", StudyInstanceUID="1.2.2")
            assert retrieve.value.status == Status.UNABLE_TO_PERFORM_SUB_OPERATIONS

    def test_the_title_of_who_asks_is_passed_on_where_that_is_wanted(self, tmp_path):
        asked = []
        listener = dn.sync.Listener("ARCHIVE", port=0)
        listener.on_find(lambda request: asked.append((request.calling, request.level)))
        with listener:
            peer = address(f"ARCHIVE@127.0.0.1:{listener.address[1]}", "pass_calling = true")
            with routing(tmp_path, f"[destinations.PACS]\n{peer}\n{QUERIES}") as router, asking(router) as association:
                assert list(association.find("STUDY", PatientID="P1")) == []
        assert asked == [("WS", "STUDY")]


class TestDestinationsThatAreNotOpen:
    """What holds for what is sent holds for who is asked, too: `active` and `between` of the destination."""

    @staticmethod
    def closed(how):
        if how == "active":
            return "active = false"
        hour = (datetime.now().hour + 2) % 24
        return f'between = {{ start = "{hour:02}:00", end = "{hour:02}:59" }}'

    @pytest.mark.parametrize("how", ["active", "between"])
    def test_it_is_not_asked_and_who_asks_is_told(self, tmp_path, pacs, how):
        rules = to_pacs(pacs, self.closed(how), "\n", QUERIES, RETRIEVES)
        with routing(tmp_path, rules) as router, asking(router) as association:
            with pytest.raises(ServiceFailure, match="PACS is not to be asked now") as query:
                list(association.find("STUDY", PatientID="P1"))
            assert query.value.status == Status.UNABLE_TO_PROCESS
            with pytest.raises(ServiceFailure, match="PACS is not to be asked now") as retrieve:
                association.move("STUDY", destination="WS", StudyInstanceUID="1.2.2")
            assert retrieve.value.status == Status.UNABLE_TO_PERFORM_SUB_OPERATIONS
            assert association.established

    def test_the_next_rule_that_fires_says_who_is_asked_instead(self, tmp_path, pacs):
        closed = "[destinations.OLD]\n" + address("OLD@127.0.0.1:1", "active = false") + "\n"
        rules = closed + to_pacs(pacs, QUERIES.replace("PACS", "OLD").replace("queries", "first"), QUERIES)
        with routing(tmp_path, rules) as router, asking(router) as association:
            assert [one.StudyInstanceUID for one in association.find("STUDY", PatientID="P2")] == ["1.2.5"]
            facts = sample_message("query", {"PatientID": "P2"}, Sender()).facts
            explained = outcome_of(router.spool.plans.current[1], facts)
        assert explained == ['answered by PACS by "queries"']

    def test_what_is_explained_says_so(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs, "active = false\n", QUERIES)) as router:
            plan = router.spool.plans.current[1]
            assert outcome_of(plan, sample_message("query", {"PatientID": "P2"}, Sender()).facts) == [
                "refused: PACS is not to be asked now"
            ]


class TestExtendedNegotiation:
    FIND, MOVE = MODELS[:2]
    OFFERED = NegotiationOptions(extended={FIND: b"\1\1\1\1", MOVE: b"\1"})

    def asking(self, router):
        peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
        return dn.connect(peer, calling="WS", contexts=dn.contexts.sop_classes(*MODELS), extras=self.OFFERED)

    def test_what_peers_grant_is_granted_and_asked_for(self, tmp_path, pacs, station):
        extended = 'extended = ["relational", "combined", "timezone"]\n'
        with (
            routing(tmp_path, to_pacs(pacs, extended, QUERIES, RETRIEVES)) as router,
            self.asking(router) as association,
        ):
            assert association.extended == {self.FIND: b"\1\1\0\1", self.MOVE: b"\1"}
            found = association.find("IMAGE", PatientID="P1", SOPInstanceUID="1.2.2.1.2")  # neither study nor series
            assert [one.SOPInstanceUID for one in found] == ["1.2.2.1.2"]
            done = association.move("IMAGE", destination="WS", SOPInstanceUID="1.2.2.1.2")
            assert (done.status, done.completed) == (Status.SUCCESS, 1)

    def test_who_does_not_ask_for_it_is_answered_without_it(self, tmp_path, pacs):
        extended = 'extended = ["relational"]\n'
        with routing(tmp_path, to_pacs(pacs, extended, QUERIES)) as router, asking(router) as association:
            assert association.extended == {}
            with pytest.raises(ServiceFailure) as caught:
                list(association.find("IMAGE", PatientID="P1", SOPInstanceUID="1.2.2.1.2"))
            assert caught.value.status == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS

    def test_what_is_not_said_of_a_peer_is_not_granted(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs, QUERIES)) as router, self.asking(router) as association:
            assert not any(association.extended.get(self.FIND, b""))
            assert len(list(association.find("STUDY", PatientID="P1"))) == 3

    def test_a_peer_that_grants_less_than_was_said_is_not_asked(self, tmp_path, pacs, caplog):
        extended = 'extended = ["fuzzy"]\n'
        with routing(tmp_path, to_pacs(pacs, extended, QUERIES)) as router, self.asking(router) as association:
            assert association.extended[self.FIND] == b"\0\0\1\0"
            with pytest.raises(ServiceFailure, match="PACS does not grant: fuzzy") as caught:
                list(association.find("STUDY", PatientName="Yamada"))
            assert caught.value.status == Status.UNABLE_TO_PROCESS
        assert "PACS does not answer a C-FIND that is passed on" in caplog.text

    def test_rules_that_are_saved_while_it_runs_grant_others_to_the_next_who_comes(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs, QUERIES)) as router:
            for names, expected in ((["relational"], b"\1\0\0\0"), (["timezone"], b"\0\0\0\1"), ([], b"")):
                rules = to_pacs(pacs, f"extended = {names}\n", QUERIES)
                (tmp_path / "rules.toml").write_text(rules.replace("'", '"'))
                router.look()
                with self.asking(router) as association:
                    assert association.extended.get(self.FIND, b"") == expected

    @pytest.mark.parametrize(("trigger", "others", "expected"), [
        ("query", ["relational", "combined", "fuzzy", "timezone"], b"\1\0\1\0"),
        ("query", ["combined"], b""),
        ("worklist query", ["fuzzy"], b"\1\1\1\0"),
        ("worklist query", ["relational"], b""),
        ("retrieve", ["relational"], b"\1"),
        ("retrieve", ["fuzzy"], b""),
    ])  # fmt: skip
    def test_it_is_what_all_peers_have_in_common(self, trigger, others, expected):
        peers = {"A": ["relational", "fuzzy"], "B": others}
        destinations = {name: {"address": f"{name}@127.0.0.1:1", "extended": each} for name, each in peers.items()}
        rules = [{"name": name, "on": trigger, "actions": [{"do": "ask", "source": name}]} for name in peers]
        plan = Plan.read({"destinations": destinations, "rules": rules})
        assert granted(plan, trigger) == expected


class TestNotAnswered:
    def test_what_no_rule_is_about_is_not_performed(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs)) as router, asking(router) as association:
            with pytest.raises(ServiceFailure) as caught:
                list(association.find("STUDY", PatientID="P1"))
            assert caught.value.status == Status.SOP_CLASS_NOT_SUPPORTED

    def test_rules_that_are_saved_while_it_runs_offer_it_to_the_next_who_comes(self, tmp_path, pacs):
        with routing(tmp_path, to_pacs(pacs)) as router:
            router.spool.plans.path.write_text(to_pacs(pacs, QUERIES))
            router.look()
            with asking(router) as association:
                assert len(list(association.find("STUDY", PatientID="P1"))) == 3

    def test_who_no_rule_lets_ask_is_told_so(self, tmp_path, pacs):
        only = QUERIES + 'when = { field = "calling", equals = "WS" }\n'
        with routing(tmp_path, to_pacs(pacs, only)) as router:
            with asking(router) as association:
                assert len(list(association.find("STUDY", PatientID="P1"))) == 3
            with asking(router, "ELSE") as association, pytest.raises(ServiceFailure, match="no rule says") as caught:
                list(association.find("STUDY", PatientID="P1"))
            assert int(caught.value.status) == NOBODY_ASKED

    def test_two_routers_that_point_at_each_other_do_not_ask_for_ever(self, tmp_path, pacs):
        refused = pytest.raises(ServiceFailure, match="a loop")
        with routing(tmp_path, to_pacs(pacs, QUERIES)) as router, asking(router, "ARCHIVE") as association, refused:
            list(association.find("STUDY", PatientID="P1"))

    @pytest.mark.parametrize(("on", "ask"), [
        ("query", lambda association: list(association.find("STUDY", PatientID="P1"))),
        ("retrieve", lambda association: association.move("STUDY", destination="WS", StudyInstanceUID="1.2.2")),
    ])  # fmt: skip
    def test_what_comes_back_with_the_title_of_who_asked_first_does_not_go_round_for_ever(self, tmp_path, on, ask):
        with routing(tmp_path, "") as router:
            peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
            itself = "[destinations.PACS]\n" + address(peer, "pass_calling = true") + "\n"
            (tmp_path / "rules.toml").write_text(itself + rule("round", on, 'do = "ask", source = "PACS"'))
            router.look()
            with asking(router) as association, pytest.raises(ServiceFailure, match="a loop") as caught:
                ask(association)
            assert int(caught.value.status) == NOBODY_ASKED
            assert not router.queries._under_way

    def test_an_identifier_that_does_not_fit_is_refused(self, tmp_path, pacs):
        wrong = codec.from_keywords({"QueryRetrieveLevel": "FRAME", "PatientID": "P1"})
        with routing(tmp_path, to_pacs(pacs, QUERIES)) as router, asking(router) as association:
            context = next(one for one in association.contexts.values() if one.abstract_syntax == MODELS[0])
            flow = scu.find(association._exchange, context, codec.encode(wrong, context.transfer_syntax))
            answer = association._requestor.results(flow)
            with pytest.raises(StopIteration) as caught:
                next(answer)
            assert int(caught.value.value) == 0xA900


class TestBeside:
    def test_earlier_studies_are_sent_to_who_asks_for_a_patient_once(self, tmp_path, pacs, station):
        priors = rule("priors", "query", 'do = "prefetch", source = "PACS", same_modality = false, most = 2')
        with routing(tmp_path, to_pacs(pacs, QUERIES, priors)) as router, asking(router) as association:
            for _ in range(2):
                assert len(list(association.find("STUDY", PatientID="P1"))) == 3
            assert settled(router) == {"PACS": {"sent": 1}}
            [done] = router.spool.queue.items()
            assert (done.message, done.why) == ("C-FIND", "2 of 3 earlier studies sent to WS")
            assert {one.sop_instance_uid for one in station.received} == {"1.2.4.1.1", "1.2.3.1.1"}

    def test_a_query_for_anyone_has_nothing_sent(self, tmp_path, pacs):
        priors = rule("priors", "query", 'do = "prefetch", source = "PACS"')
        with routing(tmp_path, to_pacs(pacs, QUERIES, priors)) as router, asking(router) as association:
            assert len(list(association.find("STUDY", PatientID="P*"))) == 4
            assert router.spool.queue.items() == []

    def test_a_retrieve_has_the_study_sent_elsewhere_too_and_earlier_ones_of_its_patient(
        self, tmp_path, pacs, station, other
    ):
        beside = rule("copy", "retrieve", 'do = "retrieve", source = "PACS", to = "OTHER"',
                      when='{ field = "destination", equals = "WS" }')  # fmt: skip
        priors = rule("priors", "retrieve", 'do = "prefetch", source = "PACS"')
        with routing(tmp_path, to_pacs(pacs, RETRIEVES, beside, priors)) as router, asking(router) as association:
            association.move("STUDY", destination="WS", StudyInstanceUID="1.2.3")
            assert settled(router) == {"PACS": {"sent": 2}}
            whys = sorted(one.why for one in router.spool.queue.items())
            assert whys == ["1 of 1 earlier studies sent to WS", "the study sent to OTHER"]
            assert [one.sop_instance_uid for one in other.received] == ["1.2.3.1.1"]
            assert {one.sop_instance_uid for one in station.received} == {"1.2.3.1.1", "1.2.2.1.1", "1.2.2.1.2"}

    def test_what_a_patient_has_is_retrieved_whole(self, tmp_path, pacs, other):
        beside = rule("copy", "retrieve", 'do = "retrieve", source = "PACS", to = "OTHER"')
        with routing(tmp_path, to_pacs(pacs, RETRIEVES, beside)) as router, asking(router) as association:
            association.move("PATIENT", model="PATIENT_ROOT", destination="WS", PatientID="P2")
            assert settled(router) == {"PACS": {"sent": 1}}
            assert [one.sop_instance_uid for one in other.received] == ["1.2.5.1.1"]

    def test_the_study_that_a_viewer_looks_into_is_sent_before_it_is_asked_for(self, tmp_path, pacs, other):
        beside = rule("fetch", "query", 'do = "retrieve", source = "PACS", to = "WS"')
        with routing(tmp_path, to_pacs(pacs, QUERIES, beside)) as router, asking(router, "VIEWER") as association:
            list(association.find("SERIES", StudyInstanceUID="1.2.2"))
            assert settled(router) == {"PACS": {"sent": 1}}
            assert router.spool.queue.items()[0].why == "the study sent to WS"

    def test_what_waits_survives_a_restart(self, tmp_path, pacs, station):
        priors = rule("priors", "query", 'do = "prefetch", source = "AWAY", to = "WS", same_modality = false')
        away = "[destinations.AWAY]\n" + address("ARCHIVE@127.0.0.1:1") + "\n"
        with routing(tmp_path, away + to_pacs(pacs, QUERIES, priors)) as router, asking(router) as association:
            list(association.find("STUDY", PatientID="P1"))
        with Spool(tmp_path) as spool:
            assert [one.destination for one in spool.queue.items()] == ["AWAY"]
        here = to_pacs(pacs).replace("PACS", "AWAY")
        with routing(tmp_path, here + to_pacs(pacs, QUERIES, priors)) as router:
            assert eventually(router, {"AWAY": {"sent": 1}})
            assert len(station.received) == 4
            with asking(router) as association:  # a day has not passed: the queue knows
                list(association.find("STUDY", PatientID="P1"))
            assert settled(router) == {"AWAY": {"sent": 1}, "": {"dropped": 1}}


class TestWorklist:
    @pytest.fixture
    def ris(self):
        """A worklist of two patients, one of whom comes for a CT."""
        items = [
            {
                "PatientID": patient,
                "StudyInstanceUID": study,
                "ScheduledProcedureStepSequence": [{"Modality": modality}],
            }
            for patient, study, modality in (("P1", "1.2.9", "CT"), ("P2", "1.2.8", "US"))
        ]
        listener = dn.sync.Listener("RIS", port=0)
        listener.on_find("WORKLIST")(lambda request: items)
        with listener:
            yield "[destinations.RIS]\n" + address(f"RIS@127.0.0.1:{listener.address[1]}") + "\n"

    RULES = rule("worklist", "worklist query", 'do = "ask", source = "RIS"') + rule(
        "priors", "worklist item", 'do = "prefetch", source = "PACS", to = "WS"',
        when='{ field = "ScheduledProcedureStepSequence/Modality", equals = "CT" }',
    )  # fmt: skip

    def test_earlier_studies_of_those_who_are_scheduled_are_sent_once(self, tmp_path, pacs, ris, station):
        with routing(tmp_path, ris + to_pacs(pacs, self.RULES)) as router:
            for _ in range(2):
                with asking(router, "CT1") as association:
                    assert [one.PatientID for one in association.worklist()] == ["P1", "P2"]
            assert settled(router) == {"PACS": {"sent": 1}}
            [done] = router.spool.queue.items()
            assert (done.message, done.study, done.patient) == ("C-FIND-RSP", "1.2.9", "P1")
            assert done.why == "2 of 2 earlier studies sent to WS", "those of its modality"
            assert len(station.received) == 3

    def test_what_cannot_be_kept_is_done_with_the_next_query_and_the_modality_gets_its_list(
        self, tmp_path, pacs, ris, monkeypatch
    ):
        with routing(tmp_path, ris + to_pacs(pacs, self.RULES)) as router, asking(router, "CT1") as association:

            def full(group):
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patched:
                patched.setattr(router.spool.blobs, "put", full)
                assert len(list(association.worklist())) == 2
            assert len(list(association.worklist())) == 2
            assert settled(router) == {"PACS": {"sent": 1}}

    def test_what_rules_want_for_a_long_worklist_does_not_wait_for_its_end(self, tmp_path, pacs, ris, monkeypatch):
        monkeypatch.setattr(queries, "_MOST_ITEMS", 1)
        rules = "".join(line for line in self.RULES.splitlines(keepends=True) if not line.startswith("when"))
        with routing(tmp_path, ris + to_pacs(pacs, rules)) as router, asking(router, "CT1") as association:
            put, sizes = router.queries._put, []
            monkeypatch.setattr(router.queries, "_put", lambda told: (sizes.append(len(told)), put(told))[1])
            assert len(list(association.worklist())) == 2
            assert sizes == [1, 1]

    def test_instances_have_their_own_rules_still(self, tmp_path, pacs, ris):
        every = '[[rules]]\nname = "all"\nactions = [{ do = "hold", to = ["PACS"] }]\n'
        with routing(tmp_path, ris + to_pacs(pacs, self.RULES, every)) as router:
            send(router, part10(1))
            assert settled(router) == {"PACS": {"held": 1}}


@pytest.mark.parametrize(
    ("on", "action", "what"),
    [
        ("instance", 'do = "ask", source = "PACS"', "ask is for what is asked for"),
        ("procedure step", 'do = "ask", source = "PACS"', "ask is for what is asked for"),
        ("instance", 'do = "retrieve", source = "PACS", to = "WS"', "retrieve is for messages"),
        ("worklist item", 'do = "retrieve", source = "PACS", to = "WS"', "retrieve is for messages"),
        ("instance", 'do = "prefetch", source = "PACS"', "is missing: who asks"),
        ("procedure step", 'do = "retrieve", source = "PACS"', "is missing: who asks"),
        ("query", 'do = "forward", to = ["PACS"]', "forward is not for what is asked for"),
        ("worklist item", 'do = "hold", to = ["PACS"]', "hold is not for what is asked for"),
        ("query", 'do = "ask", source = "DIR"', '"DIR" is no DICOM peer'),
        ("query", 'do = "ask", source = "PACX"', 'no destination "PACX". Is it PACS'),
        ("worklist", 'do = "ask", source = "PACS"', "should be"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_place(on, action, what):
    toml = f"""
        [destinations.PACS]
        address = "PACS@127.0.0.1:104"
        [destinations.DIR]
        kind = "folder"
        path = "/nowhere"
        {rule("x", on, action)}
    """
    with pytest.raises(PlanInvalid, match=what):
        Plan.from_toml(toml)


def test_a_destination_is_a_fact_of_retrieves_alone():
    toml = '[destinations.PACS]\naddress = "PACS@127.0.0.1:104"\n' + rule(
        "x", "query", 'do = "ask", source = "PACS"', when='{ not = { field = "destination", equals = "WS" } }'
    )
    with pytest.raises(PlanInvalid, match="only a retrieve and what was sent have a destination"):
        Plan.from_toml(toml)
    Plan.from_toml(toml.replace('on = "query"', 'on = "retrieve"'))


def test_a_query_that_rules_cannot_read_is_refused_and_the_next_is_answered(tmp_path, pacs):
    slow = QUERIES.replace("actions", 'when = { field = "PatientComments", matches = "^(?!(?:#|##)+$)" }\nactions')
    with routing(tmp_path, to_pacs(pacs, slow)) as router, asking(router) as association:
        with pytest.raises(ServiceFailure) as caught:
            list(association.find("STUDY", PatientID="P1", PatientComments="#" * 500 + "!"))
        assert caught.value.status == Status.UNABLE_TO_PROCESS
        assert caught.value.status.comment == "rules cannot read it"
        assert len(list(association.find("STUDY", PatientID="P1", PatientComments="?"))) == 0
