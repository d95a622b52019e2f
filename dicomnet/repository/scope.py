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

`scope_conditions` says it to an index; this module knows nothing of databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..server.ae_entry import AEEntry, key_of

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


ALL = Scope()

#: The scope of a calling AE title.
Scopes = Callable[[str], Scope]


def scope_of_entry(entry: AEEntry | None) -> Scope:
    """What the entry of an AE title says; an AE that is not known sees all that its services give."""
    if entry is None:
        return ALL
    return Scope(frozenset(entry.modalities), frozenset(entry.issuers), _keys(entry.move_to))


def _keys(titles: Iterable[str]) -> frozenset[str]:
    return frozenset(map(key_of, titles))
