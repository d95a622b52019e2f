"""Patients, studies, series, instances, where their bytes are, and what changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _id(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, _BIG, primary_key=True)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _TEXT, server_default="", nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, _BIG, server_default="0", nullable=False) for name in names]


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer(), nullable=True) for name in names]


def _reference(name: str, to: str) -> list[sa.Column[int]]:
    return [sa.Column(name, _BIG, sa.ForeignKey(to), nullable=False)]


def _uid() -> sa.Column[str]:
    return sa.Column("uid", _TEXT, nullable=False)


def _partial_index(name: str, table: str, column: str, where: str) -> None:
    op.create_index(name, table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    """Make the tables of the first version."""
    _patient()
    _study()
    _series()
    _instance()
    op.create_table("change", _id("seq"), *_texts("kind", "level", "uid"), sqlite_autoincrement=True)
    _trigrams()


def _patient() -> None:
    op.create_table(
        "patient",
        _id(),
        sa.Column("pid", _TEXT, nullable=True),
        *_texts("issuer", "name", "name_n", "name_i", "name_p", "birth", "sex", "attrs"),
        sa.Column("merged_into", _BIG, sa.ForeignKey("patient.id"), nullable=True),
        *_counts("version"),
        sa.UniqueConstraint("pid", "issuer", name="uq_patient_pid_issuer"),
    )
    op.create_index("ix_patient_name_n", "patient", ["name_n"])
    op.create_index("ix_patient_birth", "patient", ["birth"])
    _partial_index("ix_patient_name_i", "patient", "name_i", "name_i <> ''")
    _partial_index("ix_patient_name_p", "patient", "name_p", "name_p <> ''")
    _partial_index("ix_patient_merged_into", "patient", "merged_into", "merged_into IS NOT NULL")


def _study() -> None:
    op.create_table(
        "study",
        _id(),
        *_reference("patient_id", "patient.id"),
        _uid(),
        *_texts("date", "time", "acc", "issuer_acc", "study_id", "descr", "refphys", "refphys_n"),
        *_texts("mods", "sop_classes", "pid", "name_n"),
        *_counts("n_series", "n_inst", "bytes", "version"),
        *_texts("state"),
        sa.Column("seen_at", sa.Float(), server_default="0", nullable=False),
        *_texts("attrs"),
        sa.UniqueConstraint("uid", name="uq_study_uid"),
    )
    op.create_index("ix_study_pid_date", "study", ["pid", "date"])
    op.create_index("ix_study_name_n_date", "study", ["name_n", "date"])
    op.create_index("ix_study_date_time", "study", ["date", "time"])
    op.create_index("ix_study_acc", "study", ["acc"])
    op.create_index("ix_study_study_id", "study", ["study_id"])
    op.create_index("ix_study_patient_id", "study", ["patient_id"])


def _series() -> None:
    op.create_table(
        "series",
        _id(),
        *_reference("study_id", "study.id"),
        _uid(),
        *_texts("modality"),
        *_integers("number"),
        *_texts("descr", "body", "station", "pps_uid"),
        *_counts("n_inst", "bytes", "version"),
        *_texts("attrs"),
        sa.UniqueConstraint("uid", name="uq_series_uid"),
    )
    op.create_index("ix_series_study_id", "series", ["study_id"])
    op.create_index("ix_series_modality_study_id", "series", ["modality", "study_id"])
    _partial_index("ix_series_pps_uid", "series", "pps_uid", "pps_uid <> ''")
    op.create_table(
        "series_metadata",
        sa.Column(
            "series_id", _BIG, sa.ForeignKey("series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("version", _BIG, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )


def _instance() -> None:
    op.create_table(
        "blob",
        _id(),
        *_texts("storage"),
        sa.Column("key", _TEXT, nullable=False),
        *_texts("state"),
        *_counts("refs"),
        sa.UniqueConstraint("storage", "key", name="uq_blob_storage_key"),
    )
    op.create_table(
        "instance",
        _id(),
        *_reference("series_id", "series.id"),
        _uid(),
        *_texts("cls", "ts"),
        *_integers("number", "frames", "rows", "columns"),
        sa.Column("bits", sa.SmallInteger(), nullable=True),
        *_counts("bytes"),
        sa.Column("sha", sa.LargeBinary(), nullable=False),
        *_reference("blob_id", "blob.id"),
        *_counts("off"),
        sa.Column("attrs", _TEXT, nullable=True),
        sa.UniqueConstraint("uid", name="uq_instance_uid"),
    )
    op.create_index("ix_instance_series_id_number", "instance", ["series_id", "number"])
    op.create_index("ix_instance_blob_id", "instance", ["blob_id"])


def _trigrams() -> None:
    """Parts of patients' names are found by trigrams, kept by the database itself."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.execute("CREATE INDEX ix_patient_name_trigram ON patient USING gin (name_n gin_trgm_ops)")
        return
    options = "tokenize='trigram', detail='none', content='patient', content_rowid='id'"
    op.execute(f"CREATE VIRTUAL TABLE patient_name USING fts5(name_n, {options})")
    gone = "INSERT INTO patient_name(patient_name, rowid, name_n) VALUES ('delete', old.id, old.name_n)"
    there = "INSERT INTO patient_name(rowid, name_n) VALUES (new.id, new.name_n)"
    op.execute(f"CREATE TRIGGER patient_name_insert AFTER INSERT ON patient BEGIN {there}; END")
    op.execute(f"CREATE TRIGGER patient_name_delete AFTER DELETE ON patient BEGIN {gone}; END")
    op.execute(f"CREATE TRIGGER patient_name_update AFTER UPDATE OF name_n ON patient BEGIN {gone}; {there}; END")
