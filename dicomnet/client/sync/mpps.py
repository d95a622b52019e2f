# Generated from dicomnet/client/aio/mpps.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""`MppsScu`: tells a peer of performed procedure steps (PS3.4 Section F.7.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from ... import uids
from ...config import Entity
from ...dataset import codec
from ...errors import InvalidArgument
from ...protocol.peer_profile import Peer
from ...services import presentation_contexts, query_models
from .. import events
from ..matches import WorklistItem
from ..options import ClientOptions
from ..procedure_step import ProcedureStep, StepState, beginning, change, ending
from .client import Client
from .service import Service

__all__ = ["MppsScu"]


class MppsScu(Service):
    """Tells a peer what a modality does: a step begins, changes, and is completed or discontinued.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
        station: Performed Station AE Title; by default the client's own title.
    """

    def __init__(
        self, client: Client | str | Entity | Peer, *, station: str = "", **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__(client, **options)
        self.station: str = station or self.client.calling

    def begin(self, /, item: WorklistItem | None = None, *, uid: str = "", **attributes: Any) -> ProcedureStep:
        """N-CREATE: a step is in progress. What the standard wants present is there, if need be without a value.

        Args:
            item: of the worklist that it performs; its patient and request are taken over.
            uid: of the step; a new one by default.
            attributes: by keyword; ``Modality`` and Performed Procedure Step ID are needed where no item says them.

        Raises:
            InvalidArgument: an attribute is missing, or has a value that it cannot have; nothing was sent.
            ServiceFailure: the peer refuses.
        """
        step = ProcedureStep(uid or uids.new())
        self._send("n_create", step, beginning(item, self.station, attributes))
        return step

    def update(self, step: ProcedureStep, /, **attributes: Any) -> None:
        """N-SET: something of a step has changed.

        Raises:
            LocalProtocolError: the step has ended; nothing was sent. So with `complete` and `discontinue`.
            InvalidArgument: an attribute that only the beginning of a step may set.
        """
        if "PerformedProcedureStepStatus" in attributes:
            raise InvalidArgument("a step ends by complete or discontinue, not by its status")
        self._set(step, attributes, StepState.IN_PROGRESS)

    def complete(self, step: ProcedureStep, /, series: Iterable[Mapping[str, Any]] = (), **attributes: Any) -> None:
        """N-SET: a step is completed, now unless the attributes say when.

        Args:
            step: in progress.
            series: what was made, as items of Performed Series Sequence: ``SeriesInstanceUID``, ``ProtocolName`` and
                what else there is to say. May be left out where an update has said so before.
            attributes: by keyword.
        """
        self._end(step, series, attributes, StepState.COMPLETED)

    def discontinue(
        self,
        step: ProcedureStep,
        /,
        series: Iterable[Mapping[str, Any]] = (),
        *,
        reason: tuple[str, str, str] | None = None,
        **attributes: Any,
    ) -> None:
        """N-SET: a step has ended before its end; see `complete`.

        Args:
            step: in progress.
            series: what was made nevertheless.
            reason: code value, coding scheme designator and meaning (PS3.16 CID 9300), as
                ``("110514", "DCM", "Incorrect worklist entry selected")``.
            attributes: by keyword.
        """
        if reason is not None:
            names = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
            code = dict(zip(names, reason, strict=True))
            attributes = {"PerformedProcedureStepDiscontinuationReasonCodeSequence": [code]} | attributes
        self._end(step, series, attributes, StepState.DISCONTINUED)

    def _end(
        self, step: ProcedureStep, series: Iterable[Mapping[str, Any]], attributes: dict[str, Any], state: StepState
    ) -> None:
        self._set(step, ending(series) | attributes, state)

    def _set(self, step: ProcedureStep, attributes: dict[str, Any], state: StepState) -> None:
        self._send("n_set", step, change(step, attributes, state, self.peer))
        step.state = state

    def _send(self, service: str, step: ProcedureStep, attributes: dict[str, Any]) -> None:
        dataset = codec.from_keywords(
            {key: query_models.format_temporal(key, value) for key, value in attributes.items()}
        )
        event = events.BeforeAction(
            self.peer,
            service=service,
            sop_class_uid=uids.MODALITY_PERFORMED_PROCEDURE_STEP,
            sop_instance_uid=step.uid,
            arguments=[dataset],
        )
        self.hooks.announce(event)
        with self.client.association(presentation_contexts.procedure_step()) as association:
            self.hooks.act(event, association)
        step.attributes |= attributes
