# Generated from dicomnet/client/aio/media.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""`MediaCreationScu`: has a peer make media of instances that it holds (PS3.4 Annex S)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ... import uids
from ...dataset import codec
from ...errors import DeadlineExceeded, ServiceFailure
from ...services import presentation_contexts
from ...services.user import Reply
from ...status import Status
from .. import events
from ..media_request import MediaCreation, MediaRequest, creation_of
from .concurrency import now, wait
from .service import Service

__all__ = ["MediaCreationScu"]

_CLASS = uids.MEDIA_CREATION_MANAGEMENT
_SERVICE = "Media Creation Management"
_INITIATE, _CANCEL = 1, 2  # action types (PS3.4 Table S.3.2.2-1)
#: Seconds between two questions after a request: at first, and at last.
_SOON, _LATER = 0.05, 2.0


class MediaCreationScu(Service):
    """Has a peer make media: the instances are stored there before, by a `StoreScu`.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
    """

    def create(
        self, instances: Iterable[tuple[str, str]], *, request: MediaRequest | None = None, patience: float = 0.0
    ) -> MediaCreation:
        """Ask for media, and begin.

        Args:
            instances: pairs of SOP class and instance UID.
            request: how they are to be made.
            patience: seconds to wait for the end; 0 does not wait.

        Raises:
            InvalidArgument: there are no instances; nothing was sent.
            ServiceFailure: the peer refuses, or could not make the media.
            DeadlineExceeded: they are not made in time.
        """
        request = request or MediaRequest()
        values = codec.from_keywords(request.creation(instances))
        reply = self._send("n_create", uid := uids.new(), values)
        uid = reply.sop_instance_uid or uid
        self._send("n_action", uid, _INITIATE, codec.from_keywords(request.start()))
        return self.ended(uid, patience) if patience else MediaCreation(uid, "PENDING", "QUEUED")

    def state(self, uid: str) -> MediaCreation:
        """N-GET: how far a request is."""
        reply = self._send("n_get", uid)
        return creation_of(uid, reply.dataset or codec.from_keywords({}))

    def cancel(self, uid: str) -> None:
        """N-ACTION: make no media after all.

        Raises:
            ServiceFailure: they are made already, or are being made.
        """
        self._send("n_action", uid, _CANCEL)

    def ended(self, uid: str, patience: float) -> MediaCreation:
        """Ask after a request until it has ended.

        Raises:
            ServiceFailure: no media were made.
            DeadlineExceeded: it has not ended in so many seconds.
        """
        end, pause = now() + patience, _SOON
        while not (made := self.state(uid)).has_ended:
            if now() >= end:
                raise DeadlineExceeded("media creation", patience, peer=self.peer)
            wait(self.client.pool.closing, min(pause, max(end - now(), 0.01)))
            pause = min(pause * 2, _LATER)
        if made.status == "FAILURE":
            status = Status(Status.PROCESSING_FAILURE, service=_SERVICE, comment=made.info or None)
            what = f"no media were made: {made.info or 'no reason given'}"
            if made.failed:
                what += f", {len(made.failed)} instances such as {made.failed[0][0]}"
            raise ServiceFailure(status, what, peer=self.peer)
        return made

    def _send(self, service: str, uid: str, *arguments: Any) -> Reply:
        event = events.BeforeAction(
            self.peer, service=service, sop_class_uid=_CLASS, sop_instance_uid=uid, arguments=list(arguments)
        )
        self.hooks.announce(event)
        with self.client.association(presentation_contexts.sop_classes(_CLASS)) as association:
            try:
                reply: Reply = self.hooks.act(event, association)
            except ServiceFailure as error:
                status = error.status.of_service(_SERVICE)
                raise ServiceFailure(status, f"the peer says {status}", peer=error.peer) from error
        return reply
