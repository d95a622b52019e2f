"""A `Scope` as conditions on the rows of the index."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, and_, exists, select

from . import schema
from .catalog import Level
from .scope import Scope

__all__ = ["conditions_of"]


def conditions_of(scope: Scope, level: Level) -> list[ColumnElement[bool]]:
    """What holds of the rows of a level's table that may be seen; none where all may."""
    found = []
    if scope.modalities:
        found.append(_of_series(scope, level))
    if scope.issuers:
        found.append(_of_patient(scope, level))
    return found


# Each looks from the row to others of its own, so that it drives no query and takes part in no join.


def _of_series(scope: Scope, level: Level) -> ColumnElement[bool]:
    series, study = schema.series.alias(), schema.study.alias()
    seen = series.c.modality.in_(sorted(scope.modalities))
    if level is Level.PATIENT:
        below = study.join(series, series.c.study_id == study.c.id)
        return _there(below, study.c.patient_id == schema.patient.c.id, seen)
    row = {
        Level.STUDY: series.c.study_id == schema.study.c.id,
        Level.SERIES: series.c.id == schema.series.c.id,
        Level.IMAGE: series.c.id == schema.instance.c.series_id,
    }[level]
    return _there(series, row, seen)


def _of_patient(scope: Scope, level: Level) -> ColumnElement[bool]:
    patient, study, series = schema.patient.alias(), schema.study.alias(), schema.series.alias()
    seen = patient.c.issuer.in_(sorted(scope.issuers))
    if level is Level.PATIENT:
        return _there(patient, patient.c.id == schema.patient.c.id, seen)
    if level is Level.STUDY:
        return _there(patient, patient.c.id == schema.study.c.patient_id, seen)
    above = patient.join(study, study.c.patient_id == patient.c.id)
    if level is Level.SERIES:
        return _there(above, study.c.id == schema.series.c.study_id, seen)
    above = above.join(series, series.c.study_id == study.c.id)
    return _there(above, series.c.id == schema.instance.c.series_id, seen)


def _there(rows: FromClause, row: ColumnElement[bool], seen: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(1).select_from(rows).where(and_(row, seen)))
