"""Remote archives as the workstation asks them: over DIMSE by AE title, over DICOMweb by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from .. import uids
from ..client import Client, Query, QueryRetrieveScu
from ..client.sync.web import WebClient
from ..client.web_peer import WebPeer
from ..config import STRAGGLER_GRACE
from ..errors import DicomNetError, InvalidArgument, ServiceFailure
from ..log import in_brief, log
from ..protocol.negotiation import MAX_CONTEXTS, ProposedContext
from ..repository.dicom_json import text_at
from ..services import presentation_contexts, query_models
from ..services.scp import Provider
from ..services.scu import RetrieveProgress

__all__ = ["MOST_MATCHES", "DimseRemote", "Fetching", "Remote", "Remotes", "Stopped", "Wanted", "level_of"]

#: The most matches of a query that are given back.
MOST_MATCHES = 1000
#: Instances that are asked for by name in one request, where a part of a series is there already.
_AT_ONCE = 200
#: Seconds that a peer gets to heed a cancellation before the association is aborted: some never do.
CANCEL_PATIENCE = 2.0
_COMPRESSED = (
    uids.JPEG_BASELINE_8_BIT, uids.JPEG_EXTENDED_12_BIT, uids.JPEG_LOSSLESS_SV1, uids.JPEG_LOSSLESS,
    uids.JPEG_LS_LOSSLESS, uids.JPEG_LS_NEAR_LOSSLESS, uids.JPEG2000_LOSSLESS, uids.JPEG2000, uids.RLE_LOSSLESS,
)  # fmt: skip
_LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")


class Stopped(DicomNetError):
    """What is under way was cancelled here."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance that a remote archive has."""

    series: str
    uid: str
    sop_class: str = ""


class Fetching:
    """A retrieve or a send that is under way, as seen from both of its ends: who does it, and who may cancel it.

    Args:
        arrived: called with how many instances have come since the last call.
    """

    def __init__(self, arrived: Callable[[int], object] = lambda count: None) -> None:
        self.arrived = arrived
        self.stopped: bool = False
        self._lock = threading.Lock()
        self._ask: Callable[[], object] | None = None
        self._force: Callable[[], object] | None = None
        self._timer: threading.Timer | None = None

    def cancel(self, *, now: bool = False) -> None:
        """End it: the peer is asked to, and after `CANCEL_PATIENCE`, or at once, the association is aborted."""
        with self._lock:
            self.stopped = True
            if self._ask is None or self._force is None:
                return
            with suppress(DicomNetError):  # it has just ended by itself
                (self._force if now else self._ask)()
            if not now and self._timer is None:
                self._timer = threading.Timer(CANCEL_PATIENCE, self._force)
                self._timer.daemon = True
                self._timer.start()

    def begin(self, ask: Callable[[], object], force: Callable[[], object]) -> None:
        """Something begins that can be ended so."""
        with self._lock:
            self._ask, self._force = ask, force
        self.check()  # a cancel that comes from now on calls these

    @contextmanager
    def ended_by(self, ask: Callable[[], object], force: Callable[[], object]) -> Iterator[None]:
        """What runs in the block can be ended so."""
        self.begin(ask, force)
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """It has ended."""
        with self._lock:
            self._ask = self._force = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def check(self) -> None:
        """Raise what ends the job, if it was cancelled.

        Raises:
            Stopped: it was.
        """
        if self.stopped:
            raise Stopped("cancelled")


class Remote(Protocol):
    """A remote archive."""

    def query(self, level: str, keys: Mapping[str, str], most: int) -> list[dict[str, Any]]:
        """What matches, in DICOM JSON (PS3.18 Annex F)."""

    def instances(self, study: str, series: Sequence[str], fetching: Fetching) -> list[Wanted]:
        """The instances of a study, or of some of its series."""

    def fetch(self, study: str, wanted: Sequence[Wanted], by: str, *, whole: bool, fetching: Fetching) -> None:
        """Have instances of one series sent here; ``whole`` says that they are all that it has."""


class DimseRemote:
    """An archive over DIMSE.

    Args:
        client: of it; its owner closes it.
        title: our own AE title, to which a C-MOVE sends.
        take: offers storage on the association of a C-GET; the function is told of each instance.
        count: how many of these instances are here.
    """

    def __init__(
        self,
        client: Client,
        title: str,
        take: Callable[[Provider, Callable[[int], object]], object],
        count: Callable[[Sequence[str]], int],
    ) -> None:
        self._client, self._title, self._take, self._count = client, title, take, count

    def query(self, level: str, keys: Mapping[str, str], most: int) -> list[dict[str, Any]]:
        """See `Remote.query`."""
        model = "PATIENT_ROOT" if level == "PATIENT" else "STUDY_ROOT"
        with closing(QueryRetrieveScu(self._client).find(Query(level, model=model, **keys).usual())) as found:
            return [dict(one.dataset.to_json_dict()) for one in islice(found, most)]

    def instances(self, study: str, series: Sequence[str], fetching: Fetching) -> list[Wanted]:
        """See `Remote.instances`."""
        scu, wanted = QueryRetrieveScu(self._client), list[Wanted]()
        fetching.begin(scu.cancel, scu.cancel)
        try:
            for uid in series or [one.uid for one in scu.series(study)]:
                for one in scu.instances(uid, StudyInstanceUID=study):
                    fetching.check()
                    wanted.append(Wanted(uid, one.uid, str(one.dataset.get("SOPClassUID", "") or "")))
        finally:
            fetching.end()
        fetching.check()
        return wanted

    def fetch(self, study: str, wanted: Sequence[Wanted], by: str, *, whole: bool, fetching: Fetching) -> None:
        """See `Remote.fetch`: by C-GET, and what does not come so by C-MOVE to ourselves, or as ``by`` says."""
        ways = (by,) if by else ("get", "move")
        for number, way in enumerate(ways, 1):
            try:
                for level, keys in _requests(study, wanted, whole=whole):
                    fetching.check()
                    self._ask(way, level, keys, wanted, fetching)
            except DicomNetError as error:
                if fetching.stopped or number == len(ways):
                    raise
                log.warning("%s: C-%s failed, C-%s is tried: %s", self._client.peer, way.upper(),
                            ways[number].upper(), in_brief(error))  # fmt: skip
            if self._count([one.uid for one in wanted]) == len(wanted):
                return

    def _ask(self, way: str, level: str, keys: Mapping[str, Any], wanted: Sequence[Wanted], fetching: Fetching) -> None:
        model = query_models.model_uid("STUDY_ROOT", "get" if way == "get" else "move")
        classes = sorted({one.sop_class for one in wanted if one.sop_class})
        contexts = _bringing(model, classes) if way == "get" else presentation_contexts.sop_classes(model)
        with self._client.association(contexts) as association:
            fetching.begin(association.cancel, association.interrupt)
            try:
                if way == "get":
                    provider = Provider(limits=self._client.limits, timeouts=self._client.timeouts)
                    self._take(provider, fetching.arrived)
                    outcome = association.get(level, to=provider, **keys)
                else:
                    outcome = self._moved(association, level, keys, wanted, fetching)
            finally:
                fetching.end()
        fetching.check()
        if not (outcome.status.is_success or outcome.status.is_warning):
            raise ServiceFailure(outcome.status, f"{self._client.peer}: {outcome.status}", peer=self._client.peer)

    def _moved(
        self, association: Any, level: str, keys: Mapping[str, Any], wanted: Sequence[Wanted], fetching: Fetching
    ) -> RetrieveProgress:
        named = [one.uid for one in wanted]
        before = here = self._count(named)

        def told(step: RetrieveProgress) -> None:
            nonlocal here
            now = max(here, before + step.completed + step.warning)
            here, more = now, now - here
            fetching.arrived(more)

        outcome: RetrieveProgress = association.move(level, destination=self._title, progress=told, **keys)
        self._wait_for_stragglers(named, before + outcome.completed + outcome.warning)
        return outcome

    def _wait_for_stragglers(self, named: Sequence[str], promised: int) -> None:
        """Some peers send after the final response: wait until all is here, or for so long nothing comes."""
        here, pause = -1, threading.Event()
        while (now := self._count(named)) < min(promised, len(named)) and now > here:
            here = now
            pause.wait(STRAGGLER_GRACE)


class WebRemote:
    """An archive over DICOMweb.

    Args:
        peer: where it is.
        bring: stores a Part 10 file that has come.
    """

    def __init__(self, peer: WebPeer, bring: Callable[[Path], object]) -> None:
        self._peer, self._bring = peer, bring

    def query(self, level: str, keys: Mapping[str, str], most: int) -> list[dict[str, Any]]:
        """See `Remote.query`."""
        above = {name: keys[name] for name in ("StudyInstanceUID", "SeriesInstanceUID") if keys.get(name)}
        study, series = above.get("StudyInstanceUID", ""), above.get("SeriesInstanceUID", "")
        if level == "STUDY":
            study = series = ""
        elif level == "SERIES":
            series = ""
        rest = {name: one for name, one in keys.items() if one and one not in (study, series)}
        with WebClient(self._peer) as client:
            return list(client.search(level, rest, study=study, series=series if study else "", limit=most))

    def instances(self, study: str, series: Sequence[str], fetching: Fetching) -> list[Wanted]:
        """See `Remote.instances`."""
        wanted = list[Wanted]()
        with WebClient(self._peer) as client, fetching.ended_by(client.interrupt, client.interrupt):
            chosen = series or [text_at(one, 0x0020000E) for one in client.search("SERIES", study=study)]
            for uid in chosen:
                for one in client.search("IMAGE", study=study, series=uid):
                    fetching.check()
                    wanted.append(Wanted(uid, text_at(one, 0x00080018), text_at(one, 0x00080016)))
        return wanted

    def fetch(self, study: str, wanted: Sequence[Wanted], by: str, *, whole: bool, fetching: Fetching) -> None:
        """See `Remote.fetch`: by WADO-RS, as each instance is stored there."""
        series = wanted[0].series
        with (
            WebClient(self._peer) as client,
            fetching.ended_by(client.interrupt, client.interrupt),
            TemporaryDirectory(prefix="dicomnet-") as folder,
        ):
            for instance in [""] if whole else [one.uid for one in wanted]:
                with closing(client.save(folder, study, series, instance)) as files:
                    for path in files:
                        self._bring(Path(path))
                        Path(path).unlink()
                        fetching.arrived(1)
                        fetching.check()


class Remotes:
    """The remote archives that the workstation may ask, by name.

    Args:
        web: addresses of DICOMweb by name.
        dimse: makes a `Remote` of an AE title.
        bring: stores a Part 10 file that has come.
    """

    def __init__(self, web: Mapping[str, str], dimse: Callable[[str], Remote], bring: Callable[[Path], object]) -> None:
        self.web: Mapping[str, WebPeer] = {name: WebPeer.of(one) for name, one in web.items()}
        self._dimse, self._bring = dimse, bring

    def of(self, peer: str) -> Remote:
        """The archive of a name.

        Raises:
            InvalidArgument: none is known by it.
        """
        return WebRemote(self.web[peer], self._bring) if peer in self.web else self._dimse(peer)


def level_of(text: str) -> str:
    """A Query/Retrieve Level, however it is spelt.

    Raises:
        InvalidArgument: it is none.
    """
    level = {"INSTANCE": "IMAGE"}.get(text.upper(), text.upper())
    if level not in _LEVELS:
        raise InvalidArgument(f'"{text[:32]}" is no level', hint=f"Levels are {', '.join(_LEVELS)}.")
    return level


def _requests(study: str, wanted: Sequence[Wanted], *, whole: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The identifiers that ask for instances of a series: all of it, or those that are not here by their UIDs."""
    above = {"StudyInstanceUID": study, "SeriesInstanceUID": wanted[0].series}
    if whole:
        yield "SERIES", above
        return
    for start in range(0, len(wanted), _AT_ONCE):
        yield "IMAGE", {**above, "SOPInstanceUID": [one.uid for one in wanted[start : start + _AT_ONCE]]}


def _bringing(model: str, classes: Sequence[str]) -> list[ProposedContext]:
    """Contexts in which instances of these classes come: uncompressed, and compressed as they may be stored."""
    if not classes:
        return presentation_contexts.retrieving(model)
    syntaxes = [presentation_contexts.UNCOMPRESSED, *((one,) for one in _COMPRESSED)]
    brought = [ProposedContext(one, tuple(some), scu=False, scp=True) for some in syntaxes for one in classes]
    return presentation_contexts.sop_classes(model) + brought[: MAX_CONTEXTS - 1]
