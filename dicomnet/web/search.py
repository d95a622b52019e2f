"""QIDO-RS: search for studies, series and instances (PS3.18 Section 10.6)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from ..dataset.codec import vr_of
from ..errors import InvalidArgument
from ..repository.catalog import ATTRIBUTES, BY_KEYWORD, VR_OF, Level
from ..repository.finding import QueryTooLong
from ..repository.keys import Identifier, InvalidKey, QueryOptions
from ..repository.responses import Answers, Match
from .addresses import base_url
from .media_types import DICOM_JSON, DICOM_XML, best, ranges_of
from .native_xml import xml_answer
from .problems import Problem
from .repository import WebRepository
from .users import scope_of

__all__ = ["MOST_RESULTS", "cut", "flagged", "identifier_of", "page_of", "query_keys", "search"]

#: The most results of one search; the answer says that there are more (PS3.18 Section 8.3.4.4).
MOST_RESULTS = 1000
#: What a search may take.
SECONDS = 10.0
_NOT_KEYS = frozenset({"limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "accept", "charset"})
_RELATIONAL = QueryOptions(relational=True)
_STUDY, _SERIES, _INSTANCE, _RETRIEVE_URL = "0020000D", "0020000E", "00080018", "00081190"
_DEFAULTS = {
    Level.STUDY: "StudyDate StudyTime AccessionNumber ModalitiesInStudy InstanceAvailability ReferringPhysicianName "
    "TimezoneOffsetFromUTC PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID "
    "NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances",
    Level.SERIES: "Modality TimezoneOffsetFromUTC SeriesDescription SeriesInstanceUID SeriesNumber "
    "NumberOfSeriesRelatedInstances PerformedProcedureStepStartDate PerformedProcedureStepStartTime "
    "RequestAttributesSequence",
    Level.IMAGE: "SOPClassUID SOPInstanceUID InstanceAvailability TimezoneOffsetFromUTC InstanceNumber Rows Columns "
    "BitsAllocated NumberOfFrames",
}  # PS3.18 Tables 10.6.3-3 to 10.6.3-5


def search(request: Request, repository: WebRepository, level: Level) -> Response:
    """The entities of a level that match the query parameters; those in the path are keys, too.

    Raises:
        Problem: 400 for a parameter that is none, 406, 503 for a search that takes too long.
    """
    query = request.query_params
    kind = best(ranges_of(request), (DICOM_JSON, "application/json", DICOM_XML))
    path = {
        keyword: request.path_params[name]
        for name, keyword in (("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID"))
        if name in request.path_params
    }
    identifier = _identifier(query, path, level)
    limit, offset = page_of(query)
    base = base_url(request)
    try:
        matches = repository.index.find(
            identifier,
            level=level,
            limit=offset + limit + 1,
            seconds=SECONDS,
            answers=Answers(retrieve_ae_title=repository.ae_title),
            scope=scope_of(request),
        )
        found = list(islice(matches, offset, offset + limit + 1))
    except InvalidKey as error:
        raise Problem(400, str(error), parameter=f"{error.tag:08X}") from error
    except QueryTooLong as error:
        raise Problem(503, "the search takes too long: give more keys", headers={"Retry-After": "60"}) from error
    headers = {"Cache-Control": "no-store"} | cut(found, limit)
    if not found:
        return Response(status_code=204, headers=headers)
    return _told(found, kind, base, headers)


def _told(found: list[Match], kind: str, base: str, headers: dict[str, str]) -> Response:
    if kind == DICOM_XML:
        return xml_answer((_answer(match.json(), base) for match in found), headers)
    text = ",".join(match.json_text(base) for match in found)
    return Response(f"[{text}]", headers=headers, media_type=DICOM_JSON)


def _identifier(query: QueryParams, path: dict[str, str], level: Level) -> Identifier:
    keys: dict[str, Any] = dict.fromkeys(_names(_DEFAULTS[level].split()), "")
    if level is not Level.STUDY and "StudyInstanceUID" not in path:
        keys |= dict.fromkeys(_names(_DEFAULTS[Level.STUDY].split()), "")
    if level is Level.IMAGE and "SeriesInstanceUID" not in path:
        keys |= dict.fromkeys(_names(_DEFAULTS[Level.SERIES].split()), "")
    keys |= {"StudyInstanceUID": ""}
    if level is not Level.STUDY:
        keys |= {"SeriesInstanceUID": ""}
    keys |= dict.fromkeys(_included(query, level), "")
    keys |= query_keys(query) | path
    return identifier_of(keys, QueryOptions(relational=True, empty_value=flagged(query, "emptyvaluematching")))


def query_keys(query: QueryParams, *, besides: Collection[str] = ()) -> dict[str, Any]:
    """The keys of a query: all its parameters that mean nothing else."""
    keys: dict[str, Any] = {}
    for name, value in query.multi_items():
        if name.lower() not in _NOT_KEYS and name not in besides:
            keys |= _key(name, value)
    return keys


def identifier_of(keys: dict[str, Any], options: QueryOptions = _RELATIONAL) -> Identifier:
    """Keys, read.

    Raises:
        Problem: 400, for a key that is none.
    """
    try:
        return Identifier.of(keys, options=options)
    except InvalidKey as error:
        raise Problem(400, str(error), parameter=f"{error.tag:08X}") from error
    except InvalidArgument as error:
        raise Problem(400, error.message, parameter="query") from error


def _names(keywords: Iterable[str]) -> list[str]:
    """Those that the index knows; the others are not answered."""
    return [one for one in keywords if one in BY_KEYWORD]


def _included(query: QueryParams, level: Level) -> list[str]:
    """What ``includefield`` names, in any of its ways: one by one, in a list, by keyword, tag, or "all"."""
    found: list[str] = []
    for text in query.getlist("includefield"):
        for name in filter(None, map(str.strip, text.split(","))):
            if name == "all":
                found += [one.keyword for one in ATTRIBUTES.values() if one.level <= level]
            else:
                found += _key(name, "")
    return found


def _key(name: str, value: str) -> dict[str, Any]:
    """A key by keyword or tag, within a sequence by several of them with dots; UIDs may be a list with commas."""
    names = [_keyword(one, name) for one in name.split(".")]
    if "," in value and _is_uid(names[-1]):
        value = value.replace(",", "\\")
    return {".".join(names): value}


def _keyword(name: str, whole: str) -> str:
    if len(name) == 8 and all(one in "0123456789abcdefABCDEF" for one in name):
        known = ATTRIBUTES.get(int(name, 16))
        return known.keyword if known else name.upper()
    try:
        vr_of(name)
    except InvalidArgument as error:
        hint = "Attributes go by keyword (PatientName) or tag (00100010)."
        raise Problem(400, f"there is no attribute {name[:64]!r}. {hint}", parameter=whole[:64]) from error
    return name


def _is_uid(name: str) -> bool:
    return VR_OF.get(BY_KEYWORD.get(name, 0)) == "UI"


def page_of(query: QueryParams) -> tuple[int, int]:
    """How many results are wanted at the most, and how many are passed over before them."""
    return min(_counted(query, "limit", MOST_RESULTS), MOST_RESULTS), _counted(query, "offset", 0)


def cut(found: list[Any], limit: int) -> dict[str, str]:
    """Take away what is found beyond the limit; the header that says so."""
    if len(found) <= limit:
        return {}
    del found[limit:]
    return {"Warning": '299 - "There are additional results that can be requested"'}


def _counted(query: QueryParams, name: str, default: int) -> int:
    """A number from 0 on, or the default where there is none."""
    text = query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Problem(400, f"{name} is a number from 0 on", parameter=name)
    return int(text)


def flagged(query: QueryParams, name: str) -> bool:
    """Whether something is "true"."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false", ""):
        raise Problem(400, f"{name} is true or false", parameter=name)
    return text == "true"


def _answer(found: dict[str, Any], base: str) -> dict[str, Any]:
    """A match with the address that it can be retrieved from; what is empty has no Value (PS3.18 Annex F.2.5)."""
    address = base
    for tag, segment in ((_STUDY, "studies"), (_SERIES, "series"), (_INSTANCE, "instances")):
        value = found.get(tag, {}).get("Value")
        if not value:
            break
        address += f"/{segment}/{value[0]}"
    found[_RETRIEVE_URL] = {"vr": "UR", "Value": [address]}
    return dict(sorted(found.items()))
