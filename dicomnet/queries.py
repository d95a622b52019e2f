"""Queries: the information models, their levels and unique keys, and identifiers made from keywords (PS3.4 Annex C, K).

What does not fit is refused before anything is sent: a keyword that is none, a value that its value representation
cannot have, a level that the model does not have, a retrieve without its unique keys.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from . import datasets, uids
from .errors import InvalidArgument
from .values import Value

__all__ = ["MODELS", "Model", "identifier", "model_of", "model_uid"]


class Model(Value):
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
    named = dict.fromkeys(returning) | dict(keys)
    if retrieve:
        _check_unique_keys(model, level, keys, template)
    elif level:
        named = {dict(model.levels)[level]: None} | named
    if level:
        named["QueryRetrieveLevel"] = level
    return datasets.from_keywords({key: _text(value) for key, value in named.items()}, template)


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


def _text(value: Any) -> Any:
    """Dates and times as DICOM writes them; ranges as pairs; everything else as it is."""
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y%m%d%H%M%S")
    if isinstance(value, datetime.date):
        return value.strftime("%Y%m%d")
    if isinstance(value, datetime.time):
        return value.strftime("%H%M%S")
    if isinstance(value, tuple) and len(value) == 2 and all(_is_moment(part) for part in value):
        return "-".join("" if part is None else _text(part) for part in value)
    return value


def _is_moment(value: Any) -> bool:
    return value is None or isinstance(value, datetime.date | datetime.time)
