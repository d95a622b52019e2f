"""Work items, objects of no patient and what is on media, in SQLite and in PostgreSQL, by several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from test_web_workitems import PERFORMED, new

from dicomnet import uids
from dicomnet.repository.keys import Identifier
from dicomnet.repository.nonpatient import NonPatientObjects, Taken
from dicomnet.repository.workitem_rules import CANCELED, COMPLETED, IN_PROGRESS, WorkitemRefused
from dicomnet.repository.workitems import FILTERED, GLOBAL, Workitems

AT_ONCE = 8


def test_of_many_that_want_an_item_one_gets_it(database):
    """Each with another connection, as nodes of one archive."""
    nodes = [Workitems(database) for _ in range(AT_ONCE)]
    nodes[0].create(new(), "1.1")

    def claim(items: Workitems) -> int:
        try:
            return items.change_state("1.1", IN_PROGRESS, uids.new())
        except WorkitemRefused as error:
            return error.code

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert sorted(pool.map(claim, nodes)) == [0] + [0xC301] * (AT_ONCE - 1)


def test_an_item_from_its_beginning_to_its_end(database):
    items, told = Workitems(database), []
    items.listen(lambda notices: told.extend((one.uid, one.event, one.to) for one in notices))
    items.subscribe("ALL", GLOBAL, locked=True)
    items.subscribe("SOME", FILTERED, keys=Identifier.of({"WorklistLabel": "Lungs"}), text='{"WorklistLabel": "Lungs"}')
    items.create(new(), "1.1")
    transaction = uids.new()
    items.change_state("1.1", IN_PROGRESS, transaction)
    items.change("1.1", dict(PERFORMED), transaction)
    items.change_state("1.1", COMPLETED, transaction)
    assert told == [("1.1", 1, ("ALL", "SOME"))] * 3
    assert items.change_state("1.1", COMPLETED, transaction) == 0xB306
    with pytest.raises(WorkitemRefused) as refused:
        items.change_state("1.1", CANCELED, transaction)
    assert refused.value.code == 0xC300
    [found] = items.find(Identifier.of({"ProcedureStepState": "COMPLETED"}))
    assert found["00080018"]["Value"] == ["1.1"]
    assert list(items.find(Identifier.of({"SOPInstanceUID": "1.2"}))) == []
    with pytest.raises(WorkitemRefused):
        items.create(new(), "1.1")


def test_an_object_of_no_patient_is_kept_once(database):
    stores = [NonPatientObjects(database) for _ in range(AT_ONCE)]
    item = {"00720002": {"vr": "SH", "Value": ["Chest"]}}

    def put(objects: NonPatientObjects) -> Taken:
        return objects.put("1.2.7", uids.HANGING_PROTOCOL_STORAGE, item, b"header", b"data", replace=False)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert sorted(one.value for one in pool.map(put, stores)) == ["new"] + ["same"] * (AT_ONCE - 1)
    (objects, *_) = stores
    classes = (uids.HANGING_PROTOCOL_STORAGE,)
    assert list(objects.find(Identifier.of({"HangingProtocolName": "Ch*"}), classes)) == [item]
    assert list(objects.find(Identifier.of({"HangingProtocolName": "x"}), classes)) == []
    assert [bytes(one) for one in objects.streams(["1.2.7"], classes)] == [b"headerdata"]
    assert objects.streams(["1.2.7"], (uids.COLOR_PALETTE_STORAGE,)) == []
