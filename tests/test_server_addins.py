"""Add-ins: found, checked, enabled in order, called, suspended."""

from __future__ import annotations

import re
import textwrap
import threading
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import dicomnet as dn
from dicomnet import uids
from dicomnet.protocol.admission import Refusal
from dicomnet.server import Server, Settings, StartFailed, Table, hookimpl
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.discovery import AddInError, Finder
from dicomnet.services import presentation_contexts
from dicomnet.services.query_models import model_uid

TUTORIAL = Path(__file__).parent.parent / "docs" / "server" / "first-add-in.md"
WORKLIST = model_uid("WORKLIST", "find")

#: The example of the tutorial.
ADD_IN = re.search(r"```python\n(# hello/addins/greeting.py\n.*?)```", TUTORIAL.read_text(), re.DOTALL)[1]


def make_settings(**tables):
    tables.setdefault("server", {"ae_title": "SERVER"})
    tables.setdefault("listen", {"port": 0})
    tables.setdefault("log", {"file": ""})
    return Settings.parse(tables)


@pytest.fixture
def serve():
    servers = []

    def serve(settings=None, **options):
        server = Server(make_settings() if settings is None else settings, **options)
        servers.append(server)
        server.start()
        return server

    yield serve
    for server in servers:
        server.stop(drain=1)


def call(server, contexts, calling="TESTER"):
    host, port = server.address
    return dn.connect(f"SERVER@{host}:{port}", calling=calling, contexts=presentation_contexts.sop_classes(*contexts))


def test_a_server_echoes_by_the_add_in_that_is_enabled_at_first(serve):
    server = serve()
    with call(server, [uids.VERIFICATION]) as association:
        assert association.echo().is_success


def test_the_tutorials_add_in_of_at_most_30_lines_joins_a_running_server_by_reload(tmp_path):
    (tmp_path / "server.toml").write_text(
        '[server]\nae_title = "SERVER"\n[listen]\nport = 0\n[addins]\nenable = ["verification"]\n'
    )
    (tmp_path / "addins").mkdir()
    with Server(tmp_path) as server, call(server, [uids.VERIFICATION, WORKLIST]) as before:
        (tmp_path / "addins" / "greeting.py").write_text(ADD_IN)
        text = (tmp_path / "server.toml").read_text().replace('"verification"', '"verification", "greeting"')
        (tmp_path / "server.toml").write_text(text)
        report = server.reload()
        assert report.changed == ("addins.enable",)
        with call(server, [uids.VERIFICATION, WORKLIST]) as after:
            found = list(after.find(model="WORKLIST", PatientName=""))
            assert [str(one.dataset.PatientName) for one in found] == ["HELLO^WORLD"]
        assert before.echo().is_success
        with pytest.raises(dn.NoAcceptedContext):
            list(before.find(model="WORKLIST", PatientName=""))
    assert len(ADD_IN.strip().splitlines()) <= 30


def test_routes_are_mounted_by_name_and_two_names_are_the_servers_own(serve):
    class Pages:
        @hookimpl
        def web_routes(self):
            return [Route("/hello", lambda request: PlainTextResponse("hello"))]

    settings = make_settings(web={"port": 0})
    with pytest.raises(StartFailed, match="has something else at /metrics"):
        serve(settings, addins={"metrics": Pages()})
    server = serve(settings, addins={"pages": Pages()})
    assert httpx.get(f"{server.web.url}pages/hello").text == "hello"
    assert httpx.get(f"{server.web.url}other/hello").status_code == 404
    server.reload(make_settings(web={"port": 0}, addins={"enable": ["verification"]}))
    assert httpx.get(f"{server.web.url}health/live").json() == {"ok": True}


def test_rules_of_add_ins_refuse_associations(serve, caplog):
    class Closed:
        @hookimpl
        def admission(self):
            return [self]

        def evaluate(self, request, caller):
            if request.calling_ae_title == "LATE":
                return Refusal(2, 3, 1, "it is closed")
            return None

    server = serve(addins={"closed": Closed()})
    with caplog.at_level("INFO", "dicomnet"), pytest.raises(dn.AssociationRejected):
        call(server, [uids.VERIFICATION], calling="LATE")
    assert "refused an association to LATE" in caplog.text
    assert "it is closed" in caplog.text
    with call(server, [uids.VERIFICATION]) as association:
        assert association.echo().is_success


class Remembering:
    """Answers the worklist for as long as it is not stopped."""

    def __init__(self):
        self.stopped = threading.Event()

    @hookimpl
    def start(self):
        self.stopped.clear()

    @hookimpl
    def services(self, registry):
        registry.on_find("WORKLIST")(self.find)

    @hookimpl
    def stop(self):
        self.stopped.set()

    def find(self, request):
        assert not self.stopped.is_set()
        return [{"PatientID": "1"}]


def test_an_add_in_that_is_disabled_ends_with_the_associations_that_use_it(serve):
    addin = Remembering()
    server = serve(addins={"remembering": addin})
    server._given = {}  # what the program gave is enabled for good, else
    with call(server, [WORKLIST]) as association, call(server, [WORKLIST]) as other:
        server.reload(make_settings())
        assert server.addins.get("remembering") is None
        with pytest.raises(dn.NoAcceptedContext):
            call(server, [WORKLIST])
        assert len(list(association.find(model="WORKLIST"))) == 1
        other.release()
        assert not addin.stopped.is_set()
    assert addin.stopped.wait(20)


def test_an_add_in_that_is_enabled_again_ends_first(serve, tmp_path):
    (tmp_path / "addins").mkdir()
    (tmp_path / "addins" / "greeting.py").write_text(ADD_IN)
    enabled = make_settings(addins={"enable": ["greeting"]})
    server = serve(enabled, directory=tmp_path)
    with call(server, [WORKLIST]) as association:
        server.reload(make_settings())
        server.reload(enabled)
        with call(server, [WORKLIST]) as after:
            assert len(list(after.find(model="WORKLIST"))) == 1
        assert len(list(association.find(model="WORKLIST"))) == 1


OTHER = """
from dicomnet.server import hookimpl

@hookimpl
def services(registry):
    registry.on_echo(lambda request: None)

@hookimpl
def admin_messages(context):
    if context.server.server.description:
        raise RuntimeError("no licence")
"""


def test_a_reload_puts_an_add_in_in_the_place_of_another_if_it_can(serve, tmp_path):
    (tmp_path / "addins").mkdir()
    (tmp_path / "addins" / "other.py").write_text(OTHER)

    def settings(enable, description=""):
        server = {"ae_title": "SERVER", "description": description}
        return make_settings(server=server, addins={"enable": [enable]})

    def owner():
        (found,) = {one.owner for one in server.services.snapshot().registrations}
        return found

    server = serve(settings("verification"), directory=tmp_path)
    with pytest.raises(AddInError, match="no licence"):
        server.reload(settings("other", "fails"))
    assert owner() == "verification"
    server.reload(settings("other"))
    assert owner() == "other"
    server.reload(settings("verification"))
    assert owner() == "verification"
    with call(server, [uids.VERIFICATION]) as association:
        assert association.echo().is_success


TWO = """
from dicomnet.server import hookimpl
class A:
    @hookimpl
    def stop(self): pass
class B:
    @hookimpl
    def stop(self): pass
"""
RAISING = """
from dicomnet.server import hookimpl
class Raising:
    def __init__(self):
        raise RuntimeError("no licence")
    @hookimpl
    def stop(self): pass
"""


def broken(tmp_path, text):
    (tmp_path / "addins").mkdir(exist_ok=True)
    (tmp_path / "addins" / "mine.py").write_text(textwrap.dedent(text))
    with pytest.raises(AddInError) as caught:
        Finder(tmp_path).find("mine")
    assert "mine" in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_with_an_add_in_is_told_with_its_place_and_a_suggestion(tmp_path):
    hook = "from dicomnet.server import hookimpl\n@hookimpl\ndef {}: pass\n"
    assert "Is it services?" in broken(tmp_path, hook.format("service(registry)"))
    assert "Is it registry?" in broken(tmp_path, hook.format("services(registri)"))
    assert "line 3" in broken(tmp_path, "\n\nraise RuntimeError('no')\n")
    assert "no hooks" in broken(tmp_path, "x = 1\n")
    assert "needs dicomnet 99" in broken(tmp_path, hook.format("stop()") + "requires = '99'\n")
    assert "Settings" in broken(tmp_path, hook.format("stop()") + "Settings = int\n")
    assert "A, B all have hooks" in broken(tmp_path, TWO)
    assert "RuntimeError: no licence at" in broken(tmp_path, RAISING)
    with pytest.raises(AddInError, match="Is it verification"):
        Finder(tmp_path).find("verificatoin")
    with pytest.raises(AddInError, match="no hooks") as caught:
        Finder(tmp_path, {"empty": object()}).find("empty")
    assert "@hookimpl" in str(caught.value)


def test_an_add_in_is_a_package_of_the_folder_or_stands_in_an_installed_module(tmp_path):
    package = tmp_path / "addins/whole"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .part import stop\nrequires = '0.1.dev1'\n")
    (package / "part.py").write_text("from dicomnet.server import hookimpl\n@hookimpl\ndef stop(): pass\n")
    (tmp_path / "addins/no-name.py").write_text("raise RuntimeError")
    finder = Finder(tmp_path)
    assert finder.find("whole").place == str(package / "__init__.py")
    assert "no-name" not in [name for name, _ in finder.names()]
    reference = "dicomnet.server.shipped.verification:Verification"
    assert type(finder.find(reference).plugin).__name__ == "Verification"
    with pytest.raises(AddInError, match="has no attribute"):
        finder.find("dicomnet.server.shipped.verification:Nothing")


def test_an_optional_add_in_whose_settings_are_wrong_is_left_out(serve):
    class Coloured:
        class Settings(Table):
            colour: str

        @hookimpl
        def start(self):
            pass

    server = serve(make_settings(addins={"optional": ["coloured"]}), addins={"coloured": Coloured()})
    assert "[addin.coloured] colour: is missing" in server.addins.broken["coloured"]
    with call(server, [uids.VERIFICATION]) as association:
        assert association.echo().is_success


def test_two_add_ins_with_a_message_of_one_name_are_not_both_started(serve):
    class Asked:
        @hookimpl
        def admin_messages(self, messages):
            messages.add("Same", lambda data: {})

    with pytest.raises(StartFailed, match="the message Same is taken by one already"):
        serve(addins={"one": Asked(), "two": Asked()})


def test_a_base_service_that_there_is_not_cannot_be_replaced(serve):
    class Replacing:
        @hookimpl
        def start(self, context):
            context.services.replace("storge", object())

    with pytest.raises(StartFailed, match="there is no base service 'storge'"):
        serve(addins={"replacing": Replacing()})


def test_a_broken_add_in_keeps_the_server_from_starting_unless_it_is_optional(serve):
    class Broken:
        @hookimpl
        def start(self):
            raise RuntimeError("no licence")

    with pytest.raises(StartFailed, match=r"add-ins: add-in broken .* failed in start: RuntimeError: no licence"):
        serve(addins={"broken": Broken()})
    server = serve(make_settings(addins={"optional": ["broken"]}), addins={"broken": Broken()})
    assert "no licence" in server.status()["broken"]["broken"]
    with call(server, [uids.VERIFICATION]) as association:
        assert association.echo().is_success


def test_settings_of_an_add_in_are_its_own_model(serve):
    class Coloured:
        class Settings(Table):
            colour: str

        @hookimpl
        def start(self, context):
            self.colour = context.settings.colour

    addin = Coloured()
    with pytest.raises(StartFailed, match=r"\[addin.coloured\] colour: is missing"):
        serve(addins={"coloured": addin})
    serve(make_settings(addin={"coloured": {"colour": "red"}}), addins={"coloured": addin})
    assert addin.colour == "red"


def test_two_add_ins_that_want_the_same_are_both_named(serve):
    class One:
        @hookimpl
        def services(self, registry):
            registry.on_echo(lambda request: None)

    with pytest.raises(StartFailed) as caught:
        serve(addins={"one": One()})
    assert "one" in str(caught.value)
    assert "verification" in str(caught.value)


def fails(request):
    raise RuntimeError("broken")


def fails_after_a_match(request):
    yield {"PatientName": "HELLO^WORLD"}
    raise RuntimeError("broken")


async def fails_in_the_loop(request):
    raise RuntimeError("broken")


async def fails_in_the_loop_after_a_match(request):
    yield {"PatientName": "HELLO^WORLD"}
    raise RuntimeError("broken")


def fails_later(request):
    answer = Future()
    answer.set_exception(RuntimeError("broken"))
    return answer


FAILING = [fails, fails_after_a_match, fails_in_the_loop, fails_in_the_loop_after_a_match, fails_later]


@pytest.mark.parametrize("find", FAILING, ids=lambda one: one.__name__)
def test_five_failures_in_a_row_suspend_an_add_in_for_new_associations(serve, find):
    class Failing:
        @hookimpl
        def services(self, registry):
            registry.on_find("WORKLIST")(find)

    server = serve(addins={"failing": Failing()})
    told = []
    server.events.listen(lambda event: told.append((event.type, dict(event.data))))
    with call(server, [WORKLIST]) as association:
        for _ in range(5):
            with pytest.raises(dn.ServiceFailure) as caught:
                list(association.find(model="WORKLIST"))
            assert caught.value.status == 0x0110
    assert ("addin.suspended", "failing") in [(kind, data.get("name")) for kind, data in told]
    with call(server, [uids.VERIFICATION, WORKLIST]) as association, pytest.raises(dn.NoAcceptedContext):
        list(association.find(model="WORKLIST"))
    server.addins.resume(server.addins.get("failing"))
    with call(server, [WORKLIST]) as association, pytest.raises(dn.ServiceFailure):
        list(association.find(model="WORKLIST"))


def test_a_reload_gives_requests_the_patience_of_now(serve):
    server = serve()
    server.base.ae_titles.add(AEEntry(title="ITSELF", host="127.0.0.1", port=server.address[1]))
    before, kept = server.settings, server.base.requests.client("ITSELF")
    assert server.base.requests.client("ITSELF") is kept
    timeouts = before.timeouts.model_copy(update={"reconnect": 0.1})
    server.reload(before.model_copy(update={"timeouts": timeouts}))
    assert server.base.requests.client("ITSELF") is not kept


def test_a_reload_gives_handlers_the_deadline_of_now_where_they_have_none_of_their_own(serve):
    class Waiting:
        def __init__(self):
            self.go = threading.Event()

        @hookimpl
        def services(self, registry):
            registry.on_find("WORKLIST")(self.find)
            registry.on_find("STUDY_ROOT", deadline=50)(self.find)

        def find(self, request):
            self.go.wait(20)
            return []

    waiting = Waiting()
    server = serve(addins={"waiting": waiting})
    before = server.settings
    timeouts = before.timeouts.model_copy(update={"add_in": 1.0})
    with call(server, [WORKLIST]) as association:
        server.reload(before.model_copy(update={"timeouts": timeouts}))
        deadlines = {one.sop_classes[0]: one.deadline for one in server.services.snapshot().registrations}
        assert deadlines[WORKLIST] == 1.0
        assert 50 in deadlines.values()
        with call(server, [WORKLIST]) as other, pytest.raises(dn.ServiceFailure) as caught:
            list(other.find(model="WORKLIST"))
        assert caught.value.status == 0x0110
        waiting.go.set()
        assert list(association.find(model="WORKLIST")) == []  # it began with the deadline of before
    server.addins.get("waiting").guard.suspend("to see")
    server.reload(before)
    server.addins.resume(server.addins.get("waiting"))
    with call(server, [WORKLIST]) as association:
        assert list(association.find(model="WORKLIST")) == []


def test_asynchronous_handlers_run_in_the_servers_loop(serve):
    class Asynchronous:
        @hookimpl
        def services(self, registry):
            registry.on_echo(self.echo)
            registry.on_find("WORKLIST")(self.find)

        async def echo(self, request):
            self.thread = threading.current_thread().name
            return 0

        async def find(self, request):
            yield {"PatientName": threading.current_thread().name}

    addin = Asynchronous()
    server = serve(make_settings(addins={"enable": []}), addins={"asynchronous": addin})
    with call(server, [uids.VERIFICATION, WORKLIST]) as association:
        assert association.echo().is_success
        (found,) = association.find(model="WORKLIST")
    assert addin.thread == found.dataset.PatientName == "dicomnet-server-SERVER"


def test_add_ins_start_in_order_and_stop_in_reverse(serve):
    calls = []

    class Told:
        def __init__(self, name):
            self.name = name

        @hookimpl
        def start(self, context):
            calls.append(f"start {context.name}")

        @hookimpl
        def stop(self):
            calls.append(f"stop {self.name}")

    server = serve(addins={"a": Told("a"), "b": Told("b")})
    server.stop()
    assert calls == ["start a", "start b", "stop b", "stop a"]


def test_a_base_service_is_replaced_by_one_add_in_alone(serve):
    class Replacing:
        @hookimpl
        def base_services(self, services):
            services.replace("identity", self)

        def identify(self, identity, caller):
            return identity.name == "jane"

    server = serve(addins={"one": Replacing()})
    host, port = server.address
    peer = f"SERVER@{host}:{port}"
    with dn.client.Client(peer, identity=dn.UserIdentity.named("jane")) as client:
        client.echo()
    with dn.client.Client(peer, identity=dn.UserIdentity.named("joe")) as client, pytest.raises(dn.AssociationRejected):
        client.echo()
    with pytest.raises(StartFailed, match="replaced by the add-in one already"):
        serve(addins={"one": Replacing(), "two": Replacing()})


def test_a_spy_sees_messages_and_cannot_hold_them_up(serve):
    seen, block = [], threading.Event()

    class Watching:
        @hookimpl
        def spy(self, seen):
            block.wait(30)
            names.append(getattr(seen, "name", None))

    names = seen
    server = serve(addins={"watching": Watching()})
    with call(server, [uids.VERIFICATION]) as association:
        for _ in range(20):
            assert association.echo().is_success
    assert not seen
    block.set()
    server.stop()
    assert seen.count("C-ECHO-RQ") == 20
