"""The tables beside the index: outbox, quarantine, commitment, worklist, steps, work items, objects of no patient."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    UniqueConstraint,
)

from .columns import BIG as _BIG
from .columns import TEXT as _TEXT
from .columns import seconds as _seconds
from .columns import text as _text
from .schema import metadata

__all__ = [
    "ae_history",
    "ae_title",
    "commitment",
    "duty",
    "event",
    "node",
    "nonpatient",
    "offline",
    "outbox",
    "performed_step",
    "quarantine",
    "setting_snapshot",
    "workitem",
    "workitem_subscription",
    "worklist",
    "worklist_step",
]


#: What is still to be sent or done; see `outbox.Outbox`.
outbox: Table = Table(
    "outbox",
    metadata,
    Column("id", _BIG, primary_key=True),
    _text("queue"),
    _text("destination"),
    _text("lane"),
    Column("key", _TEXT),
    _text("retry_class", "network"),
    _text("payload", "{}"),
    _text("state", "waiting"),
    _seconds("due"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _text("owner"),
    _seconds("until"),
    _text("error"),
    _seconds("created"),
    UniqueConstraint("queue", "key"),
    Index("ix_outbox_queue_destination_state_due", "queue", "destination", "state", "due"),
    Index("ix_outbox_lane_id", "lane", "id"),
    sqlite_autoincrement=True,  # the order of a lane is that of ids
)

#: What was received whole, but contradicts the index; see `quarantine.Quarantine`.
quarantine: Table = Table(
    "quarantine",
    metadata,
    Column("id", _BIG, primary_key=True),
    _text("uid"),
    _text("cls"),
    _text("ts"),
    _text("study_uid"),
    _text("storage"),
    _text("key"),
    Column("off", _BIG, nullable=False),
    Column("bytes", _BIG, nullable=False),
    Column("sha", LargeBinary, nullable=False),
    _text("calling"),
    _text("kind"),
    _text("reason"),
    _seconds("at"),
    Index("ix_quarantine_uid", "uid"),
    Index("ix_quarantine_key", "key"),
    sqlite_autoincrement=True,
)

#: Storage commitment: what was asked for, by whom, and what became of it.
commitment: Table = Table(
    "commitment",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("uid", _TEXT, nullable=False, unique=True),  # Transaction UID
    _text("calling"),
    _text("called"),
    _text("state", "asked"),
    _text("request", "{}"),  # JSON: the references, and once they are checked why some are not committed
    _seconds("at"),
)

#: Who serves from this index; see `nodes.Nodes`.
node: Table = Table(
    "node",
    metadata,
    Column("id", _TEXT, primary_key=True),
    _text("name"),
    _text("address"),
    _text("version"),
    _seconds("since"),
    _seconds("seen"),
    _text("facts", "{}"),  # JSON
)

#: What one node at a time does for all, and until when.
duty: Table = Table("duty", metadata, Column("name", _TEXT, primary_key=True), _text("owner"), _seconds("until"))

#: What nodes tell each other; see `node_events.NodeEvents`.
event: Table = Table(
    "event",
    metadata,
    Column("seq", _BIG, primary_key=True),
    _text("origin"),
    _text("kind"),
    _text("data"),  # JSON
    _seconds("at"),
)

#: The AE titles that the servers of all nodes know; see `shared_titles.SharedTitles`.
ae_title: Table = Table(
    "ae_title",
    metadata,
    Column("id", _BIG, primary_key=True),
    _text("document"),  # JSON
    sqlite_autoincrement=True,  # histories are of one entry each
)

#: What happened to each of them.
ae_history: Table = Table(
    "ae_history",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("ae", _BIG, nullable=False),
    _seconds("at"),
    _text("what"),
    Index("ix_ae_history_ae", "ae"),
)

#: Settings that all nodes have in common, as each change left them; see `setting_snapshots.SettingSnapshots`.
setting_snapshot: Table = Table(
    "setting_snapshot",
    metadata,
    Column("id", _BIG, primary_key=True),
    _seconds("at"),
    _text("who"),
    _text("what"),
    _text("document"),  # JSON
)

#: What is requested: a requested procedure, without its steps; see `worklist.Worklist`.
worklist: Table = Table(
    "worklist",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("study_uid", _TEXT, nullable=False),
    _text("acc"),
    _text("rp_id"),
    _text("pid"),
    _text("issuer"),
    _text("name_n"),
    Column("version", Integer, nullable=False, server_default="1"),
    _seconds("changed"),
    _text("data", "{}"),  # DICOM JSON
    UniqueConstraint("study_uid", "acc", "rp_id"),
    Index("ix_worklist_acc", "acc"),
    Index("ix_worklist_pid", "pid"),
    Index("ix_worklist_name_n", "name_n"),
    sqlite_autoincrement=True,  # an id that people have seen never means another item
)

#: Its scheduled procedure steps: one answer of a worklist each.
worklist_step: Table = Table(
    "worklist_step",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("item_id", _BIG, ForeignKey("worklist.id", ondelete="CASCADE"), nullable=False),
    Column("sps_id", _TEXT, nullable=False),
    _text("date"),
    _text("time"),
    _text("modality"),
    _text("stations"),  # AE titles, separated by backslashes
    _text("status"),
    Column("is_open", SmallInteger, nullable=False, server_default="1"),  # 0: its status hides it
    _text("data", "{}"),  # DICOM JSON
    UniqueConstraint("item_id", "sps_id"),
    Index("ix_worklist_step_date", "date"),
    Index("ix_worklist_step_is_open_date", "is_open", "date"),
)

#: Performed procedure steps, as modalities have reported them.
performed_step: Table = Table(
    "performed_step",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("uid", _TEXT, nullable=False, unique=True),
    _text("status"),
    _text("calling"),
    _text("pid"),
    _text("date"),
    _seconds("changed"),
    _text("data", "{}"),  # DICOM JSON
    Index("ix_performed_step_date", "date"),
)

#: Unified procedure steps; see `workitems.Workitems`.
workitem: Table = Table(
    "workitem",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("uid", _TEXT, nullable=False, unique=True),
    _text("state"),
    _text("txn"),  # Transaction UID of who performs it: known to that one alone
    _seconds("changed"),
    _text("data", "{}"),  # DICOM JSON
    Index("ix_workitem_state", "state"),
    sqlite_autoincrement=True,
)

#: Who is told of a work item, or by a well-known UID of all of them.
workitem_subscription: Table = Table(
    "workitem_subscription",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("aet", _TEXT, nullable=False),
    Column("uid", _TEXT, nullable=False),
    Column("locked", SmallInteger, nullable=False, server_default="0"),  # 1: the item may not be deleted
    _text("filter"),  # JSON: the keys of a filtered subscription
    UniqueConstraint("aet", "uid"),
    Index("ix_workitem_subscription_uid", "uid"),
)

#: Objects that belong to no patient, whole: hanging protocols, colour palettes, implant templates; see `nonpatient`.
nonpatient: Table = Table(
    "nonpatient",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("uid", _TEXT, nullable=False, unique=True),
    _text("cls"),
    _text("attrs", "{}"),  # DICOM JSON, without what is binary
    Column("sha", LargeBinary, nullable=False),  # of the data set
    Column("stream", LargeBinary, nullable=False),  # Part 10
    Index("ix_nonpatient_cls", "cls"),
)

#: Instances that were deleted here, and are on a medium that a person can fetch; see `offline`.
offline: Table = Table(
    "offline",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("uid", _TEXT, nullable=False, unique=True),
    _text("cls"),
    _text("series_uid"),
    _text("study_uid"),
    _text("file_set_id"),
    _text("file_set_uid"),
    Index("ix_offline_study_uid", "study_uid"),
)
