"""Every service class of PS3.4, both ways: its SOP classes, its messages, the statuses that are its own."""

from __future__ import annotations

from typing import Any

import pytest
from rig import Rig, instance, keys

import dicomnet as dn
from dicomnet import uids
from dicomnet.errors import ServiceFailure
from dicomnet.services import query_models
from dicomnet.status import Status

PRINT_META = "1.2.840.10008.5.1.1.9"  # Basic Grayscale Print Management

# service class: SOP class, the N-services that it has, and a failure of its own
NORMALIZED = {
    "print management: film session": ("1.2.840.10008.5.1.1.1", "create set action delete", 0xC600),
    "print management: film box": ("1.2.840.10008.5.1.1.2", "create set action delete", 0xC603),
    "print management: image box": ("1.2.840.10008.5.1.1.4", "set", 0xC605),
    "print management: printer": ("1.2.840.10008.5.1.1.16", "get event", 0x0112),
    "print management: print job": ("1.2.840.10008.5.1.1.14", "get event", 0x0112),
    "modality performed procedure step": ("1.2.840.10008.3.1.2.3.3", "create set", 0x0110),
    "modality performed procedure step retrieve": ("1.2.840.10008.3.1.2.3.4", "get", 0x0001),
    "modality performed procedure step notification": ("1.2.840.10008.3.1.2.3.5", "event", 0x0110),
    "storage commitment": ("1.2.840.10008.1.20.1", "action event", 0x0131),
    "media creation management": ("1.2.840.10008.5.1.1.33", "create action get", 0xC201),
    "instance availability": ("1.2.840.10008.5.1.4.33", "create", 0x0110),
    "application event logging": ("1.2.840.10008.1.40", "action", 0xC101),
    "substance administration logging": ("1.2.840.10008.1.42", "action", 0xC10E),
    "unified procedure step: push": ("1.2.840.10008.5.1.4.34.6.1", "create get action", 0xC300),
    "unified procedure step: watch": ("1.2.840.10008.5.1.4.34.6.2", "get action event", 0xC307),
    "unified procedure step: pull": ("1.2.840.10008.5.1.4.34.6.3", "get set action", 0xC301),
    "unified procedure step: event": ("1.2.840.10008.5.1.4.34.6.4", "event", 0x0110),
    "RT conventional machine verification": ("1.2.840.10008.5.1.4.34.8", "create get set action delete event", 0xC227),
    "RT ion machine verification": ("1.2.840.10008.5.1.4.34.9", "create get set action delete event", 0xC227),
    "display system": ("1.2.840.10008.5.1.1.40", "get", 0x0110),
    "storage management": ("1.2.840.10008.5.1.4.1.1.201.6", "create get action", 0x0110),
}
FINDING = [
    *((name, query_models.MODELS[name].find) for name in query_models.MODELS if query_models.MODELS[name].find),
    ("a private model", "1.2.3.4.5.6"),
]
RETRIEVING = [
    pytest.param(name, operation, id=f"{name}-{operation}")
    for name in query_models.MODELS
    for operation in ("get", "move")
    if getattr(query_models.MODELS[name], operation)
]


@pytest.fixture(params=["sync-aio", "aio-sync"])
def rig(request: Any) -> Any:
    """Each face is user and provider of each service class."""
    made = Rig(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("name", NORMALIZED)
def test_a_service_class_of_n_services(rig: Rig, name: str) -> None:
    uid, services, failure = NORMALIZED[name]
    listener, seen, answer = rig.listener(), [], [Status.SUCCESS]

    def handler(request: Any) -> Any:
        seen.append(request.operation.name)
        return answer[0]

    registered = {"event": "on_event_report"}
    for service in services.split():
        getattr(listener, registered.get(service, f"on_n_{service}"))(uid)(handler)
    given = keys(PatientID="1")
    with rig.pair(listener, dn.contexts.sop_classes(uid)) as user:
        calls = {
            "create": lambda: user.n_create(uid, "1.2.3", given),
            "get": lambda: user.n_get(uid, "1.2.3"),
            "set": lambda: user.n_set(uid, "1.2.3", given),
            "action": lambda: user.n_action(uid, "1.2.3", 1, given),
            "delete": lambda: user.n_delete(uid, "1.2.3"),
            "event": lambda: user.n_event_report(uid, "1.2.3", 1, given),
        }
        for service, call in calls.items():
            answer[0] = Status.SUCCESS
            if service not in services.split():
                with pytest.raises(ServiceFailure):
                    call()
                continue
            assert call().status.is_success
            answer[0] = Status(failure)
            if Status(failure).is_failure:
                with pytest.raises(ServiceFailure) as error:
                    call()
                assert error.value.status == failure
                assert error.value.status.meaning
    assert len(seen) >= len(services.split())


def test_print_management_by_its_meta_sop_class(rig: Rig) -> None:
    """A film session, its film box and their image, as members of one presentation context (PS3.4 Annex H)."""
    session, box, image = (f"1.2.840.10008.5.1.1.{number}" for number in (1, 2, 4))
    listener, done = rig.listener(), []
    for register in (listener.on_n_create, listener.on_n_set, listener.on_n_action, listener.on_n_delete):
        register(PRINT_META)(lambda request: done.append((request.operation.name, request.sop_class_uid)))
    with rig.pair(listener, dn.contexts.sop_classes(PRINT_META)) as user:
        film = user.n_create(session, None, keys(NumberOfCopies="1"), context=PRINT_META).sop_instance_uid
        page = user.n_create(box, None, keys(ImageDisplayFormat="STANDARD\\1,1"), context=PRINT_META).sop_instance_uid
        user.n_set(image, "1.2.3", keys(ImageBoxPosition=1), context=PRINT_META)
        user.n_action(box, page, 1, context=PRINT_META)
        user.n_delete(session, film, context=PRINT_META)
    assert done == [
        ("N-CREATE-RQ", session),
        ("N-CREATE-RQ", box),
        ("N-SET-RQ", image),
        ("N-ACTION-RQ", box),
        ("N-DELETE-RQ", session),
    ]


@pytest.mark.parametrize(("name", "uid"), FINDING)
def test_a_service_class_that_is_queried(rig: Rig, name: str, uid: str) -> None:
    listener = rig.listener()
    listener.on_find(uid)(lambda request: [request.identifier])
    levels = query_models.MODELS[name].levels if name in query_models.MODELS else ()
    model = name if name in query_models.MODELS else uid
    with rig.pair(listener, dn.contexts.sop_classes(uid)) as user:
        [match] = user.find(levels[0][0] if levels else "", model=model, PatientID="1")
    assert match.PatientID == "1"


@pytest.mark.parametrize(("name", "operation"), RETRIEVING)
def test_a_service_class_that_is_retrieved_from(rig: Rig, name: str, operation: str) -> None:
    model = query_models.MODELS[name]
    uid = getattr(model, operation)
    there = rig.listener("THERE")
    there.on_store()(lambda _: None)
    level, key = model.levels[0] if model.levels else ("", "SOPInstanceUID")
    with rig.serving(there) as peer:
        listener = rig.listener(destinations={"THERE": dn.Entity.parse(peer)})
        getattr(listener, f"on_{operation}")(uid)(lambda _: [instance(1)])
        contexts = [*dn.contexts.sop_classes(uid), *dn.contexts.query_retrieve([uids.CT_IMAGE_STORAGE])[-1:]]
        where = {"to": lambda _: None} if operation == "get" else {"destination": "THERE"}
        with rig.pair(listener, contexts) as user:
            done = getattr(user, operation)(level, model=name, **where, **{key: "1.2.3"})
    assert done.completed == 1


def test_every_storage_class_and_non_patient_object_is_stored(rig: Rig) -> None:
    """300 pairs of SOP class and transfer syntax in one store: the fewest associations, each within 128 contexts."""
    syntaxes = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    pairs = [(one, syntax) for one in sorted(uids.STORAGE_CLASSES)[:150] for syntax in syntaxes]
    instances = []
    for number, (sop_class, syntax) in enumerate(pairs):
        dataset = instance(number, sop_class=sop_class, pixels=16)
        dataset.file_meta.TransferSyntaxUID = syntax
        instances.append(dataset)
    listener, stored, associations = rig.listener(), [], 0
    listener.on_store()(lambda request: stored.append((request.sop_class_uid, request.transfer_syntax_uid)))
    with rig.serving(listener) as peer:
        for batch in dn.contexts.batches(instances):
            associations += 1
            assert len(batch.contexts) <= 128
            with rig.connected(peer, batch.contexts) as user:
                assert all(result.ok for result in user.store_many(batch.instances))
    assert len(pairs) == 300
    assert associations == 3
    assert sorted(stored) == sorted(pairs)


def test_a_request_without_a_data_set_has_no_bytes(rig: Rig) -> None:
    printer = "1.2.840.10008.5.1.1.16"
    listener, got = rig.listener(), []
    listener.on_n_action(printer)(lambda request: got.append((request.data, request.size, repr(request))))
    with rig.pair(listener, dn.contexts.sop_classes(printer), calling="ME") as user:
        reply = user.n_action(printer, "1.2.3", 1)
    assert got == [(b"", 0, f"NormalizedRequest(calling='ME', sop_class_uid='{printer}')")]
    assert (reply.dataset, repr(reply)) == (None, f"Reply({reply.status!r}, 0 bytes)")
