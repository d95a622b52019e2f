"""Who may have an association with a server, how many, and for what."""

from __future__ import annotations

import socket

import pytest
from rig import until
from servers import call, make_settings, write_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.protocol.peer_profile import Relaxation
from dicomnet.server import Server, hookimpl
from dicomnet.server.admin import AdminError, Client
from dicomnet.server.ae_entry import AEEntry
from dicomnet.services.provider_requests import Ending
from dicomnet.status import Status

MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
LIMIT = (2, 3, 2)  # transient, of the presentation provider: local limit exceeded


class Everything:
    """Performed procedure steps, commitments, and echoes."""

    @hookimpl
    def services(self, registry):
        registry.on_n_create(uids.MODALITY_PERFORMED_PROCEDURE_STEP)(lambda request: None)
        registry.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)(lambda request: Status(0))


@pytest.fixture
def serve(tmp_path):
    servers = []

    def serve(**tables):
        server = Server(make_settings(**tables), directory=tmp_path, addins={"everything": Everything()})
        servers.append(server)
        server.start()
        return server

    yield serve
    for server in servers:
        server.stop(drain=1)


@pytest.mark.parametrize("of", ["title", "address"])
def test_one_more_than_a_caller_may_have_waits_for_another_to_end(serve, of):
    server = serve(access={f"per_{of}": 2})
    with call(server, uids.VERIFICATION), call(server, uids.VERIFICATION):
        with pytest.raises(dn.AssociationRejected) as caught:
            call(server, uids.VERIFICATION)
        assert (caught.value.result, caught.value.source, caught.value.reason) == LIMIT
        if of == "title":
            with call(server, uids.VERIFICATION, calling="OTHER") as other:
                assert other.echo().is_success
    assert 'dicomnet_associations_refused_total{ae="TESTER",why="limit"} 1.0' in server.metrics.exposition().decode()
    until(lambda: not len(server.clients))
    with call(server, uids.VERIFICATION) as association:
        assert association.echo().is_success


@pytest.mark.parametrize(
    ("right", "sop_class"),
    [
        ("echo", uids.VERIFICATION),
        ("mpps", uids.MODALITY_PERFORMED_PROCEDURE_STEP),
        ("commit", uids.STORAGE_COMMITMENT_PUSH_MODEL),
    ],
)
def test_a_caller_gets_the_contexts_that_it_has_a_right_to(serve, right, sop_class):
    server = serve()
    server.base.ae_titles.add(AEEntry(title="TESTER", rights=(right,)))
    asked = [uids.VERIFICATION, uids.MODALITY_PERFORMED_PROCEDURE_STEP, uids.STORAGE_COMMITMENT_PUSH_MODEL]
    with call(server, *asked) as association:
        assert {one.abstract_syntax for one in association.contexts.values() if one.accepted} == {sop_class}


def test_a_caller_is_known_by_the_address_that_is_kept_and_no_name_is_looked_up(serve):
    server = serve(access={"require_address": True})
    server.base.ae_titles.add(AEEntry(title="TESTER", host="localhost"))
    with pytest.raises(dn.AssociationRejected) as caught:
        call(server, uids.VERIFICATION)
    assert caught.value.reason == 3
    entry = AEEntry(title="TESTER", host="CT1.hospital", addresses=("127.0.0.1", "fe80::1%eth0"))
    server.base.ae_titles.update("TESTER", entry)
    with call(server, uids.VERIFICATION) as association:
        assert association.echo().is_success
    assert entry.may_call_from("::ffff:127.0.0.1")
    assert entry.may_call_from("fe80::1%wlan0")
    assert entry.may_call_from("ct1.HOSPITAL")
    assert not entry.may_call_from("ct2.hospital")


def test_rules_that_are_relaxed_have_names(serve):
    server = serve()
    for rule in Relaxation:
        assert AEEntry(title="OLD", relax=(rule.value,)).profile().relax == {rule}
    with Client(server.settings.admin.socket) as admin, pytest.raises(AdminError, match="relax") as caught:
        admin.add_ae("NEW", relax=["anything"])
    assert caught.value.status == 422


def test_any_user_is_taken_where_no_add_in_knows_better(serve):
    server = serve()
    extras = dn.NegotiationOptions(identity=dn.UserIdentity.named("jane"))
    with call(server, uids.VERIFICATION, extras=extras) as association:
        assert association.echo().is_success


def test_what_only_calls_cannot_be_asked_for_anything(serve):
    server = serve()
    server.base.ae_titles.add(AEEntry(title="CT1"))
    with Client(server.settings.admin.socket) as admin, pytest.raises(AdminError, match="CT1 has no host and port"):
        admin.echo("CT1")


def test_what_fails_at_the_end_of_an_association_leaves_none_on_the_list(tmp_path, caplog):
    """One that stayed there would count for as long as the server runs."""

    who = "DOE JANE"

    class Fails(Ending):
        def association_ended(self):
            raise RuntimeError(who)

    class Keeping:
        @hookimpl
        def services(self, registry):
            registry.on_n_create(MPPS)(lambda request: request.kept.setdefault("mine", Fails()) and None)

    with Server(make_settings(), directory=tmp_path, addins={"keeping": Keeping()}) as server:
        with call(server, MPPS) as association:
            association.n_create(MPPS, "1.2.3")
        until(lambda: not len(server.clients))
    assert caplog.text.count("what hears of the end of an association failed") == 1
    assert who not in caplog.text


def test_connections_have_the_buffers_of_the_settings(tmp_path):
    write_settings(tmp_path / "s", "send_buffer = 65536\nreceive_buffer = 131072\n")
    with Server(tmp_path / "s") as server:
        sock = server.listeners["plain"]._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65536  # Linux counts its own part, too
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 131072
        with call(server, uids.VERIFICATION) as association:
            assert association.echo().is_success
