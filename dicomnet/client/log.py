"""The message log: every PDU and message of any number of associations, both ways, a line of JSON each.

People read the ``text`` of a line, or what ``dicomnet dump`` makes of the file; programs read the rest. Patient data
are left out unless they are asked for: of data sets only codes, numbers and UIDs are shown, of which none is in a
patient's group; of commands no free text. What proves a user's identity is never written.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from datetime import UTC, datetime
from json import dumps
from typing import Any, TextIO

from .._pdu import PDataTF, decode
from ..config import LOGGED_DATA_SET, TAPPED_BODY
from ..dataset import codec
from ..dataset.codec import UndecodableDataSet
from ..dataset.vr import BINARY
from ..errors import MalformedPDU, cannot_write
from ..protocol.messages import name_of
from ..protocol.negotiation import PresentationContext
from ..protocol.seen import MessageSeen, PDUSeen, Seen, TransitionSeen, Watched
from ..protocol.states import State
from ..protocol.trace import PDU_NAMES, Fields, ProtocolTrace, command_fields, value_fields
from ..status import Status
from ..uids import name_of as name_of_uid

__all__ = ["MessageLog", "redacted_elements", "text_of"]

_VERSION = 1
_TYPE_NAMES = {1: "A-ASSOCIATE-RQ", 2: "A-ASSOCIATE-AC", 3: "A-ASSOCIATE-RJ", 5: "A-RELEASE-RQ", 6: "A-RELEASE-RP"}
_P_DATA_TF, _ABORT = 4, 7
_NO_DATA_SET = 0x0101
_PATIENT_GROUP = 0x0010
# Codes, numbers, titles and UIDs; never names, texts, dates, or what is unknown.
_HARMLESS_VRS = frozenset({"AE", "AT", "CS", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UI", "UL", "US", "UV"})
_FREE_TEXT = "error_comment"
_REDACTED = "(redacted)"


class MessageLog(ProtocolTrace):
    """Writes what a connection is given as its ``tap``; one log does for any number of them, in any threads.

    As a context manager it is closed at the end of the block. The file is appended to; only its owner may read it.

    A program that logs an association with much traffic pays for a line per PDU in its thread.

    Args:
        path: the file.
        datasets: also the data sets of messages, up to `config.LOGGED_DATA_SET` bytes each.
        patient_data: redact nothing but what proves a user's identity.

    Raises:
        OutputFileError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, datasets: bool = False, patient_data: bool = False) -> None:
        super().__init__(self._seen, body=None if datasets else TAPPED_BODY, data=datasets)
        self._patient_data = patient_data
        self._lock = threading.Lock()
        self._data: dict[int, _DataSets] = {}
        try:
            self._file: TextIO = open(path, "a", encoding="utf-8", opener=_for_owner)  # noqa: SIM115 - see `close`
            self._write({"log": "dicomnet", "version": _VERSION, "datasets": datasets, "patient_data": patient_data})
            self._file.flush()
        except OSError as error:
            raise cannot_write(error, path) from error

    def close(self) -> None:
        """Write no more; what is still seen is dropped."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> MessageLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, fields: Fields) -> None:
        self._file.write(dumps(fields, ensure_ascii=False) + "\n")

    def _seen(self, seen: Seen) -> None:
        """Write what was seen: called in the thread of the association."""
        with self._lock:
            if self._file.closed:
                return
            if isinstance(seen, PDUSeen):
                self._pdu(seen)
            elif isinstance(seen, MessageSeen):
                self._message(seen)
            elif seen.after == State.STA1_IDLE:
                self._end(seen)

    def _pdu(self, seen: PDUSeen) -> None:
        fields = _pdu_fields(seen)
        self._line(seen, "pdu", fields.pop("text"), length=seen.length, **fields)
        if self.data and seen.type == _P_DATA_TF:
            collected = self._data.setdefault(seen.association.number, _DataSets())
            for message in collected.add(seen):
                self._data_set(seen, message)

    def _message(self, seen: MessageSeen) -> None:
        fields = command_fields(seen.command)
        if not self._patient_data and fields.get(_FREE_TEXT):
            fields[_FREE_TEXT] = _REDACTED
        fields |= {"message_id": seen.message_id, "context": seen.context and seen.context.id, "size": seen.size}
        self._line(seen, "message", _message_text(seen), **fields)
        if self.data and seen.command.command_data_set_type != _NO_DATA_SET:
            collected = self._data.setdefault(seen.association.number, _DataSets())
            if seen.sent:
                collected.announced.append(seen)
            elif collected.arrived:
                self._data_set(seen, _Whole(seen, collected.arrived.popleft()))
        self._file.flush()

    def _data_set(self, seen: PDUSeen | MessageSeen, whole: _Whole) -> None:
        message, data = whole.message, whole.data
        text = f"{_arrow(message.sent)} data set of {message.name} {message.message_id}"
        fields: Fields = {"message": message.name, "message_id": message.message_id}
        if data is None:
            fields["unshown"] = f"longer than {LOGGED_DATA_SET} bytes"
        else:
            fields |= _data_set_fields(data, message.context, self._patient_data)
        self._line(seen, "data set", f"{text}: {_summary(fields)}", **fields)

    def _end(self, seen: TransitionSeen) -> None:
        self._data.pop(seen.association.number, None)
        self._line(seen, "end", "the association is over", before=seen.before.name)
        self._file.flush()

    def _line(self, seen: Seen, kind: str, text: str, **fields: Any) -> None:
        association: Watched = seen.association
        known = {
            "time": datetime.fromtimestamp(seen.time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "association": association.number,
            "peer": association.peer,
            "kind": kind,
        }
        if not isinstance(seen, TransitionSeen):
            known["sent"] = seen.sent
        self._write(known | {"text": text} | fields)


def text_of(seen: Seen) -> str:
    """What was seen, in a line for people; never a value of a data set, nor what proves a user's identity."""
    if isinstance(seen, PDUSeen):
        return str(_pdu_fields(seen)["text"])
    if isinstance(seen, MessageSeen):
        return _message_text(seen)
    return f"{seen.event.name}: {seen.before.name} to {seen.after.name}"


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _arrow(sent: bool) -> str:
    return "->" if sent else "<-"


# ---- PDUs ------------------------------------------------------------------------------------------------------------


def _pdu_fields(seen: PDUSeen) -> Fields:
    """What a PDU says; what is no PDU, or kept in part only, is said to be so."""
    arrow = _arrow(seen.sent)
    if seen.type == _P_DATA_TF:
        pdvs = [part[0] for part in _fragments(seen)]
        parts = ", ".join(f"{pdv['kind']} {pdv['size']}{' (last)' if pdv['last'] else ''}" for pdv in pdvs)
        return {"text": f"{arrow} P-DATA-TF, {seen.length} bytes: {parts}", "pdu": PDU_NAMES[PDataTF], "pdvs": pdvs}
    try:
        pdu = decode(seen.header + seen.body) if seen.whole else None
    except MalformedPDU as error:
        name = _TYPE_NAMES.get(seen.type, f"type {seen.type:02X}H")
        return {"text": f"{arrow} malformed {name}: {error.message}", "pdu": name, "malformed": error.message}
    if pdu is None:
        name = "A-ABORT" if seen.type == _ABORT else _TYPE_NAMES.get(seen.type, f"type {seen.type:02X}H")
        return {"text": f"{arrow} {name}, {seen.length} bytes, of which {len(seen.body)} are known", "pdu": name}
    name = PDU_NAMES[type(pdu)]
    fields = value_fields(pdu)
    said = fields.get("meaning") or _titles(fields)
    return {"text": f"{arrow} {name}{f': {said}' if said else ''}", "pdu": name} | fields


def _titles(fields: Fields) -> str:
    if "calling_ae_title" not in fields:
        return ""
    contexts = len(fields.get("presentation_contexts", ()))
    proposed = "1 context" if contexts == 1 else f"{contexts} contexts"
    return f"{fields['calling_ae_title']} calls {fields['called_ae_title']}, {proposed}"


def _fragments(seen: PDUSeen) -> list[tuple[Fields, bytes, bool]]:
    """The PDVs of a P-DATA-TF as far as the tap kept them: each with its bytes, and whether those are all."""
    found, view, place = [], seen.body, 0
    while place + 6 <= len(view):
        size = max(int.from_bytes(view[place : place + 4]) - 2, 0)
        context, control = view[place + 4], view[place + 5]
        kind = "command" if control & 1 else "data set"
        place += 6
        data = view[place : place + size] if seen.whole or kind == "command" else b""
        place += len(data)
        fields = {"context": context, "kind": kind, "last": bool(control & 2), "size": size}
        found.append((fields, data, len(data) == size))
    return found


# ---- messages --------------------------------------------------------------------------------------------------------


def _message_text(seen: MessageSeen) -> str:
    command = seen.command
    about = command.affected_sop_class_uid or command.requested_sop_class_uid
    parts = [f"{_arrow(seen.sent)} {name_of(command)} {seen.message_id}"]
    if command.status is not None:
        parts.append(str(Status(command.status, name_of(command).removesuffix("-RSP"))))
    if about:
        parts.append(name_of_uid(about))
    if command.move_destination:
        parts.append(f"to {command.move_destination}")
    if seen.size:
        parts.append(f"{seen.size} bytes")
    return ", ".join(parts)


class _Whole:
    """A message and its data set; None where that was too long to be kept."""

    def __init__(self, message: MessageSeen, data: bytes | None) -> None:
        self.message = message
        self.data = data


class _DataSets:
    """Puts data sets together from the fragments that pass on one association.

    Attributes:
        announced: messages of ours whose data sets are still to go.
        arrived: data sets of the peer's whose message is still to be told.
    """

    def __init__(self) -> None:
        self.announced: deque[MessageSeen] = deque()
        self.arrived: deque[bytes | None] = deque(maxlen=1)
        self._parts: dict[bool, bytearray] = {True: bytearray(), False: bytearray()}
        self._too_long = {True: False, False: False}

    def add(self, seen: PDUSeen) -> list[_Whole]:
        """Take the fragments of a PDU; what that completes of ours."""
        completed = []
        for fields, data, whole in _fragments(seen):
            if fields["kind"] == "command":
                continue
            parts = self._parts[seen.sent]
            if not whole or len(parts) + len(data) > LOGGED_DATA_SET:
                self._too_long[seen.sent] = True
                parts.clear()
            elif not self._too_long[seen.sent]:
                parts += data
            if fields["last"]:
                completed += self._finish(seen.sent)
        return completed

    def _finish(self, sent: bool) -> list[_Whole]:
        data = None if self._too_long[sent] else bytes(self._parts[sent])
        self._parts[sent].clear()
        self._too_long[sent] = False
        if not sent:
            self.arrived.append(data)
            return []
        return [_Whole(self.announced.popleft(), data)] if self.announced else []


# ---- data sets -------------------------------------------------------------------------------------------------------


def _data_set_fields(data: bytes, context: PresentationContext | None, patient_data: bool) -> Fields:
    syntax = "" if context is None else context.transfer_syntax
    try:
        dataset = codec.decode(data, syntax)
        return {"elements": redacted_elements(dataset, patient_data)}
    except UndecodableDataSet as error:
        return {"malformed": error.message if patient_data else f"no data set in {name_of_uid(syntax)}"}


def _summary(fields: Fields) -> str:
    if "elements" not in fields:
        return str(fields.get("unshown") or fields["malformed"])
    shown = [f"{one['keyword']}={one['value']}" for one in fields["elements"] if one.get("value")]
    return ", ".join(shown) or f"{len(fields['elements'])} elements"


def redacted_elements(dataset: Any, patient_data: bool = False) -> list[Fields]:
    """The elements of a data set as plain values.

    Args:
        dataset: a pydicom Dataset.
        patient_data: redact nothing.
    """
    return [_element(dataset, tag, patient_data) for tag in sorted(dataset.keys())]


def _element(dataset: Any, tag: Any, patient_data: bool) -> Fields:
    try:
        element = dataset[tag]
        vr, value = str(element.VR), element.value
    except Exception:  # a value that pydicom cannot make anything of
        return {"tag": f"({tag.group:04X},{tag.element:04X})", "vr": "", "keyword": "", "value": "(unreadable)"}
    fields: Fields = {
        "tag": f"({tag.group:04X},{tag.element:04X})",
        "vr": vr,
        "keyword": element.keyword or ("private" if tag.is_private else "unknown"),
    }
    shown = patient_data or (vr in _HARMLESS_VRS and tag.group != _PATIENT_GROUP and not tag.is_private)
    if vr == "SQ" and (patient_data or not tag.is_private):
        return fields | {"items": [redacted_elements(item, patient_data) for item in value or ()]}
    if value is None or value == "" or (hasattr(value, "__len__") and not len(value)):
        return fields | {"value": ""}
    if vr in BINARY:
        return fields | {"value": f"({len(value)} bytes)"}
    return fields | {"value": _plain(value) if shown else _REDACTED}


def _plain(value: Any) -> str:
    return "\\".join(map(str, value)) if hasattr(value, "append") else str(value)
