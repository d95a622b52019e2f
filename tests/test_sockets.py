"""`net.sockets.listen`: what the name of a host becomes."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from dicomnet.errors import CannotListen
from dicomnet.net.sockets import listen


def test_a_name_of_both_is_the_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """As localhost is on most machines: who calls 127.0.0.1 is to be heard."""
    real = socket.getaddrinfo

    def both(host: str, *rest: Any, **options: Any) -> Any:
        if host != "localhost":
            return real(host, *rest, **options)
        return [*real("::1", *rest, **options), *real("127.0.0.1", *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with listen("localhost", 0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("name", ["a..b", "x" * 64])
def test_a_name_that_can_be_none_is_told_as_any_other_trouble(name: str) -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on .*: that is no name of a host"):
        listen(name, 0)
