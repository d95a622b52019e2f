"""Queries: the information models, their levels and unique keys, and identifiers made from keywords (PS3.4 Annex C, K).

What does not fit is refused before anything is sent: a keyword that is none, a value that its value representation
cannot have, a date that is none, a level that the model does not have, a retrieve without its unique keys.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .. import uids
from ..config import listed
from ..dataset import codec
from ..errors import InvalidArgument

__all__ = ["MODELS", "NONPATIENT", "Model", "format_temporal", "identifier", "model_of", "model_uid"]


class Model(NamedTuple):
    """An information model: its SOP class for each operation, and its levels from the top, each with its unique key.

    Attributes:
        name: as users write it.
        find, get, move: SOP class UIDs; empty where the model does not have the operation.
        levels: pairs of level and unique key; empty for a model without levels.
    """

    name: str
    find: str = ""
    get: str = ""
    move: str = ""
    levels: tuple[tuple[str, str], ...] = ()


_PATIENT = ("PATIENT", "PatientID")
_STUDY_LEVELS = (
    ("STUDY", "StudyInstanceUID"),
    ("SERIES", "SeriesInstanceUID"),
    ("IMAGE", "SOPInstanceUID"),
)
_INFORMATION_MODELS = (
    Model(
        "PATIENT_ROOT",
        uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
        uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
        (_PATIENT, *_STUDY_LEVELS),
    ),
    Model(
        "STUDY_ROOT",
        uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
        uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
        _STUDY_LEVELS,
    ),
    Model(
        "PATIENT_STUDY_ONLY",
        uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
        uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
        (_PATIENT, _STUDY_LEVELS[0]),
    ),
    Model(
        "COMPOSITE_ROOT",
        get=uids.COMPOSITE_INSTANCE_ROOT_RETRIEVE_GET,
        move=uids.COMPOSITE_INSTANCE_ROOT_RETRIEVE_MOVE,
        levels=(("IMAGE", "SOPInstanceUID"), ("FRAME", "SOPInstanceUID")),
    ),
    Model("WITHOUT_BULK_DATA", get=uids.COMPOSITE_INSTANCE_RETRIEVE_WITHOUT_BULK_DATA_GET, levels=_STUDY_LEVELS[2:]),
    Model("WORKLIST", uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND),
    Model("UPS", uids.UNIFIED_PROCEDURE_STEP_PULL),
    Model("UPS_WATCH", uids.UNIFIED_PROCEDURE_STEP_WATCH),
    Model("UPS_QUERY", uids.UNIFIED_PROCEDURE_STEP_QUERY),
    Model("RELEVANT_PATIENT", uids.GENERAL_RELEVANT_PATIENT_INFORMATION_QUERY),
    Model("BREAST_IMAGING_RELEVANT_PATIENT", uids.BREAST_IMAGING_RELEVANT_PATIENT_INFORMATION_QUERY),
    Model("CARDIAC_RELEVANT_PATIENT", uids.CARDIAC_RELEVANT_PATIENT_INFORMATION_QUERY),
    Model("PRODUCT_CHARACTERISTICS", uids.PRODUCT_CHARACTERISTICS_QUERY),
    Model("SUBSTANCE_APPROVAL", uids.SUBSTANCE_APPROVAL_QUERY),
    *(
        Model(name, getattr(uids, f"{stem}_FIND"), getattr(uids, f"{stem}_GET"), getattr(uids, f"{stem}_MOVE"))
        for name, stem in (
            ("HANGING_PROTOCOL", "HANGING_PROTOCOL_INFORMATION_MODEL"),
            ("COLOR_PALETTE", "COLOR_PALETTE_QUERY_RETRIEVE_INFORMATION_MODEL"),
            ("GENERIC_IMPLANT", "GENERIC_IMPLANT_TEMPLATE_INFORMATION_MODEL"),
            ("IMPLANT_ASSEMBLY", "IMPLANT_ASSEMBLY_TEMPLATE_INFORMATION_MODEL"),
            ("IMPLANT_GROUP", "IMPLANT_TEMPLATE_GROUP_INFORMATION_MODEL"),
            ("DEFINED_PROCEDURE", "DEFINED_PROCEDURE_PROTOCOL_INFORMATION_MODEL"),
            ("PROTOCOL_APPROVAL", "PROTOCOL_APPROVAL_INFORMATION_MODEL"),
            ("INVENTORY", "INVENTORY"),
        )
    ),
)

#: Information models of objects that belong to no patient -> the SOP classes of these (PS3.4 Annexes U, X and BB).
NONPATIENT: dict[str, tuple[str, ...]] = {
    "HANGING_PROTOCOL": (uids.HANGING_PROTOCOL_STORAGE,),
    "COLOR_PALETTE": (uids.COLOR_PALETTE_STORAGE,),
    "GENERIC_IMPLANT": (uids.GENERIC_IMPLANT_TEMPLATE_STORAGE,),
    "IMPLANT_ASSEMBLY": (uids.IMPLANT_ASSEMBLY_TEMPLATE_STORAGE,),
    "IMPLANT_GROUP": (uids.IMPLANT_TEMPLATE_GROUP_STORAGE,),
}

#: The information models by name.
MODELS: dict[str, Model] = {model.name: model for model in _INFORMATION_MODELS}
_SHORT_NAMES = {"STUDY": "STUDY_ROOT", "PATIENT": "PATIENT_ROOT", "MWL": "WORKLIST"}


def model_of(name: str) -> Model:
    """The model of this name: "STUDY_ROOT", or short "study"; case does not matter. A UID stands for its model.

    Raises:
        InvalidArgument: there is none.
    """
    if uids.is_valid(name):
        known = (model for model in MODELS.values() if name in (model.find, model.get, model.move))
        return next(known, Model(name, name, name, name))  # a private one, without levels
    upper = name.upper().replace("-", "_")
    model = MODELS.get(_SHORT_NAMES.get(upper, upper))
    if model is None:
        raise InvalidArgument(f"there is no information model {name!r}", hint=f"Models: {', '.join(MODELS)}.")
    return model


def model_uid(name: str, operation: str) -> str:
    """The SOP class of a model for "find", "get" or "move"; a UID stands for itself."""
    if uids.is_valid(name):
        return name
    uid: str = getattr(model_of(name), operation)
    if not uid:
        raise InvalidArgument(f"information model {name} has no C-{operation.upper()}")
    return uid


def identifier(
    model: Model,
    level: str,
    keys: Mapping[str, Any],
    returning: Iterable[str] = (),
    *,
    retrieve: bool = False,
    template: Any = None,
) -> Any:
    """The identifier of a query or a retrieve, as a pydicom Dataset (PS3.4 Sections C.2.2.2 and C.4).

    Args:
        model: the information model.
        level: Query/Retrieve Level, in any case; empty for a model without levels.
        keys: values by keyword; dates, times and lists are written as the standard wants them, None is empty.
        returning: keywords whose values are wanted back.
        retrieve: the unique key of the level must be there, since instances are asked for.
        template: a pydicom Dataset under the keys.

    Raises:
        InvalidArgument: a keyword, value or level that does not exist or does not fit, a missing unique key.
    """
    level = _check_level(model, level)
    named = dict.fromkeys(listed(returning)) | dict(keys)
    if retrieve:
        _check_unique_keys(model, level, keys, template)
    elif level and (template is None or dict(model.levels)[level] not in template):
        named = {dict(model.levels)[level]: None} | named
    if level:
        named["QueryRetrieveLevel"] = level
    return codec.from_keywords({key: format_temporal(key, value) for key, value in named.items()}, template)


def _check_level(model: Model, level: str) -> str:
    upper = level.upper()
    names = [name for name, _ in model.levels]
    if upper not in names and (names or upper):
        levels = f"Levels: {', '.join(names)}." if names else "This model has none."
        raise InvalidArgument(f"information model {model.name} has no level {level!r}", hint=levels)
    return upper


def _check_unique_keys(model: Model, level: str, keys: Mapping[str, Any], template: Any) -> None:
    """A retrieve names what it wants at its level; levels above may be left out, as peers accept."""
    for name, key in model.levels:
        value = keys[key] if key in keys else None if template is None else template.get(key)
        if name == level and not value:
            raise InvalidArgument(f"a retrieve at level {level} needs {key}", hint=f"Give {key}=….")


# What each value representation calls its values, how one looks, and how people are told to write them.
_MOMENTS = {
    "DA": ("date", r"(\d{4})(\d\d)(\d\d)", "20260131, 20260101-20260131 or 20260101-"),
    "TM": (
        "time",
        r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.\d{1,6})?)?)?",
        "1430, 0800-1200 or 143000.5-",
    ),
    "DT": (
        "date with time",
        r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?",
        "202601311430, 202601-202603 or 20260101-",
    ),
}
_ISO = {
    "DA": r"\d{4}-\d\d-\d\d",
    "TM": r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?",
    "DT": r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([+-]\d\d:\d\d|Z)?)?",
}
_CLASSES = {"DA": "date", "TM": "time", "DT": "datetime"}  # of `datetime`
_FARTHEST_OFFSETS = -1200, 1400  # hours and minutes from UTC (PS3.5 Section 6.2, VR DT)


def format_temporal(keyword: str, value: Any) -> Any:
    """The value of a key as the standard writes it: dates, times and their ranges; everything else as it is.

    A date or time is a `datetime` object, DICOM's text or that of ISO 8601. A range is a pair, of which one may be
    None, or text with a hyphen (PS3.4 Section C.2.2.2.5). In the items of a sequence they are looked for, too.

    Raises:
        InvalidArgument: there is no such attribute, or it has dates or times and this is none.
    """
    if value is None or value == "":
        return value
    vr = codec.vr_of(keyword)
    if vr in _MOMENTS and value == "*":
        return None  # any, as people write it; these have no wild cards
    if vr == "SQ" and isinstance(value, list | tuple):
        return [
            {key: format_temporal(key, inner) for key, inner in item.items()} if isinstance(item, Mapping) else item
            for item in value
        ]
    if vr not in _MOMENTS:
        return _plain_moments(value)
    if isinstance(value, tuple):
        if len(value) != 2:
            raise _no_moment(keyword, vr, value)
        return _range(keyword, vr, *value)
    return _one_moment(keyword, vr, value)


def _plain_moments(value: Any) -> Any:
    """A date where the dictionary wants none: as text, which its value representation may take."""
    for kind, vr in ((datetime.datetime, "DT"), (datetime.date, "DA"), (datetime.time, "TM")):
        if isinstance(value, kind):
            return _written(vr, value)
    return value


def _range(keyword: str, vr: str, first: Any, last: Any) -> str | None:
    begin, end = ("" if part in (None, "") else _bound(keyword, vr, part) for part in (first, last))
    if begin and end and vr != "TM" and len(begin) == len(end) and begin > end:  # a day's times may go past midnight
        raise InvalidArgument(f"{keyword} ({vr}): the range {begin}-{end} ends before it begins")
    return f"{begin}-{end}" if begin or end else None


def _one_moment(keyword: str, vr: str, value: Any) -> str | None:
    """A single value, or a range in text."""
    single = _single(vr, value)
    if single is not None or not isinstance(value, str):
        return single if single is not None else _bound(keyword, vr, value)
    text = value.strip()
    for hyphen in (place for place, mark in enumerate(text) if mark == "-"):
        ends = text[:hyphen].strip(), text[hyphen + 1 :].strip()
        if any(ends) and all(not end or _single(vr, end) for end in ends):
            return _range(keyword, vr, *ends)
    raise _no_moment(keyword, vr, value)


def _bound(keyword: str, vr: str, value: Any) -> str:
    single = _single(vr, value)
    if single is None:
        raise _no_moment(keyword, vr, value)
    return single


def _single(vr: str, value: Any) -> str | None:
    """One date or time as DICOM writes it; None where it is none."""
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(_ISO[vr], text):
            try:
                return _written(vr, getattr(datetime, _CLASSES[vr]).fromisoformat(text))
            except ValueError:
                return None
        match = re.fullmatch(_MOMENTS[vr][1], text)
        return text if match and _exists(vr, [part for part in match.groups() if part]) else None
    kind = datetime.time if vr == "TM" else datetime.date
    return _written(vr, value) if isinstance(value, kind) else None


def _exists(vr: str, parts: list[str]) -> bool:
    """Whether the numbers make a date or a time; those that are left out do not matter."""
    offset = int(parts.pop()) if vr != "TM" and parts[-1][0] in "+-" else 0
    if not _FARTHEST_OFFSETS[0] <= offset <= _FARTHEST_OFFSETS[1]:
        return False
    numbers = [int(part) for part in parts]
    day, clock = ([], numbers) if vr == "TM" else (numbers[:3], numbers[3:])
    year, month, date = (*day, *(2000, 1, 1)[len(day) :])
    hour, minute, second = (*clock, *(0, 0, 0)[len(clock) :])
    try:
        datetime.datetime(year, month, date, hour, minute, second - (second == 60))  # 60 is a leap second
    except ValueError:
        return False
    return True


def _written(vr: str, value: Any) -> str:
    if vr == "DA":
        return f"{value:%Y%m%d}"
    if vr == "TM":
        return f"{value:%H%M%S}" + (f".{value.microsecond:06}" if value.microsecond else "")
    if not isinstance(value, datetime.datetime):
        return f"{value:%Y%m%d}"
    return f"{value:%Y%m%d%H%M%S}" + (f".{value.microsecond:06}" if value.microsecond else "") + f"{value:%z}"


def _no_moment(keyword: str, vr: str, value: Any) -> InvalidArgument:
    what, _, how = _MOMENTS[vr]
    return InvalidArgument(f"{keyword} ({vr}): {value!r} is no {what}, nor a range", hint=f"Write it like {how}.")
