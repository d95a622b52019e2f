"""The header by which a proxy says for whom a connection is, as listeners of both faces hear it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from faces import RawUser, provider
from rig import until

from dicomnet._pdu import AssociateAC
from dicomnet.errors import ConnectionFailed, InvalidArgument
from dicomnet.net.proxy import Header, Proxies

V1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 104\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
FOR_192_0_2_7 = b"\x21\x11\0\x0c\xc0\0\2\7\x0a\0\0\1\x9c\x40\0\x68"


class TestListeners:
    @pytest.mark.parametrize("face", ["sync", "aio"])
    @pytest.mark.parametrize("header", [V1, V2 + FOR_192_0_2_7])
    @pytest.mark.parametrize("cut", [0, 7, 20])
    def test_a_trusted_proxy_says_for_whom_it_speaks(self, face, cut, header):
        seen: list[str] = []

        def configure(listener):
            listener.on_echo(lambda request: seen.append(request.address))

        with provider(face, configure, proxies=["127.0.0.0/8"]) as scp, scp.raw() as raw:
            raw.send(header[:cut])
            raw.send(header[cut:], RawUser.REQUEST)
            assert isinstance(raw.read(), AssociateAC)
            assert raw.echo().status == 0
        assert seen == ["192.0.2.7:40000"]

    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_others_are_not_believed(self, face):
        with provider(face, proxies=["192.0.2.0/24"]) as scp, scp.raw() as raw:
            raw.send(V1, RawUser.REQUEST)
            assert not isinstance(raw.read(), AssociateAC)

    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_a_trusted_proxy_has_to_say_it(self, face, caplog):
        caplog.set_level(logging.INFO, "dicomnet")
        with provider(face, proxies=["127.0.0.1"]) as scp, scp.raw() as raw:
            raw.send(RawUser.REQUEST)
            assert raw.read() is None
            until(lambda: "begins with no PROXY header" in caplog.text)

    @pytest.mark.parametrize("face", ["sync", "aio"])
    @pytest.mark.parametrize("header", [V1, V2 + FOR_192_0_2_7])
    def test_a_proxy_that_goes_within_its_header_is_let_go(self, face, header):
        asked: list[Any] = []
        with provider(face, lambda listener: listener.on_echo(asked.append), proxies=["127.0.0.1"]) as scp:
            with scp.raw() as raw:
                raw.send(header[:-1])
            with scp.raw() as raw:
                raw.send(header, RawUser.REQUEST)
                assert isinstance(raw.read(), AssociateAC)
                assert raw.echo().status == 0
            until(lambda: scp.listener.counters["open"] == 0)
        assert [request.address for request in asked] == ["192.0.2.7:40000"]


class TestHeader:
    @pytest.mark.parametrize(
        ("header", "address"),
        [
            (V1, "192.0.2.7:40000"),
            (b"PROXY TCP6 2001:db8::7 ::1 40000 104\r\n", "[2001:db8::7]:40000"),
            (b"PROXY UNKNOWN\r\n", ""),
            (V2 + FOR_192_0_2_7, "192.0.2.7:40000"),
            (V2 + b"\x21\x11\0\x0f\xc0\0\2\7\x0a\0\0\1\x9c\x40\0\x68\4\0\0", "192.0.2.7:40000"),
            (V2 + b"\x21\x21\0\x24" + b"\x20\1\x0d\xb8" + bytes(11) + b"\7" + bytes(16) + b"\x9c\x40\0\x68",
             "[2001:db8::7]:40000"),
            (V2 + b"\x20\0\0\0", ""),
        ],
    )  # fmt: skip
    def test_is_read_however_it_is_cut(self, header, address):
        for cut in range(1, len(header)):
            reader = Header()
            assert reader.feed(header[:cut]) is None
            assert reader.feed(header[cut:] + b"rest") == b"rest"
            assert reader.address == address

    @pytest.mark.parametrize(
        "junk",
        [
            b"\x01\0\0\0\0\0", b"PROXY TCP4 x y 1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 a 2\r\n", b"PROXY " + b"x" * 200,
            b"PROXY TCP4 1.2.3.4\r\n", V2 + b"\x11\x11\0\x0c", V2 + b"\x21\x11\xff\xff", V2 + b"\x21\x11\0\x02xx",
        ],
    )  # fmt: skip
    def test_anything_else_is_none(self, junk):
        with pytest.raises(ConnectionFailed):
            Header().feed(junk)

    def test_what_is_no_network_is_told(self):
        with pytest.raises(InvalidArgument, match="proxies"):
            Proxies(["10.0.0"])

    def test_none_is_looked_for_where_there_is_no_address(self):
        """As of a peer on a Unix socket."""
        assert Proxies(["0.0.0.0/0"]).header_from("") is None
        assert Proxies(["0.0.0.0/0"]).header_from("192.0.2.7:104") is not None
