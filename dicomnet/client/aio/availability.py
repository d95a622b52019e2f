"""`AvailabilityScu`: tells a peer which instances can be had where (PS3.4 Annex R)."""

from __future__ import annotations

from collections.abc import Iterable

from ... import uids
from ...dataset import codec
from ...services import presentation_contexts
from .. import events
from ..availability import AvailableInstance, notices
from .service import Service

__all__ = ["AvailabilityScu"]

_CLASS = uids.INSTANCE_AVAILABILITY_NOTIFICATION


class AvailabilityScu(Service):
    """Tells a peer, such as a RIS, which instances can be had, from where, and how soon.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
    """

    async def notify(
        self, instances: Iterable[AvailableInstance], *, steps: Iterable[tuple[str, str]] = ()
    ) -> list[str]:
        """N-CREATE: one note for each study.

        Args:
            instances: of any studies.
            steps: pairs of SOP class and instance UID of the performed procedure steps that made them.

        Returns:
            The UIDs of the notes, which the peer may forget at once.

        Raises:
            InvalidArgument: there is nothing to tell of; nothing was sent.
            ServiceFailure: the peer refuses a note; those before it are told.
        """
        told = []
        for attributes in notices(instances, steps=steps):
            event = events.BeforeAction(
                self.peer,
                service="n_create",
                sop_class_uid=_CLASS,
                sop_instance_uid=uids.new(),
                arguments=[codec.from_keywords(attributes)],
            )
            await self.hooks.announce(event)
            async with self.client.association(presentation_contexts.sop_classes(_CLASS)) as association:
                reply = await self.hooks.act(event, association)
            told.append(reply.sop_instance_uid or event.sop_instance_uid or "")
        return told
