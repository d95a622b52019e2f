"""The tables of the index, in SQLAlchemy Core, the same in SQLite and in PostgreSQL.

A change of these tables comes with a migration in ``migrations/versions``; a test holds the two equal. Changes expand
first and contract in a later version, so that two versions run side by side.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

from .columns import BIG as _BIG
from .columns import TEXT as _TEXT
from .columns import text as _text

__all__ = ["blob", "change", "instance", "metadata", "patient", "series", "series_metadata", "study"]

metadata: MetaData = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)


def _count(name: str) -> Column[int]:
    return Column(name, _BIG, nullable=False, server_default="0")


patient: Table = Table(
    "patient",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("pid", _TEXT),  # NULL where there is no Patient ID: such patients are never taken for one another
    _text("issuer"),
    _text("name"),
    _text("name_n"),
    _text("name_i"),
    _text("name_p"),
    _text("birth"),
    _text("sex"),
    _text("attrs"),
    Column("merged_into", _BIG, ForeignKey("patient.id")),  # then the row is another name of that patient
    _count("version"),
    UniqueConstraint("pid", "issuer"),
    Index("ix_patient_name_n", "name_n"),
    Index("ix_patient_name_i", "name_i", sqlite_where=text("name_i <> ''"), postgresql_where=text("name_i <> ''")),
    Index("ix_patient_name_p", "name_p", sqlite_where=text("name_p <> ''"), postgresql_where=text("name_p <> ''")),
    Index("ix_patient_birth", "birth"),
    Index(
        "ix_patient_merged_into",
        "merged_into",
        sqlite_where=text("merged_into IS NOT NULL"),
        postgresql_where=text("merged_into IS NOT NULL"),
    ),
)

study: Table = Table(
    "study",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("patient_id", _BIG, ForeignKey("patient.id"), nullable=False),
    Column("uid", _TEXT, nullable=False, unique=True),
    _text("date"),
    _text("time"),
    _text("acc"),
    _text("issuer_acc"),
    _text("study_id"),
    _text("descr"),
    _text("refphys"),
    _text("refphys_n"),
    _text("mods"),  # of its series, sorted, separated by backslashes; so are the SOP classes
    _text("sop_classes"),
    _text("pid"),  # the patient's, again, so that one index has them with the date
    _text("name_n"),
    _count("n_series"),
    _count("n_inst"),
    _count("bytes"),
    _count("version"),
    _text("state"),
    Column("seen_at", Float, nullable=False, server_default="0"),  # seconds since 1970
    _text("attrs"),
    Column("origin_id", _BIG),  # the patient's row under whose ID it came, even when that was merged into another
    Index("ix_study_pid_date", "pid", "date"),
    Index("ix_study_name_n_date", "name_n", "date"),
    Index("ix_study_date_time", "date", "time"),
    Index("ix_study_acc", "acc"),
    Index("ix_study_study_id", "study_id"),
    Index("ix_study_patient_id", "patient_id"),
)

series: Table = Table(
    "series",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("study_id", _BIG, ForeignKey("study.id"), nullable=False),
    Column("uid", _TEXT, nullable=False, unique=True),
    _text("modality"),
    Column("number", Integer),
    _text("descr"),
    _text("body"),
    _text("station"),
    _text("pps_uid"),
    _count("n_inst"),
    _count("bytes"),
    _count("version"),
    _text("attrs"),
    Index("ix_series_study_id", "study_id"),
    Index("ix_series_modality_study_id", "modality", "study_id"),
    Index("ix_series_pps_uid", "pps_uid", sqlite_where=text("pps_uid <> ''"), postgresql_where=text("pps_uid <> ''")),
)

#: All instances of a series, packed; out of date where its version is not the series' one.
series_metadata: Table = Table(
    "series_metadata",
    metadata,
    Column("series_id", _BIG, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("version", _BIG, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

#: What blob stores keep under one key: a segment or a file, and how many instances are in it.
blob: Table = Table(
    "blob",
    metadata,
    Column("id", _BIG, primary_key=True),
    _text("storage"),
    Column("key", _TEXT, nullable=False),
    _text("state"),
    _count("refs"),
    UniqueConstraint("storage", "key"),
)

instance: Table = Table(
    "instance",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("series_id", _BIG, ForeignKey("series.id"), nullable=False),
    Column("uid", _TEXT, nullable=False, unique=True),
    _text("cls"),
    _text("ts"),
    Column("number", Integer),
    Column("frames", Integer),
    Column("rows", Integer),
    Column("columns", Integer),
    Column("bits", SmallInteger),
    Column("bytes", _BIG, nullable=False, server_default="0"),
    Column("sha", LargeBinary, nullable=False),
    Column("blob_id", _BIG, ForeignKey("blob.id"), nullable=False),
    Column("off", _BIG, nullable=False, server_default="0"),
    Column("attrs", _TEXT),  # of what is no image alone
    Index("ix_instance_series_id_number", "series_id", "number"),
    Index("ix_instance_blob_id", "blob_id"),
)

#: What happened, in order: readers remember how far they have come.
change: Table = Table(
    "change",
    metadata,
    Column("seq", _BIG, primary_key=True),
    _text("kind"),
    _text("level"),
    _text("uid"),
    sqlite_autoincrement=True,  # a number is never given out again
)
