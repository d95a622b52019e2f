"""What happens to an instance that is passed on while it arrives, when something fails beside it."""

from __future__ import annotations

import os

import archives
import pytest
from archives import CT, data_set
from routers import part10, ready, routing, send, settled
from test_router_cut_through import calling, ledger, passing, silent_to_what_is_passed_on, through

import dicomnet as dn
from dicomnet import uids
from dicomnet.errors import InputFileError
from dicomnet.files.part10 import meta_header
from dicomnet.repository.incoming import BlobSink
from dicomnet.router import cut_through
from dicomnet.router.cut_through import _Passage as Passage
from dicomnet.router.facts import Facts
from dicomnet.router.queue import New
from dicomnet.router.transit import AHEAD, LEAST, Transit
from dicomnet.status import Status
from dicomnet.testing import Provider


@pytest.fixture
def there():
    with Provider("A") as there:
        yield there


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(("whose", "what", "words"), [
    (Passage, "_judge", "an instance cannot be passed on to A"),
    (cut_through.CutThrough, "begin", "an instance cannot be passed on while it arrives"),
])  # fmt: skip
def test_a_failure_of_our_own_is_told_and_the_queue_sends_it(tmp_path, there, monkeypatch, caplog, whose, what, words):
    with passing(tmp_path, there.peer) as router:
        with monkeypatch.context() as patch:
            patch.setattr(whose, what, failing(ZeroDivisionError()))
            send(router, part10(1))
        assert settled(router) == {"A": {"sent": 1}}
        assert ledger(router) == {"1.2.1.1.1": ("sent", True)}  # by the queue, which has its bytes
        ready(router)
        send(router, part10(2))
        assert ledger(router)["1.2.1.1.2"] == ("sent", False)
    assert words in caplog.text


def test_what_cannot_be_kept_is_refused_though_it_was_passed_on(tmp_path, there, monkeypatch):
    with passing(tmp_path, there.peer) as router, calling(router) as association:
        with monkeypatch.context() as patch:
            patch.setattr(BlobSink, "take", failing(OSError(28, "No space left on device")))
            assert association.store(part10(1)).status == Status.OUT_OF_RESOURCES
        router.spool.disk._until = 0.0
        ready(router)
        assert association.store(part10(2)).status.is_success
        assert ledger(router) == {"1.2.1.1.2": ("sent", False)}


def test_a_header_that_is_too_long_is_not_waited_for(tmp_path, there):
    with passing(tmp_path, there.peer) as router:
        send(router, part10(1, TextValue="x" * (3 << 20), size=4096))
        assert settled(router) == {"A": {"sent": 1}}
        assert ledger(router) == {"1.2.1.1.1": ("sent", True)}
    assert there.received[0].data == data_set(1, TextValue="x" * (3 << 20), size=4096)


def test_a_large_one_that_is_not_answered_in_time_goes_by_the_queue(tmp_path, there):
    with passing(tmp_path, there.peer, patience=0.2) as router:
        silent_to_what_is_passed_on(there, router)
        send(router, part10(1, size=5 << 20))
        assert settled(router) == {"A": {"sent": 1}}
        assert ledger(router) == {"1.2.1.1.1": ("sent", True)}
    assert there.received[-1].data == data_set(1, size=5 << 20)


def test_more_classes_than_an_association_has_room_for(tmp_path, there, monkeypatch):
    monkeypatch.setattr(cut_through, "_MOST_CONTEXTS", 2)
    classes = [CT, uids.MR_IMAGE_STORAGE, uids.COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, CT]
    with routing(tmp_path, through(there.peer)) as router:
        ready(router)
        peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
        with dn.connect(peer, contexts=dn.contexts.storage(sorted(set(classes)))) as association:
            for number, cls in enumerate(classes):
                data = data_set(number, SOPClassUID=cls)
                stream = meta_header(cls, f"1.2.1.1.{number}", archives.LITTLE, "TESTER") + data
                assert association.store(stream).status.is_success
        assert {state for state, _ in ledger(router).values()} == {"sent"}
        assert settled(router) == {"A": {"sent": 4}}
    assert [one.sop_class_uid for one in there.received] == classes


class TestFiles:
    """A large instance is read from its file, where the destination is slower than the sender."""

    def transit(self):
        return Transit((CT, "1.2.3", archives.LITTLE), Facts(b"", archives.LITTLE, CT, calling="CT1"), New("A"), 10.0)

    def following(self, path, mode="rb"):
        """One that is in a file, of which nothing was read yet."""
        transit = self.transit()
        path.write_bytes(b"head" + bytes(AHEAD + LEAST + 2))
        transit.follow(path.open(mode, buffering=0), 4)
        transit.write([bytes(AHEAD + LEAST + 2)])
        transit.end()
        return transit

    def test_it_is_read_whole(self, tmp_path):
        transit = self.following(tmp_path / "x")
        assert sum(map(len, transit.chunks(2))) == AHEAD + LEAST + 2

    def test_a_file_that_became_shorter(self, tmp_path):
        transit = self.following(tmp_path / "x")
        os.truncate(tmp_path / "x", 100)
        with pytest.raises(InputFileError, match="it became shorter while it was read"):
            list(transit.chunks(2))

    def test_a_file_that_cannot_be_read(self, tmp_path):
        transit = self.following(tmp_path / "x", "ab")
        with pytest.raises(InputFileError, match="it cannot be read: Bad file descriptor"):
            list(transit.chunks(2))

    def test_the_file_of_one_that_was_given_up_is_closed(self, tmp_path):
        transit, file = self.transit(), (tmp_path / "x").open("wb")
        transit.give_up("too late")
        transit.leave()
        transit.close()
        transit.follow(file, 0)
        assert file.closed
