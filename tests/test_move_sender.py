"""A C-MOVE sends by what the program gives: here associations that stay open from one C-MOVE to the next."""

from types import SimpleNamespace

from pydicom.dataset import Dataset, FileMetaDataset

import dicomnet as dn
from dicomnet import testing
from dicomnet.protocol.exchange import Exchange
from dicomnet.status import Status


class Kept:
    """Associations by destination; released at the end alone."""

    def __init__(self):
        self.associations = {}
        self.opened = 0

    def connect(self, destination, contexts, calling):
        if destination.ae_title not in self.associations:
            self.opened += 1
            self.associations[destination.ae_title] = dn.connect(destination, calling=calling, contexts=contexts)
        return self.Lent(self.associations[destination.ae_title])

    class Lent:
        """One that is not released by the C-MOVE that uses it."""

        def __init__(self, association):
            self.store_many = association.store_many

        def release(self):
            """Keep it."""


def instance(uid):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = dn.uids.CT_IMAGE_STORAGE, uid
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = dn.uids.EXPLICIT_VR_LITTLE_ENDIAN
    return dataset


def test_a_sender_of_the_program_is_asked_for_each_c_move():
    sender = Kept()
    with testing.Provider("THERE") as there:
        host, port = there.address
        destinations = {"THERE": dn.Entity("THERE", host, port)}
        with testing.Provider(instances=[instance("1.2.3")], destinations=destinations) as provider:
            provider.move_sender = sender
            with dn.connect(provider.peer, contexts=dn.contexts.query_retrieve()) as peer:
                for _ in range(3):
                    assert peer.move("STUDY", StudyInstanceUID="1.2", destination="THERE").completed == 1
        assert len([one for one in there.received if one.service == "C-STORE"]) == 3
        assert sender.opened == 1
        for association in sender.associations.values():
            association.release()


class Forgetful:
    """Says what became of the first instance alone, whatever it was given."""

    def connect(self, destination, contexts, calling):
        return self

    def store_many(self, sources, *, originator, transcode):
        for source in list(sources)[:1]:
            yield SimpleNamespace(source=source, status=Status(0), error=None, sop_instance_uid=source.SOPInstanceUID)

    def release(self):
        """There is nothing to release."""


def test_what_a_sender_says_nothing_of_has_failed():
    destinations = {"THERE": dn.Entity("THERE", "127.0.0.1", 104)}
    instances = [instance(f"1.2.{number}") for number in range(1, 4)]
    with testing.Provider(instances=instances, destinations=destinations) as provider:
        provider.move_sender = Forgetful()
        with dn.connect(provider.peer, contexts=dn.contexts.query_retrieve()) as peer:
            result = peer.move("STUDY", StudyInstanceUID="1.2", destination="THERE")
    assert (result.completed, result.failed, result.status) == (1, 2, Status.SUB_OPERATIONS_WARNING)


def test_what_intercepts_sees_each_event_and_may_deal_with_it():
    seen = []

    def intercept(exchange, event):
        assert isinstance(exchange, Exchange)
        seen.append(type(event).__name__)
        return False

    with dn.Listener("ARCHIVE", port=0) as scp:
        scp.intercept = intercept
        host, port = scp.address
        with dn.connect(f"ARCHIVE@{host}:{port}", contexts=dn.contexts.verification()) as peer:
            peer.echo()
    assert seen == ["AssociateIndication", "RequestReceived", "ReleaseIndication"]


def test_what_is_refused_is_refused_whatever_is_registered():
    rules = dn.AcceptancePolicy(refused_abstract_syntaxes=frozenset({dn.uids.CT_IMAGE_STORAGE}))
    scp = dn.Listener("ARCHIVE", port=0, acceptance=rules)
    scp.on_store(unknown_classes=True)(lambda request: None)
    with scp:
        host, port = scp.address
        contexts = dn.contexts.storage([dn.uids.CT_IMAGE_STORAGE, dn.uids.MR_IMAGE_STORAGE])
        with dn.connect(f"ARCHIVE@{host}:{port}", contexts=contexts) as peer:
            accepted = {one.abstract_syntax for one in peer.contexts.values() if one.accepted}
    assert accepted == {dn.uids.MR_IMAGE_STORAGE}
