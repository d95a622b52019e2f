"""What of a repository a caller may see, and where it may have it sent: rights beyond those to services.

C-FIND, C-GET, C-MOVE and the query of relevant patient information ask `Holdings.scope_of` with the calling AE title;
DICOMweb has the scope of the user who logged in, by `web.users.scope_of`. Whatever else looks for instances sees all,
unless it hands on a `Scope`::

    scope = holdings.scope_of(title)
    holdings.index.find(identifier, level=level, scope=scope)      # QIDO-RS
    holdings.index.instances(level, uids, scope=scope)             # WADO-RS: what is hidden is not there, so 404
    holdings.places.retrieved(studies=studies, scope=scope)

What is hidden is not matched and not retrieved. Of what is seen in part, the modalities and SOP classes are those that
are seen; counts of related series and instances are of all that there are, and so is what describes the study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, FromClause, and_, exists, select

from ..server.ae_entry import AEEntry, key_of
from . import schema
from .catalog import Level

__all__ = ["ALL", "Scope", "Scopes", "scope_of_entry"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller may see; an empty set is any.

    Attributes:
        modalities: of the series.
        issuers: of the Patient IDs (0010,0021); "" is those without one.
        move_to: AE titles to which a C-MOVE may send, in the form of `key_of`.
    """

    modalities: frozenset[str] = frozenset()
    issuers: frozenset[str] = frozenset()
    move_to: frozenset[str] = frozenset()

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden."""
        return not self.modalities and not self.issuers

    def shows(self, modality: str, issuer: str) -> bool:
        """Whether an instance of a series of this modality, and of a patient of this issuer, is seen."""
        return (not self.modalities or modality in self.modalities) and (not self.issuers or issuer in self.issuers)

    def may_move_to(self, title: str) -> bool:
        """Whether a C-MOVE may send there."""
        return not self.move_to or key_of(title) in self.move_to

    def conditions(self, level: Level) -> list[ColumnElement[bool]]:
        """What holds of the rows of a level's table that may be seen; none where all may."""
        found = []
        if self.modalities:
            found.append(self._of_series(level))
        if self.issuers:
            found.append(self._of_patient(level))
        return found

    # Each looks from the row to others of its own, so that it drives no query and takes part in no join.

    def _of_series(self, level: Level) -> ColumnElement[bool]:
        series, study = schema.series.alias(), schema.study.alias()
        seen = series.c.modality.in_(sorted(self.modalities))
        if level is Level.PATIENT:
            below = study.join(series, series.c.study_id == study.c.id)
            return _there(below, study.c.patient_id == schema.patient.c.id, seen)
        row = {
            Level.STUDY: series.c.study_id == schema.study.c.id,
            Level.SERIES: series.c.id == schema.series.c.id,
            Level.IMAGE: series.c.id == schema.instance.c.series_id,
        }[level]
        return _there(series, row, seen)

    def _of_patient(self, level: Level) -> ColumnElement[bool]:
        patient, study, series = schema.patient.alias(), schema.study.alias(), schema.series.alias()
        seen = patient.c.issuer.in_(sorted(self.issuers))
        if level is Level.PATIENT:
            return _there(patient, patient.c.id == schema.patient.c.id, seen)
        if level is Level.STUDY:
            return _there(patient, patient.c.id == schema.study.c.patient_id, seen)
        above = patient.join(study, study.c.patient_id == patient.c.id)
        if level is Level.SERIES:
            return _there(above, study.c.id == schema.series.c.study_id, seen)
        above = above.join(series, series.c.study_id == study.c.id)
        return _there(above, series.c.id == schema.instance.c.series_id, seen)


ALL = Scope()

#: The scope of a calling AE title.
Scopes = Callable[[str], Scope]


def _there(rows: FromClause, row: ColumnElement[bool], seen: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(1).select_from(rows).where(and_(row, seen)))


def scope_of_entry(entry: AEEntry | None) -> Scope:
    """What the entry of an AE title says; an AE that is not known sees all that its services give."""
    if entry is None:
        return ALL
    return Scope(frozenset(entry.modalities), frozenset(entry.issuers), _keys(entry.move_to))


def _keys(titles: Iterable[str]) -> frozenset[str]:
    return frozenset(map(key_of, titles))
