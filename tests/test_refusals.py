"""Every refusal leaves a trace: what the provider logs and its user sees, as docs/how-to/refusals.md has it by row."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faces
import pytest
from certificates import Authority
from faces import CT
from pydicom import examples

import dicomnet as dn
from dicomnet import uids
from dicomnet.errors import DicomNetError

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "refusals.md"
ROWS = [
    tuple(cell.strip().strip("`") for cell in line.strip("| \n").split(" | "))
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and line.count(" | ") == 2 and not line.startswith("| what")
]
FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
CT_FILE = str(examples.get_path("ct"))


class Scene:
    """A provider of one face, and what its user is told."""

    def __init__(self, face: str, papers: Authority) -> None:
        self.face = face
        self.papers = papers
        self.told = ""

    def provider(
        self, configure: Callable[[Any], object] | None = None, title: str | None = None, **options: Any
    ) -> Any:
        return faces.provider(self.face, configure, title, **options)

    def connect(self, peer: str, **options: Any) -> Any:
        """An association; where there is none, what the user is told."""
        options.setdefault("contexts", dn.contexts.verification())
        try:
            return dn.connect(peer, **options)
        except DicomNetError as error:
            self.told = str(error)
            return None

    def tls(self, **options: Any) -> dn.TLS:
        issued = self.papers.issue("listener")
        return dn.TLS(ca=self.papers.file, cert=issued.cert, key=issued.key, **options)


def refused(policy: dict[str, Any], *, title: str | None = None, called: str = "ARCHIVE", **options: Any) -> Any:
    """A scene in which a policy lets a caller not in."""

    def play(scene: Scene) -> None:
        with scene.provider(title=title, acceptance=dn.AcceptancePolicy(**policy)) as serving:
            assert scene.connect(serving.peer(called), calling="WS1", **options) is None

    return play


def too_many(scene: Scene) -> None:
    with scene.provider(limits=dn.Limits(associations=1)) as serving:
        first = scene.connect(serving.peer())
        assert scene.connect(serving.peer(), calling="WS1") is None
        first.release()


def too_many_of_a_title(scene: Scene) -> None:
    with scene.provider(acceptance=dn.AcceptancePolicy(associations_per_title=1)) as serving:
        first = scene.connect(serving.peer(), calling="WS1")
        assert scene.connect(serving.peer(), calling="WS1") is None
        first.release()


def no_certificate(scene: Scene) -> None:
    rules = dn.AcceptancePolicy(certificates={"WS1": {"ws1.local"}})
    with scene.provider(acceptance=rules, tls=scene.tls(client_certificate="optional")) as serving:
        peer = f"dicoms://X@localhost:{serving.port}"
        assert scene.connect(peer, calling="WS1", tls=dn.TLS(ca=scene.papers.file)) is None


def another_application(scene: Scene) -> None:
    with scene.provider() as serving, serving.raw() as raw:
        request = faces.RawUser.REQUEST.encode().replace(uids.APPLICATION_CONTEXT.encode(), b"1.2.840.10008.3.1.1.2")
        raw.send(request)
        answer = raw.read()
        scene.told = str(dn.AssociationRejected(answer.result, answer.source, answer.reason))


def unknown_class(scene: Scene) -> None:
    with scene.provider() as serving:
        scene.connect(serving.peer(), calling="WS1", contexts=dn.contexts.storage(["1.3.12.2.1107.5.9.1"]))


def no_syntax(scene: Scene) -> None:
    def configure(listener: Any) -> None:
        listener.on_store(transfer_syntaxes=[uids.EXPLICIT_VR_LITTLE_ENDIAN])(lambda _: None)

    with scene.provider(configure) as serving:
        scene.connect(serving.peer(), calling="WS1", contexts=dn.contexts.storage([CT], [uids.JPEG2000]))


def another_class(scene: Scene) -> None:
    with scene.provider() as serving, serving.raw() as raw:
        raw.associate()
        wrong = faces.store_request(b"\x08\0\x16\0UI\0\0").replace(CT.encode(), uids.MR_IMAGE_STORAGE.encode())
        raw.send(wrong)
        scene.told = str(dn.Status(raw.read_command().status, service="C-STORE"))


def no_handler(scene: Scene) -> None:
    def configure(listener: Any) -> None:
        listener.on_n_get(CT)(lambda _: None)

    with scene.provider(configure) as serving:
        association = scene.connect(serving.peer(), calling="WS1", contexts=dn.contexts.storage([CT]))
        result = association.store(CT_FILE)
        scene.told = str(result.status)
        association.release()


def too_large(scene: Scene) -> None:
    with scene.provider(limits=dn.Limits(message=1000)) as serving:
        association = scene.connect(serving.peer(), calling="WS1", contexts=dn.contexts.for_files([CT_FILE]))
        scene.told = str(association.store(CT_FILE).status)
        association.release()


def plain_to_tls(scene: Scene) -> None:
    with scene.provider(tls=scene.tls()) as serving:
        scene.connect(serving.peer())


def no_authority(scene: Scene) -> None:
    with scene.provider(tls=scene.tls()) as serving:
        other = Authority(scene.papers.directory, "another")
        issued = other.issue("user")
        trusted = dn.TLS(ca=scene.papers.file, cert=issued.cert, key=issued.key)
        association = scene.connect(f"dicoms://X@localhost:{serving.port}", tls=trusted)
        assert association is None


PLAYS: dict[str, Callable[[Scene], None]] = {
    "the called AE title is another": refused({}, title="OURS"),
    "the calling AE title is not listed": refused({"calling_ae_titles": frozenset({"CT1"})}),
    "the application context is not DICOM's": another_application,
    "there are too many associations": too_many,
    "there are too many of this AE title": too_many_of_a_title,
    "the AE title needs a certificate": no_certificate,
    "the user is not named": refused({"identity_required": True}),
    "the user is not let in": refused(
        {"identify": lambda _, __: False}, extras=dn.NegotiationOptions(identity=dn.UserIdentity.named("jane", "x"))
    ),
    "no handler for the SOP class": unknown_class,
    "none of the transfer syntaxes": no_syntax,
    "the instance is of another SOP class than its context": another_class,
    "no handler for the message": no_handler,
    "the data set is too large": too_large,
    "no TLS on a TLS port": plain_to_tls,
    "the certificate is of an unknown authority": no_authority,
}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("papers"), "authority")


def pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace("…", ".*"), re.DOTALL)


def test_the_page_has_a_row_for_each_scene() -> None:
    assert [row[0] for row in ROWS] == list(PLAYS)


@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize(("what", "logged", "told"), ROWS, ids=[row[0] for row in ROWS])
def test_n20_a_refusal_is_logged_and_told(
    papers: Authority, face: str, what: str, logged: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dicomnet")
    scene = Scene(face, papers)
    PLAYS[what](scene)
    lines = [f"{record.levelname}: {record.getMessage()}" for record in caplog.records]
    assert any(pattern(logged).fullmatch(line) for line in lines), lines
    assert pattern(told).fullmatch(scene.told), scene.told
