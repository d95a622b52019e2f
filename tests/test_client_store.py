"""`StoreScu`: what is sent, a known result for each, reports and resuming; both faces over real sockets."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clients
import faces
import peers
import programs
import pydicom
import pytest
import rig
from faces import CT, MR, SYNTAX
from test_cli_store import instance

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import Retry, events
from dicomnet.client.inputs import Gatherer
from dicomnet.client.report import Report

QUICKLY = Retry(attempts=3, first=0.01, jitter=0)
NOWHERE = "ANY-SCP@127.0.0.1:1"


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


@pytest.fixture
def ten(tmp_path: Path) -> list[Path]:
    return [instance(tmp_path / "ten" / f"{number:02}.dcm", number) for number in range(10)]


class Archive:
    """A provider that keeps the UIDs of what it gets, and answers as it is told."""

    def __init__(self, answer: Any = None) -> None:
        self.uids: list[str] = []
        self.addresses: set[str] = set()
        self._answer = answer

    def __call__(self, listener: Any) -> None:
        @listener.on_store(unknown_classes=True)
        def keep(request: Any) -> Any:
            self.uids.append(request.sop_instance_uid)
            self.addresses.add(request.address)
            return None if self._answer is None else self._answer(request)


@contextmanager
def sending(made: clients.Clients, answer: Any = None, **options: Any) -> Iterator[tuple[Any, Archive]]:
    archive = Archive(answer)
    with faces.provider("sync", archive) as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        yield scu, archive


def outcomes(results: Any) -> Counter[str]:
    return Counter(result.outcome.value for result in results)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- what is sent ----------------------------------------------------------------------------------------------------


def test_files_and_directories(made, ten, tmp_path):
    deep = instance(tmp_path / "ten" / "deep" / "x.dcm", 50)
    with sending(made) as (scu, archive):
        results = list(scu.send(tmp_path / "ten", str(instance(tmp_path / "one.dcm", 60))))
    assert outcomes(results) == {"stored": 12}
    assert results[0].source == str(ten[0])
    assert (results[0].sop_class_uid, results[0].sop_instance_uid, results[0].sent_as) == (CT, "1.2.3.0", "1.2.3.0")
    assert all(result.ok and result.status.is_success and result.size for result in results)
    assert sorted(archive.uids) == sorted(f"1.2.3.{number}" for number in [*range(10), 50, 60])
    assert len(archive.addresses) == 1
    assert deep.exists()


def test_a_pattern_and_no_recursion(made, ten, tmp_path):
    instance(tmp_path / "ten" / "deep" / "03.dcm", 50)
    with sending(made, pattern="0[3-5].*", recurse=False) as (scu, archive):
        assert outcomes(scu.send(tmp_path / "ten")) == {"stored": 3}
    assert archive.uids == ["1.2.3.3", "1.2.3.4", "1.2.3.5"]


def test_data_sets_bytes_sources_and_iterables(made, ten):
    dataset = rig.instance(7)
    with sending(made) as (scu, archive):
        given = [dataset, ten[0].read_bytes(), faces.instance(100), (str(path) for path in ten[1:3]), [ten[3]]]
        results = list(scu.send(*given))
        with open(ten[4], "rb") as file:
            results += list(scu.send(file))
    assert outcomes(results) == {"stored": 7}
    assert results[0].source is dataset
    expected = [dataset.SOPInstanceUID, "1.2.3.0", "2.25.1", "1.2.3.3", "1.2.3.1", "1.2.3.2", "1.2.3.4"]
    assert archive.uids == expected


def test_an_iterable_is_not_read_far_ahead(made):
    taken = []

    def endless() -> Iterator[Any]:
        for number in range(100_000):
            taken.append(number)
            yield faces.instance(10, uid=f"2.25.{number}")

    with sending(made) as (scu, _):
        results = scu.send(endless())
        assert next(results).ok
        results.close()
    assert len(taken) <= 64


def test_a_dicomdir(made):
    folder = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
    with sending(made) as (scu, archive):
        results = list(scu.send(folder / "DICOMDIR"))
    found = [result for result in results if result.outcome.value == "stored"]
    assert len(found) == len(set(archive.uids)) == 31
    assert {Path(result.name).parents[-1] for result in found} == {Path("/")}
    assert not [result for result in results if result.sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY_STORAGE]


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_dicomdir_names_no_file_outside_its_folder(made, tmp_path):
    instance(tmp_path / "secret.dcm", 1)
    record = pydicom.Dataset()
    record.DirectoryRecordType = "IMAGE"
    record.ReferencedFileID = ["..", "secret.dcm"]
    gone = pydicom.Dataset()
    gone.ReferencedFileID = "GONE"
    listing = pydicom.Dataset()
    listing.DirectoryRecordSequence = [record, gone]
    listing.file_meta = pydicom.dataset.FileMetaDataset()
    listing.file_meta.MediaStorageSOPClassUID = uids.MEDIA_STORAGE_DIRECTORY_STORAGE
    listing.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    listing.file_meta.TransferSyntaxUID = SYNTAX
    (tmp_path / "in").mkdir()
    listing.save_as(tmp_path / "in" / "DICOMDIR", enforce_file_format=True)
    with sending(made) as (scu, archive):
        results = list(scu.send(tmp_path / "in" / "DICOMDIR"))
    assert outcomes(results) == {"unreadable": 2}
    assert archive.uids == []
    shutil.copy(instance(tmp_path / "good.dcm", 2), tmp_path / "in" / "gone")  # written in small letters
    with sending(made) as (scu, archive):
        results = list(scu.send(tmp_path / "in" / "DICOMDIR"))
    assert outcomes(results) == {"unreadable": 1, "stored": 1}
    assert r"DICOMDIR: its record of ..\secret.dcm leads nowhere" in results[0].reason


@pytest.fixture
def archive_file(ten, tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for one in ten:
            file.write(one, f"series/{one.name}")
    return path


def test_a_zip_archive(made, archive_file):
    with sending(made, associations=3) as (scu, archive):
        results = list(scu.send(archive_file))
    assert outcomes(results) == {"stored": 10}
    assert sorted(archive.uids) == [f"1.2.3.{number}" for number in range(10)]
    assert f"{archive_file}!series/00.dcm" in {result.source for result in results}


def test_an_unreadable_entry_is_named_and_the_others_are_sent(made, archive_file):
    raw = bytearray(archive_file.read_bytes())
    with zipfile.ZipFile(archive_file) as file:
        broken = file.getinfo("series/04.dcm")
        at = broken.header_offset + 30 + len(broken.filename)
    raw[at + 10 : at + 20] = b"\xff" * 10
    archive_file.write_bytes(raw)
    with sending(made) as (scu, archive):
        results = list(scu.send(archive_file))
    (bad,) = [result for result in results if not result.ok]
    assert bad.outcome.value == "unreadable"
    assert str(bad.error).startswith(f"{archive_file}!series/04.dcm: ")
    assert "\n" not in str(bad.error)
    assert len(archive.uids) == 9


def test_an_entry_may_not_become_more_than_its_limit(made, tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(instance(tmp_path / "large.dcm", 1, size=3_000_000), "large.dcm")
    with sending(made, limits=dn.Limits(archive_entry=1_000_000)) as (scu, archive):
        (result,) = scu.send(path)
    assert (result.outcome.value, archive.uids) == ("unreadable", [])
    assert "bomb.zip!large.dcm: it inflates to more than 1000000 bytes" in str(result.error)


def test_what_cannot_be_read_is_a_result(made, ten, tmp_path):
    (tmp_path / "ten" / "note.txt").write_text("not DICOM")
    cut = tmp_path / "ten" / "cut.dcm"
    cut.write_bytes(instance(cut, 99, size=1000).read_bytes()[:-10])
    with sending(made) as (scu, archive):
        results = list(scu.send(tmp_path / "ten", tmp_path / "gone.dcm"))
    assert outcomes(results) == {"stored": 10, "unreadable": 3}
    bad = {Path(result.name).name: result.reason for result in results if not result.ok}
    assert sorted(bad) == ["cut.dcm", "gone.dcm", "note.txt"]
    assert len(archive.uids) == 10


@pytest.mark.parametrize("kind", ["empty", "no DICOM", "zip"])
def test_where_there_is_nothing_the_others_are_sent(made, kind, ten, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    if kind == "no DICOM":
        (place / "a.txt").write_text("text")
    elif kind == "zip":
        place = tmp_path / "place.zip"
        zipfile.ZipFile(place, "w").close()
    report = tmp_path / "report.jsonl"
    with sending(made, report=report) as (scu, archive):
        (first, *others) = scu.send(place, ten[0])
    assert (first.outcome.value, [result.outcome.value for result in others]) == ("unreadable", ["stored"])
    reason = "not a DICOM file" if kind == "no DICOM" else "no DICOM files in it"
    assert reason in first.reason
    assert first.reason.startswith(str(place))
    assert archive.uids == [others[0].sop_instance_uid]
    assert len(report.read_text().splitlines()) == 2


def test_transcoding_to_what_is_preferred(made, tmp_path):
    dataset = rig.instance(1)
    syntaxes = []
    with sending(
        made, lambda request: syntaxes.append(request.transfer_syntax_uid), transcode=[uids.IMPLICIT_VR_LITTLE_ENDIAN]
    ) as (scu, _):
        (result,) = scu.send(dataset)
    assert result.ok
    assert result.transfer_syntax_uid == uids.IMPLICIT_VR_LITTLE_ENDIAN
    assert syntaxes == [uids.IMPLICIT_VR_LITTLE_ENDIAN]


def test_store_gives_one_result(made, ten):
    with sending(made) as (scu, archive):
        assert scu.store(ten[0]).ok
        assert scu.store(ten[1]).ok
        assert scu.store(Path("gone")).outcome.value == "unreadable"
    assert (archive.uids, len(archive.addresses)) == (["1.2.3.0", "1.2.3.1"], 1)


# ---- results ---------------------------------------------------------------------------------------------------------


def test_every_kind_of_answer(made, ten):
    answers = {"1.2.3.2": 0xB000, "1.2.3.4": 0xA700, "1.2.3.6": 0xC000}
    with sending(made, lambda request: answers.get(request.sop_instance_uid, 0)) as (scu, _):
        results = list(scu.send(*ten))
    kinds = {result.sop_instance_uid: result.outcome.value for result in results}
    assert Counter(kinds.values()) == {"stored": 7, "warning": 1, "failed": 2}
    assert (kinds["1.2.3.2"], kinds["1.2.3.4"]) == ("warning", "failed")
    assert [result.status for result in results if result.outcome.value == "failed"] == [0xA700, 0xC000]


def test_a_refused_context(made, ten, tmp_path):
    def only_ct(listener: Any) -> None:
        listener.on_store([CT])(lambda _: None)

    other = instance(tmp_path / "mr.dcm", 77, MR)
    with faces.provider("sync", only_ct) as provider, made.make("StoreScu", provider.peer()) as scu:
        results = list(scu.send(*ten[:2], other))
        assert outcomes(results) == {"stored": 2, "refused": 1}
        (refused,) = scu.send(other)
        assert refused.outcome.value == "refused"
        assert isinstance(refused.error, dn.NoAcceptedContext)


def test_halt(made, ten):
    with sending(made, lambda request: 0xA700 if request.sop_instance_uid == "1.2.3.3" else 0, halt=True) as (scu, it):
        results = list(scu.send(*ten))
    assert outcomes(results) == {"stored": 3, "failed": 1, "skipped": 6}
    assert results[-1].reason == "the batch was stopped after a failure"
    assert len(it.uids) == 4


def test_several_associations(made, ten):
    meeting = threading.Barrier(3)

    def meet(_: Any) -> None:
        if len(archive.uids) <= 3:  # of those after them, one association may take more than its share
            meeting.wait(faces.PATIENCE)

    with sending(made, meet, associations=3) as (scu, archive):
        assert outcomes(scu.send(*ten[:9])) == {"stored": 9}
        assert len(scu.client.pool) == 3
    assert len(archive.addresses) == 3


def test_more_contexts_than_fit_one_association(made, tmp_path):
    paths = [instance(tmp_path / f"{number}.dcm", number, f"1.2.840.10008.5.1.4.1.1.{number}") for number in range(200)]
    with sending(made) as (scu, archive):
        assert outcomes(scu.send(*paths)) == {"stored": 200}
    assert len(archive.addresses) == 4


def test_several_under_way_on_an_association(made, ten):
    def windows(listener: Any) -> None:
        listener.on_store()(lambda request: 0xA700 if request.sop_instance_uid == "1.2.3.2" else 0)
        listener.acceptance = dn.AcceptancePolicy(operations_window=(4, 4))

    extras = dn.NegotiationOptions(operations_window=(4, 1))
    options = {"extras": extras, "halt": True}
    with faces.provider("sync", windows) as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        with_a_failure = list(scu.send(*ten))
        assert next(iter(scu.send(*ten[3:]))).ok
    kinds = outcomes(with_a_failure)
    assert sum(kinds.values()) == 10  # each has a known result: what was under way when one failed, too
    assert kinds["failed"] == 1
    assert kinds["stored"] < 9


@pytest.mark.parametrize(
    ("options", "under_way"),
    [
        ({}, 16),
        ({"window": 5}, 5),
        ({"window": 1}, 1),
        ({"halt": True}, 1),
        ({"halt": True, "window": 3}, 3),
        ({"extras": dn.NegotiationOptions(operations_window=(7, 1))}, 7),
        ({"identity": dn.UserIdentity.named("jane")}, 16),
    ],
)
def test_how_many_may_be_under_way(made, ten, options, under_way):
    with faces.provider("sync") as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        proposed, agreed = proposals(scu.client)
        assert outcomes(scu.send(*ten)) == {"stored": 10}
        assert scu.client.extras.identity == options.get("identity")
    assert agreed == [(under_way, 1)]
    assert proposed == agreed  # one is not even mentioned, see test_negotiation


@pytest.mark.parametrize(("known", "under_way"), [((3, 1), 3), ((1, 1), 1)])
def test_how_many_may_be_under_way_of_a_peer_that_is_known(made, ten, known, under_way):
    with faces.provider("sync") as provider:
        profile = dn.Peer(dn.Entity.parse(provider.peer()), window=known)
        with made.make("StoreScu", profile) as scu:
            _, agreed = proposals(scu.client)
            assert outcomes(scu.send(*ten)) == {"stored": 10}
    assert agreed == [(under_way, 1)]


def test_a_client_that_is_there_already_proposes_what_it_likes(made, ten):
    with faces.provider("sync") as provider, made.make("QueryRetrieveScu", provider.peer()) as other:
        proposed, agreed = proposals(other.client)
        with made.make("StoreScu", other.client) as scu:
            assert outcomes(scu.send(*ten)) == {"stored": 10}
        assert (proposed, agreed) == ([None], [(1, 1)])
        with pytest.raises(dn.InvalidArgument, match="by the client"), made.make("StoreScu", other.client, window=4):
            pass
    with pytest.raises(dn.InvalidArgument, match="at least one"), made.make("StoreScu", "A@localhost:1", window=0):
        pass


def proposals(client: Any) -> tuple[list[Any], list[Any]]:
    """Operations windows that a client proposes from now on, and those that are agreed upon."""
    proposed: list[Any] = []
    agreed: list[Any] = []
    client.on(events.BeforeAssociate)(lambda event: proposed.append(event.extras and event.extras.operations_window))
    client.on(events.AfterAssociate)(lambda event: agreed.append(event.association.operations_window))
    return proposed, agreed


def test_out_of_resources_is_tried_again_if_asked(made, ten):
    seen: Counter[str] = Counter()

    def full(request: Any) -> int:
        seen[request.sop_instance_uid] += 1
        return 0xA700 if request.sop_instance_uid == "1.2.3.3" and seen["1.2.3.3"] < 3 else 0

    retry = Retry(attempts=3, first=0.01, out_of_resources=True)
    with sending(made, full, retry=retry) as (scu, _):
        assert outcomes(scu.send(*ten)) == {"stored": 10}
    assert seen["1.2.3.3"] == 3
    assert sum(seen.values()) == 12


def test_leaving_the_loop_stops_the_batch(made, ten):
    for associations in (1, 3):
        with sending(made, associations=associations) as (scu, archive):
            results = scu.send(*ten * 20)
            assert next(results).ok
            results.close()
            sent = len(archive.uids)
            assert sent < 100
            assert scu.store(ten[0]).ok


def test_requests_per_association(made, ten):
    with sending(made, requests_per_association=4) as (scu, archive):
        assert outcomes(scu.send(*ten)) == {"stored": 10}
    assert len(archive.addresses) == 3


# ---- events ----------------------------------------------------------------------------------------------------------


def test_instances_are_edited_skipped_and_vetoed(made, ten):
    after = []
    with sending(made) as (scu, archive):

        def look(event: Any) -> None:
            uid = event.dataset.SOPInstanceUID
            if uid == "1.2.3.2":
                event.skip()
            elif uid == "1.2.3.4":
                event.veto("too private")
            elif uid == "1.2.3.7":
                event.skip_rest()
            else:
                event.dataset.SOPInstanceUID = f"2.25.{uid[-1]}"

        scu.on(events.BeforeStore)(made.handler(look))
        scu.client.on(events.AfterStore)(after.append)
        results = list(scu.send(*ten))
    assert outcomes(results) == {"stored": 5, "skipped": 4, "failed": 1}
    assert archive.uids == ["2.25.0", "2.25.1", "2.25.3", "2.25.5", "2.25.6"]
    assert [result.sent_as for result in results if result.ok] == archive.uids
    (vetoed,) = [result for result in results if result.outcome.value == "failed"]
    assert (vetoed.sop_instance_uid, vetoed.error.message) == ("1.2.3.4", "too private")
    assert len(after) == 5


def test_a_failing_handler_stops_the_batch_with_its_own_exception(made, ten):
    with sending(made) as (scu, archive):
        scu.on(events.BeforeStore)(made.handler(lambda _: 1 // 0))
        with pytest.raises(ZeroDivisionError):
            list(scu.send(*ten))
        assert archive.uids == []


def test_a_method_of_a_subclass(made, ten):
    class Mine(made.module.StoreScu):  # type: ignore[name-defined, misc]
        def before_store(self, event: Any) -> None:
            event.skip()

    archive = Archive()
    with faces.provider("sync", archive) as provider, made.make("StoreScu", provider.peer(), cls=Mine) as scu:
        assert outcomes(scu.send(*ten)) == {"skipped": 10}
    assert archive.uids == []


def one_and_three_fail(request: Any) -> int:
    return 0xA700 if request.sop_instance_uid in ("1.2.3.1", "1.2.3.3") else 0


# ---- the report ------------------------------------------------------------------------------------------------------


def test_the_report_says_what_became_of_each(made, ten, tmp_path):
    report = tmp_path / "report.jsonl"
    with sending(made, one_and_three_fail, report=report) as (scu, _):
        for result in scu.send(*ten, tmp_path / "gone.dcm"):
            assert lines(report)[-1]["sop_instance_uid"] == result.sop_instance_uid  # there before a caller is told
    assert Counter(line["outcome"] for line in lines(report)) == {"stored": 8, "failed": 2, "unreadable": 1}
    (line,) = [line for line in lines(report) if line["sop_instance_uid"] == "1.2.3.1"]
    assert line.items() >= {"status": "0xA700", "source": str(ten[1]), "sop_class_uid": CT}.items()


def test_resuming_sends_what_was_not_acknowledged(made, ten, tmp_path):
    report = tmp_path / "report.jsonl"
    with sending(made, one_and_three_fail, report=report) as (scu, _):
        list(scu.send(*ten[:6]))
    report.write_bytes(report.read_bytes() + b'{"outcome": "stored", "sour')  # cut off in the middle of a line
    with sending(made, report=report, resume=True) as (scu, archive):
        results = list(scu.send(*ten))
    assert outcomes(results) == {"stored": 6, "skipped": 4}
    assert archive.uids == ["1.2.3.1", "1.2.3.3", *(f"1.2.3.{number}" for number in range(6, 10))]
    stored = [line["sop_instance_uid"] for line in lines(report) if line["outcome"] == "stored"]
    assert sorted(stored) == [f"1.2.3.{number}" for number in range(10)]


def test_a_report_is_not_overwritten(made, ten, tmp_path):
    report = tmp_path / "report.jsonl"
    report.write_text("precious\n")
    with sending(made, report=report) as (scu, archive), pytest.raises(dn.OutputFileError, match="there is a report"):
        list(scu.send(*ten))
    with (
        sending(made, report=report, resume=True) as (scu, archive),
        pytest.raises(dn.InputFileError, match=r"report\.jsonl: line 1 is no line of a report"),
    ):
        list(scu.send(*ten))
    assert (report.read_text(), archive.uids) == ("precious\n", [])
    with sending(made, report=tmp_path / "no" / "such") as (scu, archive), pytest.raises(dn.OutputFileError):
        list(scu.send(*ten))
    assert archive.uids == []


def test_a_report_that_cannot_be_written_stops_the_batch(ten, tmp_path):
    report = Report(tmp_path / "r", resume=False)
    report.close()
    with pytest.raises(dn.OutputFileError, match="cannot be written"):
        report.write({})


def test_wrong_options_are_said_at_once(made):
    scu = made.module.StoreScu
    for options, what in (
        ({"resume": True}, "nothing to resume"),
        ({"associations": 0}, "associations is at least 1"),
        ({"transcode": "always"}, "no way of converting"),
        ({"calling": "A" * 17}, "17 characters"),
    ):
        with pytest.raises(dn.InvalidArgument, match=what):
            scu(NOWHERE, **options)
    with pytest.raises(dn.InvalidArgument, match="calling: an option of the client"):
        scu(made.module.Client(NOWHERE), calling="X")
    with sending(made) as (one, _), pytest.raises(dn.InvalidArgument, match="nothing to store: int"):
        list(one.send(7))


# ---- a peer that dies ------------------------------------------------------------------------------------------------


def test_nobody_there(made, ten, tmp_path):
    report = tmp_path / "report.jsonl"
    address = f"ANY-SCP@127.0.0.1:{peers.free_port()}"
    with made.make("StoreScu", address, retry=QUICKLY, associations=3, report=report) as scu:
        results = list(scu.send(*ten))
    assert outcomes(results) == {"failed": 10}
    assert {type(result.error) for result in results} == {dn.ConnectionFailed}
    assert len(lines(report)) == 10


@pytest.mark.parametrize("window", [1, None])
def test_a_peer_that_always_leaves_does_not_keep_us_for_ever(made, ten, window):
    gone = []

    def leave(listener: Any) -> None:
        @listener.on_store()
        def keep(request: Any) -> None:
            gone.append(request.sop_instance_uid)
            listener.cut()

    options = {"retry": QUICKLY, "window": window}
    with faces.provider("sync", leave) as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        results = list(scu.send(*ten))
    assert outcomes(results) == {"failed": 10}
    assert set(gone) == {f"1.2.3.{number}" for number in range(10)}
    # Twice each, the second time alone; of several under way the peer leaves before it has looked at all of them.
    assert set(Counter(gone).values()) in ([{2}] if window == 1 else [{2}, {1, 2}, {1}])


@pytest.mark.parametrize("window", [1, None])
def test_an_association_that_breaks_is_replaced(made, ten, window):
    """Only the instance that ends it fails, a second time and alone: what was under way is sent one at a time."""
    broken = []

    def leave(listener: Any) -> None:
        @listener.on_store()
        def keep(request: Any) -> None:
            if request.sop_instance_uid == "1.2.3.4":
                broken.append(request.sop_instance_uid)
                listener.cut()

    ends = []
    options = {"retry": QUICKLY, "window": window}
    with faces.provider("sync", leave) as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        scu.client.on(events.Closed)(ends.append)
        results = list(scu.send(*ten))
    assert outcomes(results) == {"stored": 9, "failed": 1}
    assert [result.sop_instance_uid for result in results if not result.ok] == ["1.2.3.4"]
    assert len(broken) == len(ends) == 2


@pytest.mark.parametrize("window", [1, None])
def test_an_instance_that_was_under_way_when_the_peer_left_is_not_to_blame_for_it(made, ten, window):
    left = []

    def leave_once(listener: Any) -> None:
        @listener.on_store()
        def keep(request: Any) -> None:
            if request.sop_instance_uid == "1.2.3.4" and not left:
                left.append(True)
                listener.cut()

    options = {"retry": QUICKLY, "window": window}
    with faces.provider("sync", leave_once) as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        assert outcomes(scu.send(*ten)) == {"stored": 10}
    assert left


def test_several_that_were_under_way_are_not_sent_again_where_nothing_is(made, ten):
    def leave(listener: Any) -> None:
        @listener.on_store()
        def keep(_: Any) -> None:
            listener.cut()

    options = {"retry": Retry(attempts=1)}
    with faces.provider("sync", leave) as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        assert outcomes(scu.send(*ten)) == {"failed": 10}


@pytest.mark.parametrize(("window", "most"), [(1, 1), (None, 17)])
def test_closing_from_another_thread_ends_the_batch(made, tmp_path, window, most):
    forty = [instance(tmp_path / f"{number}.dcm", number) for number in range(40)]
    begun, go = threading.Event(), threading.Event()

    def slowly(_: Any) -> None:
        begun.set()
        assert go.wait(faces.PATIENCE)

    with sending(made, slowly, window=window) as (scu, archive):
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.extend(scu.send(*forty)))
        thread.start()
        assert begun.wait(faces.PATIENCE)
        if made.face == "sync":
            scu.client.close()
        else:
            made._loop.run(scu.client.close())
        go.set()
        thread.join(faces.PATIENCE)
        stored = outcomes(results)["stored"]
        assert outcomes(results) == {"stored": stored, "skipped": 40 - stored}
        assert results[-1].reason == "the client was closed"
    assert 1 <= stored <= most
    assert archive.uids == [f"1.2.3.{number}" for number in range(stored)]


@pytest.mark.deadline(120)
def test_a_peer_that_is_killed_in_the_middle_and_comes_back(made, tmp_path):
    paths = [instance(tmp_path / "in" / f"{number:04}.dcm", number, size=2000) for number in range(1000)]
    report, out = tmp_path / "report.jsonl", tmp_path / "out"
    options = {"associations": 4, "report": report, "retry": Retry(attempts=2, first=0.01)}
    first = []
    with (
        programs.provider("--out", out) as recv,
        made.make("StoreScu", f"ANY-SCP@{recv.address}", **options) as scu,
    ):
        for result in scu.send(paths[0].parent):
            first.append(result)
            if len(first) == 300:
                recv.process.send_signal(signal.SIGKILL)
    assert {result.name for result in first} == set(map(str, paths))  # a known result for each
    assert len(first) == 1000
    acknowledged = {result.sop_instance_uid for result in first if result.ok}
    assert 300 <= len(acknowledged) < 1000
    assert acknowledged <= {path.stem for path in out.glob("*.dcm")}
    with programs.provider("--out", out, "--json", "-q", address=f"127.0.0.1:{recv.port}") as again:
        with made.make("StoreScu", f"ANY-SCP@{again.address}", **options, resume=True) as scu:
            second = list(scu.send(paths[0].parent))
        received = programs.summary(again.stop())
    assert outcomes(second) == {"skipped": len(acknowledged), "stored": 1000 - len(acknowledged)}
    assert received["instances"] == 1000 - len(acknowledged)
    assert not acknowledged & {result.sop_instance_uid for result in second if result.ok}
    stored = Counter(line["sop_instance_uid"] for line in lines(report) if line["outcome"] == "stored")
    assert stored == {f"1.2.3.{number}": 1 for number in range(1000)}
    assert len(list(out.glob("*.dcm"))) == 1000


# ---- storage commitment ----------------------------------------------------------------------------------------------


class Committing(Archive):
    """Commits itself to what it has, but for some."""

    def __init__(self, refused: set[str], silent: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        super().__init__()
        self.refused, self.silent = refused, silent
        self.asked: list[tuple[str, str]] = []

    def __call__(self, listener: Any) -> None:
        super().__call__(listener)

        @listener.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)
        def commit(request: Any) -> None:
            asked = request.dataset.ReferencedSOPSequence
            items = [item for item in asked if item.ReferencedSOPInstanceUID not in self.silent]
            self.asked += [(request.address, item.ReferencedSOPInstanceUID) for item in items]
            failed = [item for item in items if item.ReferencedSOPInstanceUID in self.refused]
            for item in failed:
                item.FailureReason = 0x0112
            report = rig.keys(
                TransactionUID=request.dataset.TransactionUID,
                ReferencedSOPSequence=[item for item in items if item not in failed],
            )
            if failed:
                report.FailedSOPSequence = failed
            request.report(2 if failed else 1, report)


def test_commitment_is_asked_for_with_a_result_per_instance(made, ten, tmp_path):
    report = tmp_path / "report.jsonl"
    archive = Committing({"1.2.3.4"}, {"1.2.3.6"})
    with (
        faces.provider("sync", archive) as provider,
        made.make("StoreScu", provider.peer(), commit=True, report=report, associations=2) as scu,
    ):
        associated: list[Any] = []
        scu.client.on(events.AfterAssociate)(associated.append)
        results = list(scu.send(*ten, tmp_path / "gone"))
    assert outcomes(results) == {"stored": 10, "unreadable": 1, "committed": 8, "not committed": 2}
    assert len(associated) <= 2  # it was asked for on one that was there
    assert len({address for address, _ in archive.asked}) == 1
    missing = [result for result in results if result.outcome.value == "not committed"]
    refused, silent = sorted(missing, key=lambda result: result.sop_instance_uid)  # over two, any comes first
    assert (refused.sop_instance_uid, refused.status) == ("1.2.3.4", 0x0112)
    assert (silent.sop_instance_uid, silent.reason) == ("1.2.3.6", "the peer does not mention it")
    assert Counter(line["outcome"] for line in lines(report)) == outcomes(results)
    archive.refused, archive.asked = set(), []
    options = {"report": report, "resume": True, "commit": True}
    with faces.provider("sync", archive) as provider, made.make("StoreScu", provider.peer(), **options) as scu:
        assert outcomes(scu.send(*ten)) == {"skipped": 10, "committed": 1, "not committed": 1}
    assert [uid for _, uid in archive.asked] == ["1.2.3.4"]  # the rest is committed, says the report


def test_commitment_of_another_ae(made, ten):
    keeper = Committing(set())
    archive = Archive()
    with (
        faces.provider("sync", archive) as provider,
        faces.provider("sync", keeper) as other,
        made.make("CommitmentScu", other.peer()) as commitment,
        made.make("StoreScu", provider.peer(), commit=getattr(commitment, "_association", commitment)) as scu,
    ):
        results = list(scu.send(*ten))
    assert outcomes(results) == {"stored": 10, "committed": 10}
    assert len(keeper.asked) == 10


def test_commitment_that_cannot_be_had_is_a_result(made, ten):
    with sending(made, commit=True) as (scu, _):
        results = list(scu.send(*ten))
    assert outcomes(results) == {"stored": 10, "not committed": 10}
    assert isinstance(results[-1].error, dn.ServiceFailure)
    assert "N-ACTION failed: 0x0122" in results[-1].reason


# ---- DCMTK -----------------------------------------------------------------------------------------------------------


def test_dcmtk_takes_a_batch(made, sample_files, tmp_path):
    port = peers.free_port()
    (tmp_path / "out").mkdir()
    program = [peers.peer_program("storescp"), "+B", "+xa", "--fork", "-od", tmp_path / "out", port]
    whole = [path for path in sample_files if "truncated" not in path.name and path.suffix == ".dcm"][:40]
    with programs.peer(program, port), made.make("StoreScu", f"STORESCP@127.0.0.1:{port}", associations=3) as scu:
        results = list(scu.send(*whole))
    assert len(results) == 40
    sent = {result.sent_as for result in results if result.ok}
    assert len(list((tmp_path / "out").iterdir())) == len(sent) > 20
    unreadable = {"SC_rgb_jpeg.dcm"}  # JPEG in implicit VR
    assert {Path(one.name).name for one in results if one.outcome.value == "unreadable"} <= unreadable
    assert {result.outcome.value for result in results} <= {"stored", "refused", "unreadable"}


# ---- looking over ----------------------------------------------------------------------------------------------------


def test_small_files_are_read_once(ten):
    gatherer = Gatherer(
        lambda *refused: pytest.fail(str(refused)),
        pattern="*",
        recurse=True,
        transfer_syntax=None,
        limits=dn.Limits(),
    )
    (items,) = gatherer.windows(ten)
    opened = [item.open() for item in items]
    assert not isinstance(opened[1], str | Path)  # once small files begin, they are held
    assert opened[0] == ten[0]
