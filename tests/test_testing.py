"""The provider for users' tests: it records, refuses, rejects, stalls, answers and aborts as it is told."""

from __future__ import annotations

from typing import Any

import pytest
from rig import instance, keys

import dicomnet as dn
from dicomnet import uids
from dicomnet.testing import Provider
from dicomnet.testing.plugin import dicom_provider, make_dicom_provider  # noqa: F401 what the entry point gives

CT = uids.CT_IMAGE_STORAGE
STORAGE = [*dn.contexts.storage([CT]), *dn.contexts.verification()]


def test_it_takes_everything_and_records_it(dicom_provider: Provider) -> None:  # noqa: F811
    with dn.connect(dicom_provider.peer, calling="ME", contexts=STORAGE) as association:
        assert association.echo().is_success
        assert association.store(instance(1)).ok
    echoed, stored = dicom_provider.wait_for(2)
    assert (echoed.service, echoed.calling, echoed.data) == ("C-ECHO", "ME", b"")
    assert (stored.service, stored.sop_class_uid, stored.sop_instance_uid) == ("C-STORE", CT, "2.25.1001")
    assert stored.dataset.PatientID == "P1"
    assert [request.calling_ae_title for request in dicom_provider.requested] == ["ME"]
    with pytest.raises(TimeoutError):
        dicom_provider.wait_for(3, timeout=0.01)


def test_it_answers_queries_and_retrieves(make_dicom_provider: Any) -> None:  # noqa: F811
    provider = make_dicom_provider(matches=[keys(PatientID="1"), keys(PatientID="2")], instances=[instance(1)])
    with dn.connect(provider.peer, contexts=dn.contexts.query_retrieve([CT])) as association:
        assert [match.PatientID for match in association.find("STUDY")] == ["1", "2"]
        assert association.get("STUDY", to=lambda _: None, StudyInstanceUID="1.2").completed == 1
        with pytest.raises(dn.ServiceFailure):
            association.move("STUDY", destination="NOBODY", StudyInstanceUID="1.2")


def test_it_commits_and_keeps_steps(make_dicom_provider: Any) -> None:  # noqa: F811
    provider = make_dicom_provider(sop_classes=["1.2.3"])
    contexts = [*dn.contexts.commitment(), *dn.contexts.procedure_step(), *dn.contexts.sop_classes("1.2.3")]
    with dn.connect(provider.peer, contexts=contexts) as association:
        assert association.commit([(CT, "2.25.1")]).ok
        assert association.mpps_create(keys(PatientID="1")).status.is_success
        assert association.n_get("1.2.3", "1.2.4").status.is_success
    assert {one.service for one in provider.received} == {"N-ACTION", "N-CREATE", "N-GET"}


@pytest.mark.parametrize("status", [0xA700, {"C-STORE": 0xA700}])
def test_it_answers_with_a_status(make_dicom_provider: Any, status: Any) -> None:  # noqa: F811
    provider = make_dicom_provider(status=status)
    with dn.connect(provider.peer, contexts=STORAGE) as association:
        assert association.store(instance(1)).status == 0xA700
        assert (association.echo() == 0) == isinstance(status, dict)


def test_it_refuses_contexts(make_dicom_provider: Any) -> None:  # noqa: F811
    provider = make_dicom_provider(refuse=[CT])
    with dn.connect(provider.peer, contexts=STORAGE) as association:
        assert association.echo().is_success
        with pytest.raises(dn.NoAcceptedContext):
            association.store(instance(1))


def test_it_rejects(make_dicom_provider: Any) -> None:  # noqa: F811
    with pytest.raises(dn.AssociationRejected) as error:
        dn.connect(make_dicom_provider(reject=(2, 3, 1)).peer, contexts=STORAGE)
    assert (error.value.result, error.value.source, error.value.reason) == (2, 3, 1)


def test_it_may_be_told_otherwise_in_the_very_moment() -> None:
    class Wavering(Provider):
        @property
        def reject(self) -> Any:
            reject, self._reject = self._reject, None
            return reject

        @reject.setter
        def reject(self, reject: Any) -> None:
            self._reject = reject

    with Wavering(reject=(2, 3, 1)) as provider:
        with pytest.raises(dn.AssociationRejected):
            dn.connect(provider.peer, contexts=STORAGE)
        with dn.connect(provider.peer, contexts=STORAGE) as association:
            assert association.echo().is_success


def test_it_stalls(make_dicom_provider: Any) -> None:  # noqa: F811
    with pytest.raises(dn.DeadlineExceeded):
        dn.connect(make_dicom_provider(stall="associate").peer, contexts=STORAGE, timeouts=dn.Timeouts(associate=0.2))
    provider = make_dicom_provider(stall="response")
    association = dn.connect(provider.peer, contexts=STORAGE, timeouts=dn.Timeouts(response=0.2))
    with pytest.raises(dn.DeadlineExceeded) as caught:
        association.echo()
    assert caught.value.timeout == "response"
    assert provider.wait_for(1)[0].service == "C-ECHO"


def test_it_aborts(make_dicom_provider: Any) -> None:  # noqa: F811
    with pytest.raises(dn.AssociationAborted):
        dn.connect(make_dicom_provider(abort="associate").peer, contexts=STORAGE)
    association = dn.connect(make_dicom_provider(abort=2).peer, contexts=STORAGE)
    assert association.echo().is_success
    with pytest.raises(dn.AssociationAborted):
        association.echo()
