"""The attributes of all instances of a series in one packed blob: what QIDO-RS and WADO-RS ask for by the thousand.

The blob is a gzip stream of the DICOM JSON array, so that it can be sent as it is. It is made when it is first wanted
or at a quiet time, and is out of date when its series has changed since.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Callable

from sqlalchemy import Connection, and_, select

from ..dataset.vr import BINARY
from . import schema
from .attributes import text_of
from .catalog import VR_OF, Level
from .database import Database, insert_into
from .headers import Element, Item, read_elements
from .locations import InstanceLocation, locations
from .responses import Json, json_element
from .scope import ALL, Scope
from .scope_conditions import conditions_of
from .text import clean_uid, encodings_of

__all__ = ["SeriesMetadata", "metadata_of"]

INLINE = 1024  # bytes of a binary value that stands in the metadata itself
_LEVEL = 6  # of compression: a third smaller than the fastest, and still faster than reading the instances
_CHARACTER_SET, _AVAILABLE_SYNTAX = 0x00080005, 0x00083002
_PIXEL_DATA = 0x7FE00010
_ATTEMPTS = 5

#: Reads the beginning of an instance's data set, up to Pixel Data.
ReadHeader = Callable[[InstanceLocation], bytes]
#: Where a value that is too large can be had: SOP Instance UID and path of tags -> BulkDataURI.
BulkDataUri = Callable[[str, str], str]


def _relative_uri(uid: str, path: str) -> str:
    return f"../instances/{uid}/bulkdata/{path}"


class SeriesMetadata:
    """The packed metadata of series.

    Args:
        database: the index.
        read_header: the beginning of an instance's data set, up to Pixel Data.
        bulk_data_uri: where values over `INLINE` bytes can be had; relative to the series' metadata unless given.
    """

    def __init__(self, database: Database, read_header: ReadHeader, bulk_data_uri: BulkDataUri = _relative_uri) -> None:
        self._database = database
        self._read_header = read_header
        self._bulk_data_uri = bulk_data_uri

    def get(self, series_uid: str) -> bytes | None:
        """A gzip stream of the DICOM JSON array of the series' instances, by number; None where there is no series."""
        for _ in range(_ATTEMPTS):
            found = self._stored(series_uid)
            if found is None:
                return None
            series_id, version, data = found
            if data is not None:
                return data
            data = self._packed(series_uid)
            if self._database.transaction(lambda c: _keep(c, series_id, version, data)):  # noqa: B023 used at once
                return data
        return data  # the series grows as fast as it is read: this was it a moment ago

    def states(self, level: Level, uid: str, *, scope: Scope = ALL) -> list[tuple[str, str, str]]:
        """Study and series UID of a series, or of those of a study, each with a text that changes with its content.

        Args:
            level: SERIES or STUDY.
            uid: of the series or study.
            scope: what the caller may see; hidden series are left out.
        """
        one, study = schema.series.c, schema.study.c
        columns = select(study.uid, one.uid, one.id, one.version, study.seen_at)
        query = columns.join(schema.study, study.id == one.study_id)
        named = (study.uid if level is Level.STUDY else one.uid) == uid
        wanted = query.where(named, *conditions_of(scope, Level.SERIES)).order_by(one.id)
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [(row[0], row[1], f"{row[2]}:{row[3]}:{row[4]}") for row in rows]

    def _stored(self, series_uid: str) -> tuple[int, int, bytes | None] | None:
        one, kept = schema.series.c, schema.series_metadata.c
        current = and_(kept.series_id == one.id, kept.version == one.version)
        query = select(one.id, one.version, kept.data).outerjoin(schema.series_metadata, current)
        with self._database.read() as connection:
            row = connection.execute(query.where(one.uid == series_uid)).one_or_none()
        return None if row is None else (row.id, row.version, None if row.data is None else bytes(row.data))

    def _packed(self, series_uid: str) -> bytes:
        instances = [
            metadata_of(self._read_header(one), one.ts, one.uid, self._bulk_data_uri)
            for one in locations(self._database, Level.SERIES, [series_uid])
        ]
        text = json.dumps(instances, ensure_ascii=False, separators=(",", ":"))
        return gzip.compress(text.encode(), _LEVEL, mtime=0)


def _keep(connection: Connection, series_id: int, version: int, data: bytes) -> bool:
    """Keep a blob unless its series has changed; whether it is kept."""
    current = connection.execute(select(schema.series.c.version).where(schema.series.c.id == series_id)).scalar()
    if current != version:
        return False
    values = {"version": version, "data": data}
    table = schema.series_metadata
    statement = insert_into(connection, table).values(series_id=series_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["series_id"], set_=values))
    return True


def metadata_of(
    header: bytes, transfer_syntax: str, uid: str, bulk_data_uri: BulkDataUri = _relative_uri
) -> dict[str, Json]:
    """An instance's attributes in the DICOM JSON model (PS3.18 Annex F); Pixel Data are bulk data.

    Args:
        header: its data set, up to Pixel Data or whole.
        transfer_syntax: what it is encoded in.
        uid: SOP Instance UID.
        bulk_data_uri: where large values can be had.
    """
    item = read_elements(header, transfer_syntax)
    named = next((one.value for one in item if one.tag == _CHARACTER_SET and isinstance(one.value, bytes)), b"")
    encodings = encodings_of(clean_uid(named))
    found = _json_item(item, encodings, lambda path: bulk_data_uri(uid, path), "")
    found[f"{_CHARACTER_SET:08X}"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    # As in answers to searches (PS3.18 Table 10.6.3-5). Without it a viewer does not see that an instance is a video.
    found[f"{_AVAILABLE_SYNTAX:08X}"] = {"vr": "UI", "Value": [transfer_syntax]}
    if "00280010" in found:
        found[f"{_PIXEL_DATA:08X}"] = {"vr": "OW", "BulkDataURI": bulk_data_uri(uid, f"{_PIXEL_DATA:08X}")}
    return dict(sorted(found.items()))


def _json_item(item: Item, encodings: tuple[str, ...], uri: Callable[[str], str], path: str) -> dict[str, Json]:
    return {f"{one.tag:08X}": _json(one, encodings, uri, f"{path}{one.tag:08X}") for one in item if one.tag & 0xFFFF}


def _json(element: Element, encodings: tuple[str, ...], uri: Callable[[str], str], path: str) -> Json:
    value = element.value
    if isinstance(value, list):
        items: list[Json] = [_json_item(one, encodings, uri, f"{path}/{number}/") for number, one in enumerate(value)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    vr = element.vr if element.vr != "UN" else _vr_of(element.tag)
    if vr == "AT":
        tags: list[Json] = [f"{group:04X}{number:04X}" for group, number in struct.iter_unpack("<HH", _whole(value, 4))]
        return {"vr": vr, "Value": tags} if tags else {"vr": vr}
    if vr in BINARY:
        if not value:
            return {"vr": vr}
        if len(value) > INLINE:
            return {"vr": vr, "BulkDataURI": uri(path)}
        return {"vr": vr, "InlineBinary": base64.b64encode(value).decode()}
    return json_element(vr, text_of(vr, value, encodings))


def _whole(value: bytes, size: int) -> bytes:
    return value[: len(value) // size * size]


def _vr_of(tag: int) -> str:
    """The VR of an element that came without one; UN for what no dictionary has."""
    if tag in VR_OF or tag >> 16 & 1:
        return VR_OF.get(tag, "UN")
    from pydicom.datadict import dictionary_VR  # noqa: PLC0415 large, and for implicit VR alone

    try:
        return str(dictionary_VR(tag)).split(" ")[0]
    except KeyError:
        return "UN"
