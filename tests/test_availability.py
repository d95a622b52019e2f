"""Instance availability notification, as user and as provider, with pynetdicom as the other."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import peers
import pytest
from programs import run_here
from rig import instance
from servers import Told, call, make_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import AvailableInstance
from dicomnet.client.availability import AVAILABILITIES, notices
from dicomnet.dataset import codec
from dicomnet.server import Server

CLASS = uids.INSTANCE_AVAILABILITY_NOTIFICATION


def one(number=1, study="1.2.3", availability="ONLINE", **values):
    return AvailableInstance(study, f"{study}.1", uids.CT_IMAGE_STORAGE, f"{study}.1.{number}", availability, "ARCHIVE",
                             **values)  # fmt: skip


def taking(folder):
    return Server(make_settings(addins={"enable": ["availability"]}), directory=folder)


def known(folder):
    with sqlite3.connect(folder / "data" / "availability" / "instances.sqlite") as database:
        return dict(database.execute("SELECT uid, availability FROM instances"))


def test_a_note_has_all_of_a_study_and_the_last_word_holds():
    told = notices([one(1), one(2), one(1, availability="OFFLINE", file_set_id="DISC"), one(1, study="1.2.4")])
    assert [note["StudyInstanceUID"] for note in told] == ["1.2.3", "1.2.4"]
    (series,) = told[0]["ReferencedSeriesSequence"]
    assert [item["InstanceAvailability"] for item in series["ReferencedSOPSequence"]] == ["OFFLINE", "ONLINE"]
    assert series["ReferencedSOPSequence"][0]["StorageMediaFileSetID"] == "DISC"


@pytest.mark.parametrize("wrong", [{"availability": "SOMETIMES"}, {"study": ""}])
def test_what_cannot_be_is_refused_before_anything_is_sent(wrong):
    with pytest.raises(dn.InvalidArgument):
        one(**wrong)
    with pytest.raises(dn.InvalidArgument, match="no instances"):
        notices([])


def test_what_is_told_is_remembered_over_a_restart(tmp_path):
    with taking(tmp_path) as server, Told(server) as told:
        host, port = server.address
        with dn.client.AvailabilityScu(f"SERVER@{host}:{port}") as scu:
            assert len(scu.notify([one(number) for number in range(1, 4)])) == 1
            scu.notify([one(2, availability="UNAVAILABLE")], steps=[(uids.MODALITY_PERFORMED_PROCEDURE_STEP, "1.9")])
        first, second = (event.data for event in told.wait_for("availability.noted", 2))
    assert (first["study_uid"], first["ONLINE"], second["UNAVAILABLE"]) == ("1.2.3", 3, 1)
    with taking(tmp_path):
        assert known(tmp_path) == {"1.2.3.1.1": "ONLINE", "1.2.3.1.2": "UNAVAILABLE", "1.2.3.1.3": "ONLINE"}


def test_by_asyncio_each_study_is_told_by_itself(tmp_path):
    async def work(address):
        async with dn.client.aio.AvailabilityScu(address) as scu:
            return await scu.notify([one(), one(study="1.2.4", availability="OFFLINE")])

    with taking(tmp_path) as server, Told(server) as told:
        host, port = server.address
        assert len(set(asyncio.run(work(f"SERVER@{host}:{port}")))) == 2
        first, second = (event.data for event in told.wait_for("availability.noted", 2))
    assert [first["study_uid"], second["study_uid"]] == ["1.2.3", "1.2.4"]
    assert known(tmp_path) == {"1.2.3.1.1": "ONLINE", "1.2.4.1.1": "OFFLINE"}


@pytest.mark.parametrize(
    ("change", "status", "offending"),
    [
        ({"StudyInstanceUID": ""}, 0x0120, 0x0020000D), ({"ReferencedSeriesSequence": []}, 0x0120, 0x00081115),
        ({"InstanceAvailability": "SOON"}, 0x0106, 0x00080056), ({"RetrieveAETitle": ""}, 0x0120, 0x00080054),
    ],
)  # fmt: skip
def test_a_note_that_cannot_be_is_refused_whole_and_the_attribute_named(tmp_path, change, status, offending):
    (note,) = notices([one(1), one(2)])
    keyword, value = next(iter(change.items()))
    (note if keyword in note else note["ReferencedSeriesSequence"][0]["ReferencedSOPSequence"][1])[keyword] = value
    with taking(tmp_path) as server, call(server, CLASS) as link:
        with pytest.raises(dn.ServiceFailure) as caught:
            link.n_create(CLASS, "1.2.9", codec.from_keywords(note))
        assert (caught.value.status, caught.value.status.offending) == (status, (offending,))
        assert known(tmp_path) == {}


def test_a_note_is_taken_once(tmp_path):
    (note,) = notices([one()])
    with taking(tmp_path) as server, call(server, CLASS) as link:
        assert link.n_create(CLASS, "1.2.9", codec.from_keywords(note)).status == 0
        for uid, status in (("1.2.9", 0x0111), ("1.02", 0x0117)):
            with pytest.raises(dn.ServiceFailure) as caught:
                link.n_create(CLASS, uid, codec.from_keywords(note))
            assert caught.value.status == status


def test_pynetdicom_is_told_and_tells(tmp_path):
    from pynetdicom import AE, evt

    heard = []

    def take(event):
        heard.append(event.attribute_list)
        return 0x0000, event.attribute_list

    ae = AE("RIS")
    ae.add_supported_context(CLASS)
    ae.add_requested_context(CLASS)
    scp = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)])
    try:
        with dn.client.AvailabilityScu(f"RIS@127.0.0.1:{scp.server_address[1]}") as scu:
            scu.notify([one(number, availability=how) for number, how in enumerate(AVAILABILITIES)])
    finally:
        scp.shutdown()
    (series,) = heard[0].ReferencedSeriesSequence
    assert [item.InstanceAvailability for item in series.ReferencedSOPSequence] == list(AVAILABILITIES)
    with taking(tmp_path) as server:
        link = peers.steadied(ae.associate(*server.address, ae_title="SERVER"))
        assert link.send_n_create(heard[0], CLASS, "1.2.9")[0].Status == 0
        link.release()
        assert list(known(tmp_path).values()) == list(AVAILABILITIES)


def test_the_command_tells_of_files(tmp_path):
    (tmp_path / "study").mkdir()
    for number in range(3):
        instance(number).save_as(tmp_path / "study" / f"{number}.dcm", enforce_file_format=True)
    with taking(tmp_path / "server") as server:
        host, port = server.address
        said = run_here("notify", f"SERVER@{host}:{port}", tmp_path / "study", "--from", "ARCHIVE", "--availability",
                   "nearline", "--json")  # fmt: skip
        assert json.loads(said.stdout)["summary"]["instances"] == 3
        assert list(known(tmp_path / "server").values()) == ["NEARLINE"] * 3
