"""How the public interface is used, for type checkers: `make lint` checks this file with ``mypy --strict``.

Nothing here runs. What a caller gets is said by ``assert_type``, so that a result that turns into Any is a failure.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from pydicom import Dataset

import dicomnet as dn
from dicomnet import client
from dicomnet.client import aio as client_aio
from dicomnet.client import events
from dicomnet.client.matches import InstanceMatch, SeriesMatch, StudyMatch, WorklistItem
from dicomnet.client.retrieve_plan import Retrieved

PEER = "ARCHIVE@pacs.local:11112"


def associations(dataset: Dataset, paths: list[Path]) -> None:
    with dn.connect(PEER, contexts=dn.contexts.verification(), timeouts=dn.Timeouts(response=5)) as pacs:
        assert_type(pacs, dn.Association)
        assert_type(pacs.echo(), dn.Status)
        assert_type(pacs.store(dataset, transcode="if needed"), dn.StoreResult)
        for result in pacs.store_many(paths, window=4):
            assert_type(result, dn.StoreResult)
        for match in pacs.find("STUDY", PatientName="DOE*", query=dataset):
            assert_type(match, dn.Match)
            assert_type(match.dataset, Dataset)
        assert_type(pacs.get("STUDY", to="images", StudyInstanceUID="1.2.3"), dn.RetrieveProgress)
        assert_type(pacs.n_get("1.2", "1.2.3", ["PatientName"]), dn.Reply)
        assert_type(pacs.commit([("1.2", "1.2.3")]), dn.Commitment)


async def asynchronous_associations(path: Path) -> None:
    async with await dn.aio.connect(PEER, contexts=dn.contexts.for_files([path])) as pacs:
        assert_type(pacs, dn.aio.Association)
        assert_type(await pacs.store(path), dn.StoreResult)
        async for match in pacs.find("STUDY"):
            assert_type(match, dn.Match)


def keep(request: dn.StoreRequest) -> dn.Status:
    return dn.Status.SUCCESS


def clients(path: Path) -> None:
    with client.Client(PEER, calling="WS1", associations=2) as pacs:
        assert_type(pacs, client.Client)
        assert_type(pacs.store(path), dn.StoreResult)
        for match in pacs.find("STUDY", PatientID="1"):
            assert_type(match, dn.Match)
        with pacs.association(dn.contexts.verification()) as association:
            assert_type(association, dn.Association)

        @pacs.on(events.BeforeStore)
        def anonymize(event: events.BeforeStore) -> None:
            assert_type(event.dataset, Dataset)
            event.veto("not this one")

    with client.StoreScu(PEER, associations=2, retry=client.Retry(attempts=5)) as scu:
        for stored in scu.send(path, [path, path]):
            assert_type(stored, client.Stored)
            assert_type(stored.outcome, client.Outcome)


def queries_and_retrieves(folder: Path) -> None:
    with client.QueryRetrieveScu(PEER, listen="0.0.0.0:11112", idle=5.0) as scu:
        for study in scu.studies(PatientName="DOE*"):
            assert_type(study, StudyMatch)
            for series in scu.series(study):
                assert_type(series, SeriesMatch)
                assert_type(list(scu.instances(series)), list[InstanceMatch])
            assert_type(scu.retrieve(study, to=folder), Retrieved)
        assert_type(scu.retrieve("STUDY", to=keep, StudyInstanceUID="1.2.3").ok, bool)


def departments() -> None:
    with client.WorklistScu(PEER) as ris, client.MppsScu(PEER, station="CT1") as mpps:
        for item in ris.items(step={"Modality": "CT"}):
            assert_type(item, WorklistItem)
            assert_type(mpps.begin(item), client.ProcedureStep)
    with client.CommitmentScu(PEER, patience=60) as scu:
        assert_type(scu.commit([("1.2", "1.2.3")]), dn.Commitment)
    with client.VerificationScu(PEER) as verification:
        assert_type(verification.verify(), dn.Status)


async def asynchronous_clients(path: Path) -> None:
    async with client_aio.StoreScu(PEER, calling="WS1") as scu:
        async for stored in scu.send(path):
            assert_type(stored, client_aio.Stored)
    async with client_aio.QueryRetrieveScu(PEER) as query:
        async for study in query.studies():
            assert_type(study, StudyMatch)
        assert_type(await query.retrieve("STUDY", to=path, StudyInstanceUID="1.2.3"), Retrieved)
