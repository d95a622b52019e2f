"""Failed logins: whoever guesses passcodes is put off, and nobody else."""

from __future__ import annotations

import logging
import socket
from typing import Any

import faces
import pytest

from dicomnet._pdu import AssociateAC, AssociateRJ, AssociateRQ, UserIdentityRQ
from dicomnet.config import Limits, Timeouts
from dicomnet.protocol.negotiation import AcceptancePolicy
from dicomnet.services.scp import Logins

LIMITS, TIMEOUTS = Limits(failed_logins=3, failing_hosts=5), Timeouts(login=60)
FOR_NOW, FOR_GOOD = AssociateRJ(2, 3, 2), AssociateRJ(1, 2, 1)


def test_so_many_fail_and_the_next_is_not_looked_at() -> None:
    logins = Logins(LIMITS, TIMEOUTS)
    assert [logins.may_try("a", now) for now in (0.0, 10.0, 20.0, 30.0, 59.9)] == [True, True, True, False, False]
    assert logins.may_try("b", 59.9)
    assert [logins.may_try("a", now) for now in (60.0, 60.0, 60.0, 60.0)] == [True, True, True, False]


def test_what_succeeds_does_not_count() -> None:
    logins = Logins(LIMITS, TIMEOUTS)
    for _ in range(10):
        assert logins.may_try("a", 0.0)
        logins.succeeded("a")
    assert [logins.may_try("a", 0.0) for _ in range(4)] == [True, True, True, False]
    logins.succeeded("nobody")


def test_many_at_once_are_many() -> None:
    logins = Logins(LIMITS, TIMEOUTS)
    assert sum(logins.may_try("a", 0.0) for _ in range(100)) == 3


def test_the_table_of_hosts_is_bounded() -> None:
    logins = Logins(LIMITS, TIMEOUTS)
    for number in range(1000):
        assert logins.may_try(f"host {number}", float(number) / 1000)
    assert list(logins._tries) == [f"host {number}" for number in range(995, 1000)]


def test_the_limit_can_be_lifted() -> None:
    logins = Logins(LIMITS, Timeouts(login=None))
    assert all(logins.may_try("a", 0.0) for _ in range(100))
    assert not logins._tries


def test_whoever_is_put_off_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    logins = Logins(LIMITS, TIMEOUTS)
    with caplog.at_level(logging.INFO, "dicomnet"):
        for _ in range(10):
            logins.may_try("192.0.2.1", 0.0)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "192.0.2.1" in record.getMessage()


# ---- at a listener ---------------------------------------------------------------------------------------------------


def login(port: int, passcode: bytes | None, source: str = "127.0.0.1") -> Any:
    """The answer to a user's request."""
    identity = () if passcode is None else (UserIdentityRQ(2, b"jane", passcode, False),)
    rq = faces.RawUser.REQUEST
    request = AssociateRQ(
        rq.called_ae_title, rq.calling_ae_title, rq.presentation_contexts, rq.user_information + identity
    )
    with socket.create_connection(("127.0.0.1", port), faces.PATIENCE, (source, 0)) as sock:
        raw = faces.RawUser(sock)
        raw.send(request)
        return raw.read()


@pytest.mark.parametrize("face", faces.FACES)
def test_a_host_that_guesses_is_put_off(face: str) -> None:
    asked: list[str] = []

    def identify(identity: Any, caller: Any) -> bool:
        asked.append(identity.passcode)
        if identity.passcode == "crash":
            raise ValueError
        return bool(identity.passcode == "right")

    policy = AcceptancePolicy(identify=identify)
    with faces.provider(face, acceptance=policy, limits=LIMITS, timeouts=Timeouts(login=3600)) as provider:
        for _ in range(5):
            assert isinstance(login(provider.port, b"right"), AssociateAC)
        answers = [login(provider.port, passcode) for passcode in (b"a", b"crash", b"b", b"c", b"right")]
        assert answers == [FOR_GOOD, FOR_GOOD, FOR_GOOD, FOR_NOW, FOR_NOW]
        assert asked == [*["right"] * 5, "a", "crash", "b"]
        assert isinstance(login(provider.port, None), AssociateAC), "who does not say who they are does not guess"
        assert isinstance(login(provider.port, b"right", "127.0.0.2"), AssociateAC)
        provider.listener.clock = lambda: 1e12
        assert isinstance(login(provider.port, b"right"), AssociateAC)
