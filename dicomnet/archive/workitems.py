"""Unified procedure steps over DIMSE: push, pull, watch, event and query (PS3.4 Annex CC).

They are the work items of UPS-RS: the same rows, the same locks, the same subscriptions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

from .. import uids
from ..errors import InvalidArgument, escaped
from ..log import log
from ..repository.attributes import Attributes
from ..repository.catalog import VR_OF
from ..repository.dicom_json import DicomJson, attributes_of_json, text_at
from ..repository.keys import Identifier, InvalidKey, KeyValue
from ..repository.responses import ItemAnswering
from ..repository.workitem_rules import STATE, TRANSACTION, WorkitemRefused
from ..repository.workitems import FILTERED
from ..services.provider_requests import FindRequest, NormalizedRequest
from ..services.service_registry import Registering
from ..status import Status
from .dicom_json import dataset_of_json, json_of_dataset
from .holdings import Holdings
from .workitem_reporter import WorkitemReporter

__all__ = ["WorkitemService"]

SERVICE = "Unified Procedure Step"
_PUSH, _PULL = uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_PULL
_WATCH, _QUERY = uids.UNIFIED_PROCEDURE_STEP_WATCH, uids.UNIFIED_PROCEDURE_STEP_QUERY
_CHANGE_STATE, _REQUEST_CANCEL, _SUBSCRIBE, _UNSUBSCRIBE, _SUSPEND = 1, 2, 3, 4, 5
#: Which SOP class has to be negotiated for which action (PS3.4 Tables CC.2-1 to CC.2-3).
_NEGOTIATED = {
    _CHANGE_STATE: (_PULL,),
    _REQUEST_CANCEL: (_PUSH, _WATCH),
    _SUBSCRIBE: (_WATCH,),
    _UNSUBSCRIBE: (_WATCH,),
    _SUSPEND: (_WATCH,),
}
_RECEIVER, _LOCK, _REASONS = 0x00741234, 0x00741230, frozenset({"00741238", "0074100E", "0074100A", "0074100C"})
_NOT_SUPPORTED = 0x0001  # requested optional attributes are not supported (PS3.4 Table CC.2.7-1)
_IN_UTF8: DicomJson = {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
#: The most matches that a query is answered with.
MOST_MATCHES = 10_000


class WorkitemService:
    """Work items, for those who make, perform and watch them.

    Args:
        holdings: where they are.
        reporter: tells subscribers; who has no address is not subscribed by way of DIMSE.
    """

    def __init__(self, holdings: Holdings, reporter: WorkitemReporter) -> None:
        self._items, self._reporter = holdings.workitems, reporter
        self._holdings = holdings

    def register(self, services: Registering, owner: str) -> None:
        """Offer UPS Push, Pull, Watch and Query; UPS Event goes out to subscribers."""
        services.on_n_create(_PUSH, owner=owner)(self.create)
        services.on_n_get(_PUSH, _PULL, _WATCH, owner=owner)(self.get)
        services.on_n_set(_PUSH, _PULL, owner=owner)(self.change)
        services.on_n_action(_PUSH, _PULL, _WATCH, owner=owner)(self.act)
        services.on_find(_PULL, _WATCH, _QUERY, owner=owner)(self.find)

    # ---- N-CREATE, N-SET and N-GET -----------------------------------------------------------------------------

    def create(self, request: NormalizedRequest) -> Status:
        """N-CREATE: a new item, SCHEDULED."""
        uid = request.sop_instance_uid
        if not uids.is_valid(uid):
            return Status(Status.INVALID_SOP_INSTANCE, SERVICE, "no SOP Instance UID")
        if request.sop_class_uid != _PUSH:
            return Status(Status.CLASS_INSTANCE_CONFLICT, SERVICE, "work items are instances of UPS Push")
        return self._tried(request, lambda: self._items.create(json_of_dataset(request.dataset), uid))

    def change(self, request: NormalizedRequest) -> Status:
        """N-SET: attributes of an item, by its performer or while it is SCHEDULED."""
        if request.context.abstract_syntax != _PULL:
            return _not_negotiated(Status.UNRECOGNIZED_OPERATION, "N-SET", (_PULL,))
        uid = request.sop_instance_uid
        return self._tried(request, lambda: self._items.change(uid, json_of_dataset(request.dataset)))

    def get(self, request: NormalizedRequest) -> Status | tuple[Status, Any]:
        """N-GET: an item, or the attributes of it that were asked for; never its Transaction UID."""
        try:
            item = _IN_UTF8 | self._items.get(request.sop_instance_uid)
        except WorkitemRefused as error:
            return _refused(request, error)
        wanted = [f"{tag:08X}" for tag in request.attribute_identifier_list]
        told = {tag: item[tag] for tag in wanted if tag in item} if wanted else item
        missing = len(told) != len(wanted) if wanted else False
        return Status(_NOT_SUPPORTED, SERVICE) if missing else Status.SUCCESS, dataset_of_json(told)

    # ---- N-ACTION ----------------------------------------------------------------------------------------------

    def act(self, request: NormalizedRequest) -> Status:
        """N-ACTION: change the state, request a cancel, subscribe, unsubscribe, suspend."""
        action = request.action_type_id or 0
        allowed = _NEGOTIATED.get(action)
        if allowed is None:
            return Status(Status.NO_SUCH_ACTION_TYPE, SERVICE, f"there is no action {action}")
        if request.context.abstract_syntax not in allowed:
            return _not_negotiated(Status.NO_SUCH_ACTION_TYPE, f"action {action}", allowed)
        perform = {
            _CHANGE_STATE: self._change_state,
            _REQUEST_CANCEL: self._request_cancel,
            _SUBSCRIBE: self._subscribe,
            _UNSUBSCRIBE: self._unsubscribe,
            _SUSPEND: self._suspend,
        }[action]

        def work() -> int | None:
            given = json_of_dataset(request.dataset) if request.size else {}
            return perform(request, request.sop_instance_uid, given)

        return self._tried(request, work)

    def _change_state(self, request: NormalizedRequest, uid: str, given: DicomJson) -> int:
        return self._items.change_state(uid, text_at(given, STATE), text_at(given, TRANSACTION))

    def _request_cancel(self, request: NormalizedRequest, uid: str, given: DicomJson) -> None:
        why = {tag: one for tag, one in given.items() if tag in _REASONS}
        self._items.request_cancel(uid, why, request.calling)

    def _subscribe(self, request: NormalizedRequest, uid: str, given: DicomJson) -> int:
        receiver, lock = _receiver(given), text_at(given, _LOCK)
        if not self._reporter.knows(receiver):
            raise WorkitemRefused(0xC308, tag=_RECEIVER)
        if lock not in ("TRUE", "FALSE"):
            raise WorkitemRefused(0x0115, "Deletion Lock is TRUE or FALSE", _LOCK)
        if uid != FILTERED:
            return self._items.subscribe(receiver, uid, locked=lock == "TRUE")
        keys = _keys_of(attributes_of_json(given))
        if not keys:
            raise WorkitemRefused(0x0115, "a filtered subscription has matching keys")
        identifier, text = Identifier.of(keys), json.dumps(keys)
        return self._items.subscribe(receiver, uid, locked=lock == "TRUE", keys=identifier, text=text)

    def _unsubscribe(self, request: NormalizedRequest, uid: str, given: DicomJson) -> None:
        self._items.unsubscribe(_receiver(given), uid)

    def _suspend(self, request: NormalizedRequest, uid: str, given: DicomJson) -> None:
        self._items.suspend(_receiver(given), uid)

    # ---- C-FIND ------------------------------------------------------------------------------------------------

    def find(self, request: FindRequest) -> Generator[tuple[Status, bytes], None, Status] | Status:
        """C-FIND: the items that match, one by one."""
        syntax = request.transfer_syntax_uid
        try:
            identifier = Identifier.decode(request.data, syntax, character_set=self._holdings.settings.character_set)
        except InvalidKey as error:
            log.info("a query of work items by %s is refused: %s", request.calling, error.message)
            status = Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
            return Status(status, SERVICE, error.message, (error.tag,))
        unsupported = any(key.criterion is not None and key.tag not in VR_OF for key in identifier.keys)
        pending = Status.PENDING_WARNING if unsupported else Status.PENDING
        return self._found(identifier, ItemAnswering(identifier, syntax), pending)

    def _found(
        self, identifier: Identifier, answering: ItemAnswering, pending: Status
    ) -> Generator[tuple[Status, bytes], None, Status]:
        matches: Iterator[DicomJson] = self._items.find(identifier)
        for count, item in enumerate(matches):
            if count == MOST_MATCHES:
                return Status(Status.OUT_OF_RESOURCES, SERVICE, f"more than {MOST_MATCHES} matches")
            yield pending, answering.encode(attributes_of_json(item))
        return Status.SUCCESS

    def _tried(self, request: NormalizedRequest, work: Callable[[], int | None]) -> Status:
        """Do it; why it cannot be done, or the warning with which it was."""
        try:
            code = work() or 0
        except WorkitemRefused as error:
            return _refused(request, error)
        except InvalidArgument as error:  # a value that is none of its value representation
            return _refused(request, WorkitemRefused(0x0106, error.message))
        log.info("%s of the work item %s by %s", request.operation.name, request.sop_instance_uid, request.calling)
        return Status(code, SERVICE) if code else Status.SUCCESS


def _refused(request: NormalizedRequest, error: WorkitemRefused) -> Status:
    who, uid, what = request.calling, escaped(request.sop_instance_uid), request.operation.name
    log.info("%s of the work item %s by %s is refused: %04X %s", what, uid, who, error.code, error.message)
    return Status(error.code, SERVICE, error.message, (error.tag,) if error.tag else ())


def _receiver(given: DicomJson) -> str:
    title = text_at(given, _RECEIVER)
    if not title:
        raise WorkitemRefused(0x0115, "there is no Receiving AE", _RECEIVER)
    return title


def _not_negotiated(code: Status, what: str, classes: tuple[str, ...]) -> Status:
    return Status(code, SERVICE, f"{what} goes by {' or '.join(map(uids.name_of, classes))}"[:64])


def _keys_of(attributes: Attributes) -> dict[str, KeyValue]:
    """Matching keys, by tag: all that has a value but who is told, and how (PS3.4 Section CC.2.3.3.1)."""
    keys: dict[str, KeyValue] = {}
    for tag, value in attributes.items():
        if isinstance(value, str):
            keys[tag] = value
        elif value:
            keys[tag] = _keys_of(value[0])
    return {tag: value for tag, value in keys.items() if int(tag, 16) not in (_RECEIVER, _LOCK)}
