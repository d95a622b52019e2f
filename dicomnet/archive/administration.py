"""Messages of the administration of an archive: its studies, its worklist, performed steps and commitment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select

from ..repository.keys import Identifier, QueryOptions
from ..repository.work_schema import commitment, performed_step
from ..repository.worklist import Worklist
from ..repository.worklist_query import WorklistQuery
from ..server import Table
from ..server.messages import MessageRegistry
from ..server.settings import AETitle
from ..web.study_messages import StudiesMessage, StudyMessages
from .holdings import Holdings
from .sending import Sending

__all__ = ["Administration"]

_RELATIONAL = QueryOptions(relational=True)


class Send(StudiesMessage):
    """What is sent where."""

    to: AETitle
    """An AE title that the server knows."""


class Jobs(Table):
    """Which of the studies that are to be sent."""

    ids: Annotated[tuple[int, ...], Field(min_length=1)]
    """Their numbers."""


class WorklistPage(Table):
    """What is looked for in the worklist."""

    keys: Mapping[str, Any] = Field(default_factory=dict)
    """Keys by keyword; those of a step in `ScheduledProcedureStepSequence`."""
    most: Annotated[int, Field(ge=1, le=1000)] = 200
    """The most steps."""


class Book(Table):
    """What is booked."""

    item: Mapping[str, Any]
    """The item, in the DICOM JSON model."""


class One(Table):
    """Which item of the worklist."""

    id: int
    """Its number."""


class Change(One):
    """What is changed of it."""

    changes: Mapping[str, Any]
    """Elements in the DICOM JSON model."""
    version: int | None = None
    """The version that it must have."""


class Page(Table):
    """How many of the latest."""

    most: Annotated[int, Field(ge=1, le=1000)] = 200
    """At most so many."""


class Administration:
    """Answers them.

    Args:
        holdings: of the archive.
        sending: sends studies.
        studies: answers what is about studies.
    """

    def __init__(self, holdings: Holdings, sending: Sending, studies: StudyMessages) -> None:
        self._holdings, self._sending, self._studies = holdings, sending, studies
        self._worklist = Worklist(holdings.database)

    def register(self, messages: MessageRegistry) -> None:
        """Take all of them."""
        self._studies.register(messages, "Archive")
        add = messages.add
        add("ArchiveSend", lambda one: {"ordered": self._sending.order(one.studies, one.to)}, model=Send)
        add("ArchiveSending", lambda _: {"jobs": self._sending.jobs()}, role="read")
        add("ArchiveRetrySending", lambda one: {"jobs": self._sending.retry(one.ids)}, model=Jobs)
        add("ArchiveCancelSending", lambda one: {"jobs": self._sending.cancel(one.ids)}, model=Jobs)
        add("ArchiveWorklist", self._search_worklist, role="read", model=WorklistPage)
        add("ArchiveWorklistItem", lambda one: _entry(self._worklist.get(one.id)), role="read", model=One)
        add("ArchiveBook", lambda one: _entry(self._worklist.add(dict(one.item))), model=Book)
        add("ArchiveChangeItem", self._change, model=Change)
        add("ArchiveRemoveItem", self._remove, model=One)
        add("ArchiveSteps", self._steps, role="read", model=Page)
        add("ArchiveCommitments", self._commitments, role="read", model=Page)

    # ---- worklist ----------------------------------------------------------------------------------------------

    def _search_worklist(self, asked: WorklistPage) -> Mapping[str, Any]:
        query = WorklistQuery(Identifier.of(dict(asked.keys), options=_RELATIONAL))
        found = islice(self._worklist.search(query), asked.most)
        return {"steps": [{"id": number, "item": item} for number, item in found]}

    def _change(self, asked: Change) -> Mapping[str, Any]:
        return _entry(self._worklist.change(asked.id, dict(asked.changes), version=asked.version))

    def _remove(self, asked: One) -> Mapping[str, Any]:
        self._worklist.remove(asked.id)
        return {"id": asked.id}

    # ---- what modalities have reported -------------------------------------------------------------------------

    def _steps(self, asked: Page) -> Mapping[str, Any]:
        query = select(performed_step).order_by(performed_step.c.id.desc()).limit(asked.most)
        with self._holdings.database.read() as connection:
            rows = connection.execute(query).all()
        return {
            "steps": [
                {"uid": row.uid, "status": row.status, "calling": row.calling, "patient_id": row.pid, "date": row.date,
                 "changed": row.changed, "item": json.loads(row.data)}
                for row in rows
            ]
        }  # fmt: skip

    def _commitments(self, asked: Page) -> Mapping[str, Any]:
        query = select(commitment).order_by(commitment.c.id.desc()).limit(asked.most)
        with self._holdings.database.read() as connection:
            rows = connection.execute(query).all()
        return {"commitments": [_commitment(row) for row in rows]}


def _commitment(row: Any) -> dict[str, Any]:
    count = len(json.loads(row.request))
    return {"uid": row.uid, "calling": row.calling, "state": row.state, "at": row.at, "instances": count}


def _entry(entry: Any) -> Mapping[str, Any]:
    return {"id": entry.id, "version": entry.version, "item": entry.item}
