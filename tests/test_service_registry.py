"""The registry of services: what is registered twice, what is offered, and changes while associations go on."""

import threading

import pytest
from wiring import CT, EXPLICIT, IMPLICIT

import dicomnet as dn
from dicomnet import uids
from dicomnet.errors import InvalidArgument
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.negotiation import AcceptancePolicy, ProposedContext
from dicomnet.services.service_registry import ANY_CLASS, Registration, ServiceRegistry

MR = uids.MR_IMAGE_STORAGE
STORE = CommandField.C_STORE_RQ


def handler(request):
    """Do nothing."""


def other(request):
    """Do nothing, either."""


def offered(registry):
    return {(one.message, one.sop_class): one.owner for one in registry}


def found(registry, sop_class=CT, syntax=EXPLICIT):
    one = registry.snapshot().find(STORE, sop_class, syntax)
    return one and one.owner


def test_without_anything_registered_c_echo_succeeds():
    assert offered(ServiceRegistry()) == {(CommandField.C_ECHO_RQ, uids.VERIFICATION): "dicomnet"}
    assert offered(ServiceRegistry(echo=False)) == {}
    assert (len(ServiceRegistry()), len(ServiceRegistry(echo=False))) == (1, 0)


def test_a_handler_of_c_echo_takes_the_place_of_ours_and_gives_it_back():
    registry = ServiceRegistry()
    registry.on_echo(owner="mine")(handler)
    assert offered(registry) == {(CommandField.C_ECHO_RQ, uids.VERIFICATION): "mine"}
    registry.withdraw("mine")
    assert offered(registry) == {(CommandField.C_ECHO_RQ, uids.VERIFICATION): "dicomnet"}


def test_decorators_give_the_handler_back_with_and_without_parentheses():
    registry = ServiceRegistry()
    assert registry.on_echo(handler) is handler
    assert registry.on_store(handler) is handler
    assert registry.on_find("STUDY_ROOT")(other) is other
    assert found(registry) == f"{__name__}.handler"


def test_the_same_registered_twice_names_both_owners():
    registry = ServiceRegistry()
    registry.on_store([CT], owner="archive")(handler)
    with pytest.raises(InvalidArgument, match=r"router cannot register C-STORE of CT Image Storage: archive has"):
        registry.on_store([MR, CT], owner="router")(other)
    assert found(registry, MR) is None  # nothing of it is registered
    assert found(registry) == "archive"


def test_two_that_take_all_other_classes_are_a_conflict_too():
    registry = ServiceRegistry()
    registry.on_store([CT], owner="one", unknown_classes=True)(handler)
    with pytest.raises(InvalidArgument, match="SOP classes that are not known"):
        registry.on_store([MR], owner="two", unknown_classes=True)(other)


def test_other_messages_and_other_transfer_syntaxes_are_no_conflict():
    registry = ServiceRegistry()
    registry.on_store([CT], owner="one", transfer_syntaxes=[EXPLICIT])(handler)
    registry.on_store([CT], owner="two", transfer_syntaxes=[IMPLICIT])(other)
    registry.on_n_get(CT, owner="three", transfer_syntaxes=[uids.RLE_LOSSLESS])(other)
    assert (found(registry, syntax=EXPLICIT), found(registry, syntax=IMPLICIT)) == ("one", "two")
    assert found(registry, syntax=uids.RLE_LOSSLESS) is None
    policy = registry.snapshot().acceptance(AcceptancePolicy())
    assert policy.abstract_syntaxes[CT] == (EXPLICIT, IMPLICIT, uids.RLE_LOSSLESS)


def test_the_union_with_what_takes_any_transfer_syntax_is_any():
    registry = ServiceRegistry()
    registry.on_n_get(CT, transfer_syntaxes=[EXPLICIT])(handler)
    registry.on_n_set(CT)(other)
    assert registry.snapshot().acceptance(AcceptancePolicy()).abstract_syntaxes[CT] == ()


def test_a_replacement_stands_before_and_gives_back_what_it_replaced():
    registry = ServiceRegistry()
    registry.on_store([CT], owner="archive")(handler)
    registry.on_store([CT], owner="router", transfer_syntaxes=[EXPLICIT], replace=True)(other)
    assert (found(registry, syntax=EXPLICIT), found(registry, syntax=IMPLICIT)) == ("router", "archive")
    (gone,) = registry.withdraw("router")
    assert (gone.owner, gone.handler) == ("router", other)
    assert found(registry, syntax=EXPLICIT) == "archive"


def test_what_is_replaced_whole_is_not_offered():
    registry = ServiceRegistry(echo=False)
    registry.on_store([CT], owner="archive", transfer_syntaxes=[EXPLICIT])(handler)
    registry.on_store([CT], owner="router", transfer_syntaxes=[EXPLICIT, IMPLICIT], replace=True)(other)
    assert [one.owner for one in registry] == ["router"]


def test_one_registration_is_withdrawn_and_only_that():
    registry = ServiceRegistry(echo=False)
    first = registry.register(Registration(STORE, (CT,), handler, owner="archive"))
    registry.register(Registration(STORE, (MR,), handler, owner="archive"))
    assert registry.withdraw(first) == (first,)
    assert registry.withdraw(first) == ()
    assert offered(registry) == {(STORE, MR): "archive"}


def test_a_registration_of_nothing_is_refused():
    with pytest.raises(InvalidArgument, match="no SOP class"):
        ServiceRegistry().register(Registration(STORE, (), handler, owner="archive"))


def test_a_snapshot_does_not_change():
    registry = ServiceRegistry(echo=False)
    before = registry.snapshot()
    registry.on_store([CT, MR], deadline=3.0, inline=True, unknown_classes=True)(handler)
    assert list(before) == []
    (one,) = registry.snapshot().registrations
    assert (one.deadline, one.inline, one.sop_classes) == (3.0, True, (CT, MR, ANY_CLASS))


def test_what_any_class_takes_is_negotiated_and_listed():
    registry = ServiceRegistry(echo=False)
    registry.on_store([CT], owner="archive", unknown_classes=True)(handler)
    policy = registry.snapshot().acceptance(AcceptancePolicy())
    assert policy.unknown_abstract_syntaxes
    assert set(policy.abstract_syntaxes) == {CT}
    assert offered(registry) == {(STORE, CT): "archive", (STORE, ANY_CLASS): "archive"}


@pytest.mark.long
def test_changes_of_many_threads_are_all_there():
    registry = ServiceRegistry(echo=False)
    start = threading.Barrier(8)

    def change(number):
        start.wait()
        for step in range(50):
            keep = registry.register(Registration(STORE, (f"1.{number}.{step}",), handler, owner=str(number)))
            gone = registry.register(Registration(STORE, (f"2.{number}.{step}",), handler, owner=str(number)))
            registry.withdraw(gone)
            assert keep in registry.snapshot().registrations

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.sop_class for one in registry} == {f"1.{n}.{step}" for n in range(8) for step in range(50)}


def test_of_many_threads_that_register_the_same_one_does():
    registry, start, refused = ServiceRegistry(), threading.Barrier(8), []

    def register(number):
        start.wait()
        try:
            registry.on_store([CT], owner=str(number))(handler)
        except InvalidArgument:
            refused.append(number)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*refused, int(found(registry))]) == list(range(8))


# ---- a listener ----------------------------------------------------------------------------------------------------


def test_a_listener_is_given_services_and_two_may_share_them():
    services = dn.ServiceRegistry()
    one, two = dn.Listener("ONE", port=0, services=services), dn.Listener("TWO", port=0, services=services)
    one.on_store([CT], owner="archive")(handler)
    assert one.services is two.services
    with pytest.raises(InvalidArgument, match="archive has"):
        two.on_store([CT])(other)


def accepted(listener, sop_class):
    host, port = listener.address
    contexts = [ProposedContext(one, (IMPLICIT,)) for one in (sop_class, uids.VERIFICATION)]
    with dn.connect(f"{listener.ae_title}@{host}:{port}", contexts=contexts) as peer:
        return peer.contexts[1].accepted


def test_an_association_keeps_the_services_that_it_began_with():
    scp = dn.Listener("ARCHIVE", port=0)
    got = []
    scp.on_store([CT], owner="first")(lambda request: got.append("first"))
    with scp:
        host, port = scp.address
        context = ProposedContext(CT, (EXPLICIT,))
        with dn.connect(f"ARCHIVE@{host}:{port}", contexts=[context]) as old:
            assert not accepted(scp, MR)
            scp.services.withdraw("first")
            scp.on_store([CT, MR], owner="second")(lambda request: got.append("second"))
            assert accepted(scp, MR)
            old.store(instance())
            with dn.connect(f"ARCHIVE@{host}:{port}", contexts=[context]) as new:
                new.store(instance())
            old.store(instance())
    assert got == ["first", "second", "first"]


def instance():
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.3"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    return dataset
